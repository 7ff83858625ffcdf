"""Partitions that several machines build, or that an image lies across."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import shapely
from rasterio.transform import from_bounds

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.imagery.audit import examine_imagery
from oam_mosaic_assets.core.imagery.blocks import FINEST, PARTITION_ZOOM
from oam_mosaic_assets.core.imagery.fragment import write_tiles
from oam_mosaic_assets.core.imagery.laid import laid_in
from oam_mosaic_assets.core.imagery.pixels import TILE, encoded
from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import State
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.coverage import Shown
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.imagery.packing import LOSSLESS, TILES
from oam_mosaic_assets.gateways.imagery.partition import LEFT_BEHIND, STATE, Budget
from oam_mosaic_assets.gateways.imagery_mosaic import COLUMNS, ByPartition, ImageryMosaic, ImageryPlan
from oam_mosaic_assets.gateways.object_store import Headers, StoredObject
from oam_mosaic_assets.gateways.publisher_lock import WRONG_CLOCKS
from oam_mosaic_assets.gateways.purge import Purged, purge
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.gateways.imagery.bench import ROOT, Bench, drone
from oam_mosaic_assets_tests.images import ImageOf, Writing, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost


class Shared(FolderStore):
    """A store in which another machine does something before this one lists, writes or deletes there.

    Attributes:
        happens: what it does, once.
        when: before which of these, in words: `list`, `delete`, or the last part of a key that is written.
    """

    happens: Callable[[], object] | None = None
    when = ""

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        self._meet("list")
        return super().keys(prefix)

    def put_bytes(self, key: str, *rest: Any, **options: Any) -> StoredObject:
        self._meet(key.rpartition("/")[2])
        return super().put_bytes(key, *rest, **options)

    def delete(self, keys: Iterable[str]) -> None:
        self._meet("delete")
        super().delete(keys)

    def _meet(self, moment: str) -> None:
        if self.happens and moment in self.when.split():
            happens, self.happens = self.happens, None
            happens()


@pytest.fixture
def flights(nginx: Nginx) -> list[Image]:
    return [drone(nginx, f"machine-{n}", 700_000 + 9_000 * n, 5_250_000)[0] for n in range(4)]


def alphas(bench: Bench, images: list[Image]) -> list[int]:
    middles = np.array([each.footprint.centroid.coords[0] for each in images])
    found: list[int] = bench.seen_at(middles)[:, 3].tolist()
    return found


@pytest.mark.parametrize("when", ["list", "state.json"], ids=["while it reads", "while it saves"])
def test_what_another_machine_made_meanwhile_is_kept_and_read_by_nobody_again(
    nginx: Nginx, flights: list[Image], tmp_path: Path, when: str
) -> None:
    ours, other = Bench(tmp_path, nginx.host), Bench(tmp_path, nginx.host)
    other.folder = tmp_path / "other"
    ours.build(flights[:2])
    ours.store = store = Shared(tmp_path / "store")
    store.when, store.happens = when, lambda: other.build(flights[:3])

    tally = ours.build(flights)

    assert tally.read == len(flights)
    assert tally.requests == 2, "those of the new images"
    assert alphas(ours, flights) == [255] * len(flights)
    kept = [each.key.rpartition("/")[2] for each in store.keys(ROOT)]
    state = ours.partition(ours.tile).state()
    assert {"state.json", state.tiles, state.lossless} <= {*kept}
    assert ours.build(flights).made == 0
    ours.now = datetime.now(UTC) + timedelta(hours=2)
    ours.build(flights)
    assert len(list(store.keys(ROOT))) == 3, "what no state names is gone by now"


def test_a_partition_that_another_machine_has_mended_meanwhile_is_not_given_up(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    """Both find that an archive is gone; the other reads the partition again before this one gives it up."""
    ours, other = Bench(tmp_path, nginx.host), Bench(tmp_path, nginx.host)
    other.folder = tmp_path / "other"
    ours.build(flights[:2])
    kept = ours.partition(ours.tile)
    ours.store.delete([f"{kept.at}{kept.state().tiles}"])

    def mend() -> None:
        with pytest.raises(StoreUnavailable, match="is gone"):
            other.build(flights[:3])
        other.build(flights[:3])

    ours.store = store = Shared(tmp_path / "store")
    store.when, store.happens = "state.json delete", mend

    assert ours.build(flights).read == len(flights)
    assert alphas(ours, flights) == [255] * len(flights)


def test_machines_that_never_let_each_other_finish_end_with_an_error(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    ours, other = Bench(tmp_path, nginx.host), Bench(tmp_path, nginx.host)
    other.folder = tmp_path / "other"
    ours.store = store = Shared(tmp_path / "store")
    store.when = "state.json"
    turn = iter([flights[:1], flights[:2], flights[1:2], flights[:3]])

    def again() -> None:
        other.build(next(turn))
        store.happens = again

    store.happens = again
    with pytest.raises(StoreUnavailable, match=r"builds the partition .+ at the same time"):
        ours.build(flights)
    assert other.partition(other.tile).archives(tmp_path) is not None, "what is there is whole"


@pytest.mark.parametrize("is_built_by_another", [True, False])
def test_an_image_that_is_taken_down_while_it_is_read_is_left_out(
    nginx: Nginx, flights: list[Image], tmp_path: Path, *, is_built_by_another: bool
) -> None:
    """As in a backfill, whose list of images is older than the takedown."""
    ours, other = Bench(tmp_path, nginx.host), Bench(tmp_path, nginx.host)
    other.folder = tmp_path / "other"
    ours.store = store = Shared(tmp_path / "store")

    def take_down() -> None:
        ours.taken_down.add(flights[0].id)
        if is_built_by_another:
            other.build(flights[1:])

    store.when, store.happens = "state.json", take_down

    ours.build(flights)

    assert alphas(ours, flights) == [0, 255, 255, 255]
    for each in store.keys(ROOT):
        found = store.get_bytes(each.key)
        assert found is not None
        assert flights[0].id.encode() not in found[0], each.key
    ours.store = FolderStore(tmp_path / "afresh")
    ours.build(flights)
    assert alphas(ours, flights)[0] == 0, "nor is it read if it was taken down before"


def mosaic_of(host: str, folder: Path) -> ImageryMosaic:
    """The mosaic of this host's images, in a store in the folder."""
    plan = ImageryPlan(private_hosts=(host,), processes=1)
    return ImageryMosaic(FolderStore(folder / "store"), Keys(), plan)


def folders_in(folder: Path) -> Callable[[str], Path]:
    """A function that makes an empty folder with this name, numbered."""

    def made(name: str) -> Path:
        path = folder / f"{name}-{len(list(folder.iterdir()))}"
        path.mkdir()
        return path

    return made


def footprints_of(images: list[Image], path: Path) -> Path:
    """The GeoParquet of some images, as far as imagery reads it."""
    rows = [
        {**{name: getattr(each, name, None) for name in COLUMNS}, "geometry": shapely.to_wkb(each.footprint)}
        for each in images
    ]
    pl.DataFrame(rows, schema_overrides={"render_params": pl.String}).write_parquet(path)
    return path


def test_a_partition_that_shows_an_image_of_another_snapshot_is_not_joined(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    """As if a backfill had read an image again that left the catalogue: its pixels bear no id."""
    mosaic = mosaic_of(nginx.host, tmp_path)
    scratch = folders_in(tmp_path)

    def write(images: list[Image], name: str, *, reading: bool) -> None:
        footprints = footprints_of(images, tmp_path / f"{name}.parquet")
        with ByPartition(footprints, scratch("sorted")) as snapshot:
            tiles = snapshot.tiles()
            holding = dict[str, list[str]]()
            if reading:
                tally = mosaic.bring_up_to_date(
                    snapshot, tiles, scratch, Budget(), on_progress=lambda *_: None
                )
                holding.update(tally.partitions)
            shown = Shown(footprints, "digest", (10.0, 40.0, 20.0, 50.0))
            target = tmp_path / f"{name}.pmtiles"
            mosaic.write(target, snapshot, tiles, scratch("copies"), holding=holding, shown=shown)

    write(flights[:2], "before", reading=True)
    with pytest.raises(StoreUnavailable, match=r"6-35-22 meanwhile, of images .+ \(1\)"):
        write(flights[1:], "after", reading=False)
    assert not (tmp_path / "after.pmtiles").exists()
    write(flights[:3], "more", reading=False)


def test_what_a_build_has_read_is_in_its_archive_though_an_older_one_is_published_meanwhile(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    """The older one has no images there, and deletes partitions that hold none."""
    mosaic = mosaic_of(nginx.host, tmp_path)
    scratch, target = folders_in(tmp_path), tmp_path / "imagery.pmtiles"
    footprints = footprints_of(flights, tmp_path / "footprints.parquet")
    shown = Shown(footprints, "digest", (10.0, 40.0, 20.0, 50.0))
    with ByPartition(footprints, scratch("sorted")) as snapshot:
        tiles = snapshot.tiles()

        def write(copies: str) -> None:
            mosaic.write(target, snapshot, tiles, scratch(copies), holding=holding, shown=shown)

        tally = mosaic.bring_up_to_date(snapshot, tiles, scratch, Budget(), on_progress=lambda *_: None)
        holding = tally.partitions
        before = datetime.now(UTC) + WRONG_CLOCKS - timedelta(minutes=1)  # the store's clock is behind
        mosaic.sweep(set(), snapshot_taken_at=before)
        write("copies")
        with open_archive(target) as archive:
            assert len(laid_in(archive)) > 0
        target.unlink()

        mosaic.sweep(set(), snapshot_taken_at=before + timedelta(minutes=2))
        with pytest.raises(StoreUnavailable, match=r"The partition 6-35-22 .+ was deleted"):
            write("more copies")
    assert not target.exists()


def test_a_partition_that_another_machine_has_made_of_an_older_snapshot_is_not_joined(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    """As `oam-mosaic imagery` does, which reads the images of the public build: newer ones would be holes."""
    mosaic = mosaic_of(nginx.host, tmp_path)
    scratch, target = folders_in(tmp_path), tmp_path / "imagery.pmtiles"
    footprints = footprints_of(flights, tmp_path / "footprints.parquet")
    public = footprints_of(flights[:2], tmp_path / "public.parquet")
    shown = Shown(footprints, "digest", (10.0, 40.0, 20.0, 50.0))
    with ByPartition(footprints, scratch("new")) as newer, ByPartition(public, scratch("old")) as older:
        tiles = newer.tiles()

        def holding(snapshot: ByPartition) -> dict[str, list[str]]:
            tally = mosaic.bring_up_to_date(snapshot, tiles, scratch, Budget(), on_progress=lambda *_: None)
            return tally.partitions

        held = holding(newer)
        holding(older)
        with pytest.raises(StoreUnavailable, match=r"6-35-22 meanwhile, without images .+ \(2\)"):
            mosaic.write(target, newer, tiles, scratch("copies"), holding=held, shown=shown)
        assert not target.exists()

        mosaic.write(target, newer, tiles, scratch("again"), holding=holding(newer), shown=shown)
    with open_archive(target) as archive:
        assert len(laid_in(archive)) > 0


def test_a_partition_that_a_sweep_has_spared_is_no_reason_to_build_again(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    mosaic = ImageryMosaic(store, Keys(), ImageryPlan(private_hosts=(nginx.host,), processes=1))
    footprints = footprints_of(flights, tmp_path / "footprints.parquet")
    scratch = folders_in(tmp_path)
    with ByPartition(footprints, scratch("sorted")) as snapshot:
        tiles = snapshot.tiles()
        mosaic.bring_up_to_date(snapshot, tiles, scratch, Budget(), on_progress=lambda *_: None)
    left, its = mosaic.joined([], 0), mosaic.joined(tiles, 0)
    mosaic.sweep(set(), snapshot_taken_at=datetime.now(UTC))
    assert not mosaic.has_more(left)
    assert not mosaic.has_more(its)

    mosaic.sweep(set(), snapshot_taken_at=datetime.now(UTC) + timedelta(days=1))
    assert mosaic.has_more(its)


def test_joining_many_partitions_takes_little_memory(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    mosaic = ImageryMosaic(store, Keys(), ImageryPlan())
    scratch = folders_in(tmp_path)
    images = [
        Image(id=f"{x} {y}", footprint=shapely.box(x, y, x + 0.05, y + 0.05))
        for x in range(-177, 180, 6)
        for y in (1, 21, 41)
    ]
    footprints = footprints_of(images, tmp_path / "footprints.parquet")
    pixel = encoded(np.full((TILE, TILE, 4), 255, np.uint8), quality=None)
    assert pixel is not None
    with ByPartition(footprints, scratch("sorted")) as snapshot:
        tiles = snapshot.tiles()
        for tile in tiles:
            path = scratch("made") / "archive.pmtiles"
            zooms = (PARTITION_ZOOM, FINEST)
            write_tiles(path, [], {tile.id(PARTITION_ZOOM): pixel}, {}, zooms=zooms)
            partition = mosaic.partition(tile)
            for name in (TILES, LOSSLESS):
                store.put_file(partition.at + name, path, Headers("application/vnd.pmtiles"))
            state = State(tiles=TILES, lossless=LOSSLESS)
            store.put_bytes(f"{partition.at}{STATE}", state.to_json(), Headers("application/json"))
        shown = Shown(footprints, "digest", (-177.0, 1.0, 177.05, 41.05))
        tracemalloc.start()
        try:
            target = tmp_path / "imagery.pmtiles"
            mosaic.write(target, snapshot, tiles, scratch("copies"), holding={}, shown=shown)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < len(tiles) * TILE * TILE * 4 / 2


def test_partitions_that_a_budget_did_not_reach_come_first_in_the_next_build(
    nginx: Nginx, tmp_path: Path
) -> None:
    mosaic = mosaic_of(nginx.host, tmp_path)
    scratch = folders_in(tmp_path)
    west, east = (drone(nginx, name, at, 5_250_000)[0] for name, at in (("west", 400_000), ("east", 800_000)))

    def read(images: list[Image]) -> list[str]:
        """Read as long as nothing was received yet; returns which are shown."""
        path = footprints_of(images, scratch("snapshot") / "footprints.parquet")
        with ByPartition(path, scratch("sorted")) as snapshot:
            tiles = snapshot.tiles()
            assert len(tiles) == 2
            budget = Budget(bytes=1)
            tally = mosaic.bring_up_to_date(snapshot, tiles, scratch, budget, on_progress=lambda *_: None)
        mosaic.report(tally, "a build")
        return tally.shown

    assert read([west, east]) == ["west"]
    changed = replace(west, updated=datetime(2026, 1, 1, tzinfo=UTC))
    assert sorted(read([changed, east])) == ["east", "west"]


def test_a_block_that_takes_more_than_a_budget_keeps_no_other_from_being_read(
    nginx: Nginx, tmp_path: Path
) -> None:
    mosaic = mosaic_of(nginx.host, tmp_path)
    scratch = folders_in(tmp_path)
    dense = [drone(nginx, f"dense-{n}", 400_000, 5_250_000)[0] for n in range(8)]
    beside = [drone(nginx, f"beside-{n}", 420_000 + 15_000 * n, 5_250_000)[0] for n in range(2)]
    far_away = [drone(nginx, f"far-{n}", 800_000 + 15_000 * n, 5_250_000)[0] for n in range(3)]
    size = (nginx.root / "dense-0.tif").stat().st_size
    path = footprints_of([*dense, *beside, *far_away], tmp_path / "footprints.parquet")
    with ByPartition(path, scratch("sorted")) as snapshot:
        tiles = snapshot.tiles()
        assert len(tiles) == 2

        def shown(budget: Budget) -> set[str]:
            tally = mosaic.bring_up_to_date(snapshot, tiles, scratch, budget, on_progress=lambda *_: None)
            mosaic.report(tally, "a build")
            return set(tally.shown)

        builds = [shown(Budget(bytes=4 * size)) for _ in range(4)]
        assert builds[0] == set()
        assert builds[3] == {each.id for each in [*beside, *far_away]}
        assert len(shown(Budget())) == 13


def test_a_takedown_finds_the_pixels_that_a_killed_build_left(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    bench.store = store = Shared(tmp_path / "store")
    before = {each.key for each in store.keys(ROOT) if each.key.endswith(".pmtiles")}

    def kill() -> None:
        raise KeyboardInterrupt

    store.when, store.happens = "delete", kill
    with pytest.raises(KeyboardInterrupt):
        bench.build(flights[1:])
    assert before <= {each.key for each in store.keys(ROOT)}
    long_ago = time.time() - LEFT_BEHIND.total_seconds() - 1
    for each in before:
        os.utime(tmp_path / "store" / each, (long_ago, long_ago))
    (folder := tmp_path / "purged").mkdir()

    found = purge(Releases(store, Keys()), flights[0].id, folder=folder, say=lambda _: None)

    assert {*found.deleted} == before
    assert found.is_gone
    assert not before & {each.key for each in store.keys(ROOT)}
    assert bench.build(flights[1:]).made == 0


def test_a_takedown_spares_what_another_machine_is_saving(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    """Its archives are there and no state names them yet; which images they show, nothing tells."""
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights[:2])
    bench.store = store = Shared(tmp_path / "store")
    before = {each.key for each in store.keys(ROOT) if each.key.endswith(".pmtiles")}
    (folder := tmp_path / "purged").mkdir()
    found: list[Purged] = []

    def take_down() -> None:
        releases = Releases(FolderStore(tmp_path / "store"), Keys())
        found.append(purge(releases, "of another partition", folder=folder, say=lambda _: None))

    store.when, store.happens = "state.json", take_down

    assert bench.build(flights).read == len(flights)

    assert alphas(bench, flights) == [255] * len(flights)
    (purged,) = found
    archives = {each.key for each in store.keys(ROOT) if each.key.endswith(".pmtiles")}
    assert archives - before == {*purged.unnamed}
    assert (purged.deleted, purged.is_gone) == ((), False)
    assert purge(Releases(store, Keys()), "of another partition", folder=folder, say=lambda _: None).is_gone


def test_an_image_that_failed_in_one_partition_may_show_nothing_in_another(
    host: ScriptedHost, tmp_path: Path
) -> None:
    """As a satellite scene with nodata at its edge, whose host was down for a moment."""
    west, south, east, north = extent = (10.9, 10.0, 11.9, 10.4)
    of = ImageOf(crs="EPSG:4326", transform=from_bounds(*extent, 1000, 400), size=(1000, 400))
    bands = np.full((3, 400, 1000), 120, np.uint8)
    bands[:, :, 700:] = 0
    write_image(tmp_path / "a.tif", of, Writing(bands=bands, nodata=0))
    content = (tmp_path / "a.tif").read_bytes()

    def script(request: Request) -> None:
        if len(host.asked) <= 3:
            request.answer("503 Service Unavailable")
        else:
            request.give(content)

    host.script = script
    now = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "id": ["scene"],
        "geometry": [shapely.to_wkb(shapely.box(west, south, east, north))],
        "asset": [host.address("a.tif")],
        "gsd": [100.0],
        "acquired_to": [now],
        "updated": [now],
        "render_params": [None],
    }
    footprints = tmp_path / "footprints.parquet"
    pl.DataFrame(row, schema_overrides={"render_params": pl.String}).write_parquet(footprints)
    mosaic = mosaic_of(host.host, tmp_path)
    scratch = folders_in(tmp_path)

    with ByPartition(footprints, scratch("sorted")) as images:
        places = images.tiles()
        tally = mosaic.bring_up_to_date(images, places, scratch, Budget(), on_progress=lambda *_: None)
        mosaic.report(tally, "a build")
        shown = Shown(footprints, "digest", extent)
        target, holding = tmp_path / "imagery.pmtiles", tally.partitions
        mosaic.write(target, images, places, scratch("copies"), holding=holding, shown=shown)
    assert set(holding) == {each.partition for each in places}
    assert len(places) == 2
    assert [each.reason for each in tally.skipped] == ["server_fault"]

    verdicts = examine_imagery(
        tmp_path / "imagery.pmtiles",
        footprints,
        snapshot="digest",
        extent=extent,
        tally={
            "kind": mosaic.plan.kind,
            "images": 1,
            "read": 0,
            "skipped": {"server_fault": 1},
            "left": tally.left,
        },
        unread=mosaic.unread("a build"),
    )

    assert [each.text for each in verdicts if not each.passed] == []
