"""Images that no block shows yet: they are reported as waiting, drawn in grey, and cause no needless work."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.warp import transform

from oam_mosaic_assets.assets.global_imagery_pmtiles import _numbers
from oam_mosaic_assets.core.imagery.audit import _accounts, _surely_seen
from oam_mosaic_assets.core.imagery.blocks import BLOCK, WORLD
from oam_mosaic_assets.core.imagery.outcome import Reason
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe, block_key
from oam_mosaic_assets.core.imagery.state import Looked, Tally
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD
from oam_mosaic_assets.gateways.imagery.asking import GIVEN_UP
from oam_mosaic_assets.gateways.imagery.building import Building
from oam_mosaic_assets.gateways.imagery.cutting import InWork
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.source import FIRST
from oam_mosaic_assets_tests.gateways.imagery.bench import Bench, drone, give_files, partitions_of, plain
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost

NOTHING = Budget(bytes=0)


def go_down(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("503 Service Unavailable")


def lent(host: ScriptedHost, folder: Path, name: str, east: float, north: float = 5_230_000) -> Image:
    """A small image served by the scripted host."""
    of = utm(33, east, north, 3.0, (300, 250))
    write_image(folder / f"{name}.tif", of, Writing(bands=of.colours()))
    give_files(host, folder)
    return Image(id=name, footprint=of.footprint(), asset=host.address(f"{name}.tif"))


def middle(image: Image) -> np.ndarray:
    return np.array([image.footprint.centroid.coords[0]])


def holes(bench: Bench, tally: Tally, images: list[Image]) -> list[str]:
    """The images that are reported as not shown and lack a tile that the audit expects."""
    failed = {each.id for each in tally.skipped if each.reason != Reason.ELSEWHERE}
    there, unfinished = set(bench.tiles()), set(tally.unfinished)
    bare = {each.id: set(_surely_seen(each.footprint)) - there for each in images}
    return [
        name
        for name, tiles in bare.items()
        if (tiles and name in failed) or (tiles & unfinished and name in tally.waiting)
    ]


def test_an_image_whose_block_is_grey_again_waits(nginx: Nginx, tmp_path: Path) -> None:
    goes, stays = (drone(nginx, name, east, 5_232_000)[0] for name, east in (("a", 702_400), ("b", 703_600)))
    bench = Bench(tmp_path, nginx.host)
    bench.build([goes, stays])
    tally = bench.build([stays], budget=NOTHING)
    assert (tally.read, tally.waiting) == (0, [stays.id])
    assert bench.build([stays]).read == 1


def test_a_new_image_beside_one_whose_host_is_down_waits(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    old = lent(host, tmp_path, "old", 702_400, 5_232_000)
    new = drone(nginx, "new", 703_600, 5_232_000)[0]
    bench = Bench(tmp_path / "bench", nginx.host, host.host)
    bench.build([old])
    go_down(host)
    tally = bench.build([old, new])
    assert (tally.read, tally.waiting) == (1, [new.id])
    assert bench.seen_at(middle(old))[0, 3] == 255


@pytest.mark.parametrize("budget", [NOTHING, None], ids=["no budget", "a host that is down"])
def test_an_image_in_a_block_that_showed_nothing_is_grey(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, budget: Budget | None
) -> None:
    of = utm(33, 700_000, 5_230_000, 10.0, (1500, 300))
    bands = of.colours().copy()
    bands[:, :, 500:] = 0  # only its western part shows anything
    write_image(tmp_path / "wide.tif", of, Writing(bands=bands))
    wide = Image(id="wide", footprint=of.footprint(), asset=host.address("wide.tif"))
    give_files(host, tmp_path)
    new = Image(
        id="new",
        footprint=utm(33, 711_500, 5_229_000, 3.0, (300, 250)).footprint(),
        asset=nginx.address("not-there.tif"),
    )
    bench = Bench(tmp_path / "bench", nginx.host, host.host)
    bench.build([wide])
    assert bench.seen_at(middle(new))[0, 3] == 0
    if budget is None:
        go_down(host)
    tally = bench.build([wide, new], budget=budget)
    assert holes(bench, tally, [wide, new]) == []
    assert 0 < bench.seen_at(middle(new))[0, 3] < 255


def test_an_outline_like_a_comb_is_grey_within_a_workers_memory(tmp_path: Path) -> None:
    """It crosses each scan line a thousand times. What fails for it fails for all images of its block."""
    west, north = 2100 * BLOCK, 2040 * BLOCK
    tooth = west + 20 + np.arange(500) * 1.96
    teeth = shapely.box(tooth, north + 50, tooth + 0.98, north + 1000)
    whole = shapely.union_all([shapely.box(west + 20, north + 20, west + 1000, north + 100), *teeth])

    def degrees(pixels: np.ndarray) -> np.ndarray:
        x, y = (pixels * (2 * HALF_WORLD / WORLD) - HALF_WORLD).T
        return np.column_stack(transform("EPSG:3857", "EPSG:4326", x, -y))

    comb = Image(id="comb", footprint=shapely.transform(whole, degrees), asset=None)
    bench = Bench(tmp_path)
    tally = bench.build([comb])
    assert (tally.uncomposed, tally.made, tally.left) == ([], 1, 0)
    assert 0 < bench.seen_at(middle(comb))[0, 3] < 255


def test_another_kind_turns_what_could_not_be_read_grey_without_a_budget(
    nginx: Nginx, tmp_path: Path
) -> None:
    footprint = utm(33, 700_000, 5_230_000, 3.0, (300, 250)).footprint()
    image = Image(id="none", footprint=footprint, asset=nginx.address("none.tif"))
    bench = Bench(tmp_path, nginx.host)
    bench.recipe = Recipe(kind="imagery")
    bench.build([image])
    assert bench.tiles() == {}
    bench.recipe = Recipe(kind="hints")
    assert holes(bench, bench.build([image], budget=NOTHING), [image]) == []


def test_an_image_that_changed_is_shown_as_it_was_until_it_is_read_again(
    host: ScriptedHost, tmp_path: Path
) -> None:
    image = lent(host, tmp_path, "changing", 700_000)
    content = (tmp_path / "changing.tif").read_bytes()
    bench = Bench(tmp_path / "bench", host.host)
    bench.build([image])

    def look_only(request: Request) -> None:
        request.give(content, etag='"2"')
        budget.bytes = 0

    host.script = look_only
    bench.now += timedelta(days=8)
    budget = Budget(bytes=2**30)
    tally = bench.build([image], budget=budget)
    assert (tally.read, tally.waiting, tally.skipped) == (1, [], [])
    assert tally.left > 0
    assert bench.seen_at(middle(image))[0, 3] == 255
    assert bench.build([image]).read == 1


def test_a_look_at_an_unchanged_image_costs_a_few_bytes_and_opens_it_if_it_changed(
    host: ScriptedHost, tmp_path: Path
) -> None:
    image = lent(host, tmp_path, "weekly", 704_000)
    content = (tmp_path / "weekly.tif").read_bytes()
    bench = Bench(tmp_path / "bench", host.host)
    read = bench.build([image])
    bench.now += timedelta(days=8)
    tally = bench.build([image])
    assert (tally.requests, tally.bytes, tally.made, tally.read) == (1, 4, 0, 1)
    host.script = lambda request: request.give(content, etag='"another"')
    bench.now += timedelta(days=8)
    tally = bench.build([image])
    assert tally.bytes == 4 + FIRST + read.bytes, "it was opened, and then read"
    assert (tally.made, tally.read) == (read.made, 1)
    host.script = lambda request: request.give(b"<html>", etag='"a page"')
    bench.now += timedelta(days=8)
    assert [each.reason for each in bench.build([image]).skipped] == ["not_tiff"]


def test_an_image_that_is_back_as_it_was_is_read_again(host: ScriptedHost, tmp_path: Path) -> None:
    """Its block is up to date, but what was said in between is all that is known of it."""
    image = lent(host, tmp_path, "flips", 702_400, 5_232_000)
    bench = Bench(tmp_path / "bench", host.host)
    bench.build([image])
    host.script = lambda request: request.answer("404 Not Found")
    bench.now += timedelta(days=8)
    budget = Budget(bytes=2**30)
    asked = host.script

    def look_only(request: Request) -> None:
        asked(request)
        budget.bytes = 0

    host.script = look_only
    assert [each.reason for each in bench.build([image], budget=budget).skipped] == ["missing"]
    give_files(host, tmp_path)
    bench.now += timedelta(days=1)
    tally = bench.build([image])
    assert (tally.read, tally.waiting, tally.left) == (1, [], 0)


def test_an_image_that_shows_nothing_in_its_footprint_is_no_hole(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 702_400, 5_232_000, 3.0, (300, 250))
    write_image(nginx.root / "black.tif", of, Writing(bands=of.colours() * 0))
    image = Image(id="black", footprint=of.footprint(), asset=nginx.address("black.tif"))
    bench = Bench(tmp_path, nginx.host)
    tally = bench.build([image])
    assert [each.reason for each in tally.skipped] == ["elsewhere"]
    assert (tally.unfinished, holes(bench, tally, [image])) == ([], [])


def test_two_images_of_one_file_that_are_shown_differently_are_each_judged_on_their_own(
    nginx: Nginx, tmp_path: Path
) -> None:
    of = utm(33, 702_400, 5_235_000, 3.0, (300, 250))
    shown = plain(nginx, "shared", of, (200, 200, 200))
    blank = replace(shown, id="blank", render_params="nodata=200")
    bench = Bench(tmp_path, nginx.host)
    for _ in range(2):
        tally = bench.build([blank, shown])
        assert tally.shown == ["shared"]
        assert [(each.id, each.reason) for each in tally.skipped] == [("blank", "elsewhere")]
        bench.now += timedelta(days=8)
    assert tally.requests == 2, "one look for each"


def test_an_image_whose_first_block_is_blank_is_not_said_to_be_elsewhere(
    nginx: Nginx, tmp_path: Path
) -> None:
    of = utm(33, 650_000, 5_500_000, 12.0, (1200, 1200))
    bands = of.colours().copy()
    bands[:, :600] = 0  # its blocks are made from the north
    write_image(nginx.root / "half.tif", of, Writing(bands=bands))
    image = Image(id="half", footprint=of.footprint(), asset=nginx.address("half.tif"))
    bench = Bench(tmp_path, nginx.host, workers=1)
    tally = bench.build([image], budget=Budget(bytes=1))
    assert (tally.made, tally.waiting, tally.skipped) == (1, ["half"], [])
    assert tally.left > 0
    assert holes(bench, tally, [image]) == []
    assert bench.build([image]).read == 1


def is_accounted_for(tally: Tally) -> bool:
    return _accounts(_numbers(Tally.total([tally]))).passed


def test_an_image_waits_if_another_one_failed_after_their_block_was_made(
    nginx: Nginx, tmp_path: Path
) -> None:
    """As one that is damaged far down: its first block is made by then, and no longer up to date."""
    of = utm(33, 450_000, 5_500_000, 12.0, (1200, 1200))
    write_image(nginx.root / "torn.tif", of, Writing(bands=of.colours()))
    whole = (nginx.root / "torn.tif").read_bytes()
    part = whole[: len(whole) * 2 // 3]
    (nginx.root / "torn.tif").write_bytes(part + bytes(len(whole) - len(part)))
    torn = Image(id="torn", footprint=of.footprint(), asset=nginx.address("torn.tif"))
    beside = drone(nginx, "beside", 452_000, 5_499_000)[0]  # so that their block is the first
    bench = Bench(tmp_path, nginx.host, workers=1)
    tally = bench.build([torn, beside])
    assert ([each.id for each in tally.skipped], tally.waiting) == (["torn"], ["beside"])
    assert is_accounted_for(tally)
    tally = bench.build([torn, beside])
    assert (tally.shown, tally.left) == (["beside"], 0)


def test_an_image_waits_if_a_killed_build_had_made_its_block_without_it(nginx: Nginx, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(_: int) -> None:
        raise Killed

    of = utm(33, 702_400, 5_232_000, 3.0, (300, 250))
    lost = Image(id="back", footprint=of.footprint(), asset=nginx.address("back.tif"))
    images = [lost, drone(nginx, "beside", 703_600, 5_232_000)[0]]
    bench = Bench(tmp_path, nginx.host)
    with pytest.raises(Killed):
        bench.build(images, on_progress=kill)
    drone(nginx, "back", 702_400, 5_232_000)
    bench.now += timedelta(days=1)
    tally = bench.build(images)
    assert "back" in tally.waiting
    assert is_accounted_for(tally)
    tally = bench.build(images)
    assert (sorted(tally.shown), tally.left) == (["back", "beside"], 0)


def test_an_image_that_is_back_and_whose_block_is_put_off_waits(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    lost = Image(
        id="lost",
        footprint=utm(33, 702_400, 5_232_000, 3.0, (300, 250)).footprint(),
        asset=nginx.address("lost.tif"),
    )
    beside = lent(host, tmp_path, "beside", 703_600, 5_232_000)
    bench = Bench(tmp_path / "bench", nginx.host, host.host, workers=1)
    assert bench.build([lost, beside]).read == 1
    drone(nginx, "lost", 702_400, 5_232_000)
    go_down(host)
    bench.now += timedelta(days=1)
    tally = bench.build([lost, beside])
    assert (tally.read, tally.waiting) == (1, ["lost"])
    assert bench.seen_at(middle(lost))[0, 3] < 255
    give_files(host, tmp_path)
    assert bench.build([lost, beside]).read == 2


def give_without_version(host: ScriptedHost, file: Path) -> None:
    """Let a host serve a file with neither ETag nor date."""
    content = file.read_bytes()

    def give(request: Request) -> None:
        start, end = request.range
        body = content[start:end]
        stated = f"Content-Range: bytes {start}-{start + len(body) - 1}/{len(content)}"
        request.answer("206 Partial Content", body, stated, "Content-Type: image/tiff")

    host.script = give


def test_a_host_that_tells_no_version_is_read_and_waited_for(host: ScriptedHost, tmp_path: Path) -> None:
    image = lent(host, tmp_path, "plain", 700_000)
    give_without_version(host, tmp_path / "plain.tif")
    bench = Bench(tmp_path / "bench", host.host)
    assert bench.build([image]).read == 1
    go_down(host)
    bench.recipe = Recipe(feather=8)
    assert bench.build([image]).read == 1
    assert bench.seen_at(middle(image))[0, 3] == 255


def test_a_file_of_another_size_is_read_again_though_its_host_tells_no_version(
    host: ScriptedHost, tmp_path: Path
) -> None:
    image = lent(host, tmp_path, "plain", 700_000)
    give_without_version(host, tmp_path / "plain.tif")
    bench = Bench(tmp_path / "bench", host.host)
    bench.build([image])
    bench.now += timedelta(days=8)
    assert bench.build([image]).made == 0
    of = utm(33, 700_000, 5_230_000, 3.0, (300, 250))
    write_image(tmp_path / "plain.tif", of, Writing(bands=np.full((3, 250, 300), 200, np.uint8)))
    give_without_version(host, tmp_path / "plain.tif")
    bench.now += timedelta(days=8)
    assert bench.build([image]).made > 0
    assert np.abs(bench.seen_at(middle(image))[0] - [200, 200, 200, 255]).max() < 12


def test_another_reason_for_the_same_grey_makes_nothing_again(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    good = drone(nginx, "good", 700_000, 5_230_000)[0]
    bad = Image(id="bad", footprint=shapely.buffer(good.footprint, 0.002), asset=host.address("bad.tif"))
    bench = Bench(tmp_path, nginx.host, host.host)
    assert bench.build([good, bad]).made > 0
    go_down(host)
    bench.now += timedelta(days=1)
    tally = bench.build([good, bad])
    assert [each.reason for each in tally.skipped] == ["server_fault"]
    assert tally.made == 0


def test_an_image_that_failed_after_its_chip_was_cut_is_not_grey_beside_the_chip(tmp_path: Path) -> None:
    """It failed in another block; the key of this one says that it was read, and so its pixels must be."""
    footprint = utm(33, 700_000, 5_230_000, 3.0, (300, 250)).footprint()
    image = Image(id="late", footprint=footprint, asset="https://a.example/late.tif")
    bench = Bench(tmp_path, workers=0)
    (tile,) = partitions_of([footprint])
    with bench.workers() as workers:
        building = Building(bench.partition(tile), [image], workers, tmp_path, Budget(), lambda _: None)
    (block,) = building.blocks
    building.state.looked["https://a.example/late.tif"] = Looked(reason=Reason.DAMAGED)
    work = InWork([0], chips={0: tmp_path / "chip"}, states={0: '="1"'})
    order = building._compose(block, work).order
    assert (order["chips"], order["hints"]) == ([f"{tmp_path}/chip"], [])
    assert order["told"]["key"] == block_key(bench.recipe, block, [(image.stated, '="1"')])


def test_blocks_that_wait_for_a_host_cost_no_other_host_a_request(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    images = []
    for number in range(3 * GIVEN_UP):
        east = 450_000 + 9_000 * number
        images.append(lent(host, tmp_path, f"a{number}", east, 5_400_000))
        images.append(drone(nginx, f"b{number}", east, 5_400_000)[0])
    bench = Bench(tmp_path / "bench", nginx.host, host.host, workers=1)
    first = bench.build(images)
    go_down(host)
    bench.recipe = Recipe(feather=8)
    tally = bench.build(images)
    assert (tally.made, tally.left) == (0, first.blocks)
    assert tally.bytes < 0.6 * first.bytes / 2


def test_once_the_budget_is_spent_no_more_images_of_a_begun_block_are_read(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    good = drone(nginx, "good", 702_400, 5_232_000)[0]
    gone = [replace(good, id=f"gone-{n}", asset=host.address(f"{n}.tif")) for n in range(8)]
    bench = Bench(tmp_path, nginx.host, host.host, workers=2)
    budget = Budget(bytes=2**30)

    def spend_it(request: Request) -> None:
        budget.bytes = 0
        request.answer("404 Not Found")

    host.script = spend_it
    tally = bench.build([good, *gone], budget=budget)
    known = {each.id for each in tally.skipped}
    assert 1 <= len(host.asked) <= 2, "those that were being read"
    assert len(known) == len(host.asked), "what was found of them is kept"
    assert {*tally.waiting} == {good.id, *(each.id for each in gone)} - known
    assert (tally.made, tally.left) == (0, tally.blocks)
    assert 0 < bench.seen_at(middle(good))[0, 3] < 255
    tally = bench.build([good, *gone])
    assert (tally.read, tally.left, len(host.asked)) == (1, 0, len(gone))


def test_without_a_budget_nobody_is_asked_whether_images_are_the_same(nginx: Nginx, tmp_path: Path) -> None:
    images = [drone(nginx, "same", 700_000, 5_230_000)[0]]
    bench = Bench(tmp_path, nginx.host)
    bench.build(images)
    bench.now += timedelta(days=8)
    assert bench.build(images, budget=NOTHING).requests == 0
    assert bench.build(images).requests == 1
