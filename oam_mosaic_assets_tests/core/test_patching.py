"""Tiles put together from those of an earlier build and a drawing of the images that changed."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oam_mosaic_assets.core import audit, reexamination
from oam_mosaic_assets.core import patching as core_patching
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.patching import patched_tiles
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways import patching
from oam_mosaic_assets_tests.core.archives import assembled, in_leaves, pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, Scene, footprint, made_from
from oam_mosaic_assets_tests.core.test_reexamination import failures

PLANS = {"mosaic": TilingPlan(zoom_max=12, exact=11), "details": details_plan(11)}
KNOWN: tuple[dict[str, Any], ...] = (
    {"title": "A field", "license": "CC-BY-4.0", "gsd": 0.05, "file_size": 123_456_789_012},
    {"title": "Größe “日本”", "provider": "A field", "gsd": 0.05},
    {"title": "", "gsd": 0.0, "file_size": 0},
    {},
)
"""Properties that images share, that are equal to another's of another name, or that are missing."""


def crowd() -> list[Footprint]:
    """Images on top of each other, in the tiles of one place; more than one byte can number."""
    return [
        footprint(
            f"{number:03}",
            10.0 + number / 1000,
            10.0,
            10.3 + number / 1000,
            10.2,
            acquired_to=NOW - timedelta(hours=number),
            **KNOWN[number % len(KNOWN)],
        )
        for number in range(200)
    ]


@pytest.fixture(scope="module", params=PLANS)
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The crowd, drawn by one of the plans."""
    return made_from(crowd(), tmp_path_factory.mktemp("first") / "mosaic", plan=PLANS[request.param])


def is_as_from_scratch(scene: Scene, images: Iterable[Footprint], folder: Path) -> bool:
    anew = made_from(images, folder / "anew", plan=scene.plan)
    return scene.archive.read_bytes() == anew.archive.read_bytes()


@pytest.mark.parametrize("at", [0, 70], ids=["newest", "amid others"])
@pytest.mark.parametrize("what", ["gone", "moved", "of another date", "of another title", "added"])
def test_whatever_happens_to_an_image_the_others_stay(
    first: Scene, tmp_path: Path, at: int, what: str
) -> None:
    after = crowd()
    image = after[at]
    match what:
        case "gone":
            del after[at]
        case "moved":
            after[at] = replace(footprint(image.id, 10.1, 9.9, 10.2, 10.0), acquired_to=image.acquired_to)
        case "of another date":
            after[at] = replace(image, acquired_to=NOW - timedelta(hours=100, minutes=30))
        case "of another title":
            after[at] = replace(image, title="Another", gsd=7.25)
        case "added":
            after.insert(at, replace(image, id=f"{image.id} again", license="CC0-1.0"))
    then = made_from(after, tmp_path / "then", plan=first.plan, before=first.before)
    is_shown = what != "of another title" or "title" in first.plan.properties
    assert then.changed == int(is_shown)
    assert is_as_from_scratch(then, after, tmp_path)


def test_what_is_patched_again_and_again_stays_what_it_would_be(first: Scene, tmp_path: Path) -> None:
    images, last = crowd(), first
    for number in range(5):
        images = [*images[1:], replace(images[0], id=f"new {number}", title="New")]
        last = made_from(images, tmp_path / f"{number}", plan=first.plan, before=last.before)
        assert last.changed == 2
    assert is_as_from_scratch(last, images, tmp_path)


def test_the_last_image_of_a_tile_takes_the_tile_with_it(first: Scene, tmp_path: Path) -> None:
    images = [*crowd(), footprint("alone", 120.0, 10.0, 120.4, 10.3)]
    more = made_from(images, tmp_path / "more", plan=first.plan, before=first.before)
    then = made_from(crowd(), tmp_path / "then", plan=first.plan, before=more.before)
    assert more.changed == then.changed == 1
    assert more.archive.read_bytes() != then.archive.read_bytes() == first.archive.read_bytes()


def test_two_processes_make_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, after = TilingPlan(zoom_max=14), crowd()[1:]
    first = made_from(crowd(), tmp_path / "first", plan=plan)
    one = made_from(after, tmp_path / "one", plan=plan, before=first.before)
    started = []
    monkeypatch.setattr(patching, "WORTH_ASIDE", 0)
    monkeypatch.setattr(patching, "processors", lambda: 2)
    calling = patching.calling
    monkeypatch.setattr(patching, "calling", lambda *stated: started.append(stated) or calling(*stated))
    two = made_from(after, tmp_path / "two", plan=plan, before=first.before)
    assert len(started) == 1
    assert two.archive.read_bytes() == one.archive.read_bytes()
    assert not [*(tmp_path / "two").glob("**/*.patched")]


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip at all",
        gzip.compress(b"\xff\xff no tile"),
        gzip.compress(b""),
        gzip.compress(b"\x1a\x0a\x12\x06\x12\x02\x00\x09\x18\x03"),
    ],
    ids=["not inflated", "not a tile", "no layer", "a feature with a value that is not there"],
)
def test_a_broken_tile_of_the_previous_archive_is_named(tmp_path: Path, content: bytes) -> None:
    first = made_from(IMAGES, tmp_path / "first")
    broken = with_tiles(first, content, tmp_path / "broken.pmtiles")
    before = replace(first.before, archive=broken)
    with pytest.raises(TilingFailed, match=r"tile \d+/\d+/\d+ does not come apart") as failed:
        made_from(IMAGES[1:], tmp_path / "then", before=before)
    assert "oam-mosaic build --anew" in str(failed.value.hint)


def test_a_broken_directory_of_the_previous_archive_is_named_wherever_it_is(tmp_path: Path) -> None:
    first = made_from(IMAGES, tmp_path / "first")
    pieces = pieces_of(first.archive)
    root, leaves = in_leaves(pieces.entries, 10)
    for leaf in root:
        broken = leaves[: leaf.offset] + bytes(leaf.length) + leaves[leaf.offset + leaf.length :]
        archive = assembled(pieces, tmp_path / "broken.pmtiles", root=root, leaves=broken)
        with pytest.raises(TilingFailed, match="Tiles cannot be taken over") as failed:
            made_from(IMAGES[1:], tmp_path / f"{leaf.offset}", before=replace(first.before, archive=archive))
        assert "oam-mosaic build --anew" in str(failed.value.hint)


def test_memory_does_not_depend_on_how_many_tiles_are_put_together(first: Scene, tmp_path: Path) -> None:
    """200,000 tiles: the places of all of them, as Python numbers, would be 80 MB."""
    plan, tiles = replace(first.plan, zoom_max=11), 200_000
    spool = tmp_path / "content"
    with open_archive(first.archive) as archive, spool.open("w+b") as opened:
        source = Source.of_archive(archive)
        opened.write(source.content(int(source.entries.offset[-1]), int(source.entries.length[-1])))
        opened.flush()
        ids = first_tile_id(11) + 2 * np.arange(tiles)
        zeros = np.zeros(tiles, np.int64)
        length = zeros + int(source.entries.length[-1])
        place = Place(zoom_min=0, zoom_max=11, bounds=(-180.0, -85.0, 180.0, 85.0))
        many = Source(opened.fileno(), Directory(ids, zeros + 1, length, zeros))
        write_archive(tmp_path / "many.pmtiles", [many], place, archive.metadata)
    splice = Splice(changed=1, tiles=Stretches.of_zooms(11, 11), images=zeros[:0], gone=["000"])
    with open_archive(tmp_path / "many.pmtiles") as archive:
        tracemalloc.start()
        patched = patched_tiles(archive, [], splice, first.footprints, plan, range(11, 12), tmp_path)
        assert sum(1 for _ in islice(patched, 1000)) == 1000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 24 * 2**20


def with_tiles(scene: Scene, content: bytes, target: Path) -> Path:
    """The scene's archive, with this content for every tile."""
    spool = scene.folder / "content"
    spool.write_bytes(content)
    with open_archive(scene.archive) as archive, spool.open("rb") as opened:
        entries = Source.of_archive(archive).entries
        zeros = np.zeros(len(entries), np.int64)
        source = Source(opened.fileno(), replace(entries, length=zeros + len(content), offset=zeros))
        place = Place(zoom_min=0, zoom_max=10, bounds=(-180.0, -85.0, 180.0, 85.0))
        write_archive(target, [source], place, archive.metadata)
    return target


STACK = tuple(
    footprint(f"layer {number}", 11.4 + number / 100, 0.2, 11.8 + number / 100, 0.6) for number in range(6)
)
"""Images on top of each other, within one tile of z9: where one of them is missing, others are drawn."""

AFTER = (*STACK[:3], footprint(STACK[3].id, 11.45, 0.25, 11.85, 0.65), *STACK[4:], *PLAIN)
"""One of them has moved a little."""

AUDITED = {"mosaic": TilingPlan(zoom_max=10), "details": details_plan(10)}

content, in_order = core_patching._Patch.content, core_patching._Patch._in_order


def lose_one(patch: Any, kept: list[Any], fresh: list[Any]) -> list[Any]:
    """Lose an image that did not change."""
    return in_order(patch, [kept[0], *kept[2:]], fresh)


def swap_two(patch: Any, kept: list[Any], fresh: list[Any]) -> list[Any]:
    first, second, *others = in_order(patch, kept, fresh)
    return [second, first, *others]


def keep_what_is_stale(patch: Any, zoom: int, old: bytes, new: bytes) -> bytes:
    """Keep the image that moved where it was as well."""
    return content(replace(patch, gone=frozenset()), zoom, old, new)


@pytest.mark.parametrize("plan", AUDITED.values(), ids=AUDITED)
@pytest.mark.parametrize(
    ("method", "wrong"),
    [("_in_order", lose_one), ("_in_order", swap_two), ("content", keep_what_is_stale)],
    ids=["lost", "swapped", "stale"],
)
@pytest.mark.parametrize("at", [5, 8, 9])
def test_the_audit_finds_what_is_put_together_wrongly_at_one_zoom(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plan: TilingPlan,
    method: str,
    wrong: Callable[..., Any],
    at: int,
) -> None:
    def spoiled(patch: Any, zoom: int, old: bytes, new: bytes) -> bytes:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(core_patching._Patch, "content", content)
            if zoom == at:
                patched.setattr(core_patching._Patch, method, wrong)
            found: bytes = patch.content(zoom, old, new)
        return found

    start = made_from([*STACK, *PLAIN], tmp_path / "start", plan=plan)
    monkeypatch.setattr(core_patching._Patch, "content", spoiled)
    then = made_from(AFTER, tmp_path / "then", plan=plan, before=start.before)
    assert then.changed == 1
    assert failures(then, start.before)


def test_the_audit_finds_what_is_stale_where_no_outline_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = TilingPlan(zoom_max=14)
    start = made_from([*STACK, *PLAIN], tmp_path / "start", plan=plan)

    def spoiled(patch: Any, zoom: int, old: bytes, new: bytes) -> bytes:
        return (keep_what_is_stale if zoom == 13 else content)(patch, zoom, old, new)

    monkeypatch.setattr(core_patching._Patch, "content", spoiled)
    then = made_from(AFTER, tmp_path / "then", plan=plan, before=start.before)
    for module, name in (
        (reexamination, "OUTLINED"),
        (reexamination, "SAMPLED"),
        (audit, "COMPARED_OUTLINES"),
    ):
        monkeypatch.setattr(module, name, 0)
    assert "features draw" in failures(then, start.before)["archive_is_whole"]


@pytest.mark.parametrize("plan", AUDITED.values(), ids=AUDITED)
def test_the_audit_finds_nothing_where_all_is_put_together_rightly(tmp_path: Path, plan: TilingPlan) -> None:
    start = made_from([*STACK, *PLAIN], tmp_path / "start", plan=plan)
    then = made_from(AFTER, tmp_path / "then", plan=plan, before=start.before)
    assert then.changed == 1
    assert failures(then, start.before) == {}
