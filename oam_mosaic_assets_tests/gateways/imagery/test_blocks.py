"""Building a partition from real COGs behind a real server: pixels, keys, costs, resumption."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.warp import transform

from oam_mosaic_assets.core.grid import first_tile_id, project, tile_positions
from oam_mosaic_assets.core.imagery.blocks import BLOCK, BLOCK_ZOOM, FINEST, PARTITION_ZOOM, Tile, in_pixels
from oam_mosaic_assets.core.imagery.pixels import decoded, halved
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD
from oam_mosaic_assets.gateways.imagery.building import UNJOINED
from oam_mosaic_assets.gateways.imagery.cutting import TOGETHER
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets_tests.gateways.imagery.bench import NOON, ROOT, Bench, drone, give_files, plain
from oam_mosaic_assets_tests.images import Writing, scene, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost


@pytest.fixture(scope="module")
def flights(nginx: Nginx) -> list[Image]:
    """Eight images in several blocks of one partition."""
    places = [(500_000 + 9000 * column, 5_000_000 + 9000 * row) for column in range(4) for row in range(2)]
    return [drone(nginx, f"flight-{n}", *place)[0] for n, place in enumerate(places)]


def test_a_partition_shows_the_scene_at_every_zoom(
    nginx: Nginx, flights: list[Image], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    tally = bench.build(flights)
    assert (tally.images, tally.read, tally.skipped) == (8, 8, [])
    assert tally.made == tally.blocks >= 6
    rng = np.random.default_rng(1)
    west, south, east, north = flights[0].footprint.buffer(-0.0008).bounds
    places = rng.uniform((west, south), (east, north), (300, 2))
    shown = bench.seen_at(places)
    assert (shown[:, 3] == 255).all()
    assert np.abs(shown[:, :3] - scene(*places.T).T).mean() < 12.0  # WebP loss, and half a pixel off centre
    for zoom in range(PARTITION_ZOOM, FINEST):
        assert bench.seen_at(places, zoom)[:, 3].min() > 0


def test_each_zoom_is_the_mean_of_the_one_below(nginx: Nginx, flights: list[Image], tmp_path: Path) -> None:
    """Within the loss of WebP at each zoom, from the partition's own tile to the finest."""
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    tiles = {each: decoded(content) for each, content in bench.tiles().items()}
    checked = 0
    for zoom in range(PARTITION_ZOOM, FINEST):
        for x, y in {(x >> FINEST - zoom, y >> FINEST - zoom) for x, y in finest_of(bench, tiles)}:
            whole = np.zeros((512, 512, 4), np.uint8)
            for dx in (0, 1):
                for dy in (0, 1):
                    below = tiles.get(Tile(2 * x + dx, 2 * y + dy).id(zoom + 1))
                    if below is not None:
                        whole[dy * 256 :, dx * 256 :][:256, :256] = below
            own = tiles[Tile(x, y).id(zoom)]
            off = np.abs(halved(whole).astype(int) - own)
            assert off[own[..., 3] > 0].mean() < 6.0
            assert off[..., 3].max() <= 1
            checked += 1
    assert checked > 20


def finest_of(bench: Bench, tiles: dict[int, np.ndarray]) -> Iterator[tuple[int, int]]:
    ids = np.array([each for each in tiles if each >= first_tile_id(FINEST)], np.int64)
    yield from zip(*(each.tolist() for each in tile_positions(ids, FINEST)), strict=True)


def test_what_did_not_change_costs_no_request(flights: list[Image], nginx: Nginx, tmp_path: Path) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    before = [(each.key, each.etag) for each in bench.store.keys(ROOT)]
    bench.now += timedelta(days=1)
    tally = bench.build(flights)
    assert (tally.requests, tally.bytes, tally.made, tally.read) == (0, 0, 0, 8)
    assert [(each.key, each.etag) for each in bench.store.keys(ROOT)] == before


def test_after_some_days_each_image_is_asked_once_whether_it_is_the_same(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    bench.now += timedelta(days=8)
    tally = bench.build(flights)
    assert (tally.requests, tally.made) == (8, 0)
    assert bench.build(flights).requests == 0


def test_only_the_blocks_of_an_image_that_changed_are_made_anew(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    whole = bench.build(flights)
    before = bench.tiles()
    changed = [replace(flights[0], updated=NOON), *flights[1:]]
    tally = bench.build(changed)
    assert 0 < tally.made < whole.made
    assert tally.requests < whole.requests / 2
    assert bench.tiles() == before  # the same pixels, though rebuilt


def test_an_image_that_is_replaced_at_its_address_is_read_again(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 600_000, 5_100_000, 3.0, (300, 250))
    image = plain(nginx, "replaced", of, (200, 0, 0))
    bench = Bench(tmp_path, nginx.host)
    bench.build([image])
    plain(nginx, "replaced", of, (0, 0, 200))
    assert bench.build([image]).made == 0  # the address was not checked again
    bench.now += timedelta(days=8)
    assert bench.build([image]).made > 0
    middle = np.array([image.footprint.centroid.coords[0]])
    assert np.abs(bench.seen_at(middle)[0] - [0, 0, 200, 255]).max() < 12


def test_an_image_that_is_gone_from_the_catalogue_is_gone_from_the_tiles(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    gone = np.array([flights[0].footprint.centroid.coords[0]])
    assert bench.seen_at(gone)[0, 3] == 255
    bench.build(flights[1:])
    for zoom in (12, 14):
        assert bench.seen_at(gone, zoom)[0, 3] == 0
    assert flights[0].id.encode() not in bench.partition(bench.tile).state().to_json()


def test_the_pixels_of_an_image_that_is_gone_are_not_kept_though_no_budget_is_left(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    bench.build(flights[1:], budget=Budget(bytes=0))
    gone, stays = (np.array([each.footprint.centroid.coords[0]]) for each in (flights[0], flights[-1]))
    assert bench.seen_at(gone)[0, 3] == 0
    assert bench.seen_at(stays)[0, 3] == 255


def test_what_an_image_that_is_gone_leaves_bare_is_grey_where_no_budget_is_left(
    nginx: Nginx, tmp_path: Path
) -> None:
    goes, stays = (
        drone(nginx, name, 700_000 + east, 5_230_000)[0] for name, east in (("a", 0), ("b", 1_200))
    )
    bench = Bench(tmp_path, nginx.host)
    bench.build([goes, stays])
    tally = bench.build([stays], budget=Budget(bytes=0))
    assert tally.left > 0
    gone, there = bench.seen_at(np.array([each.footprint.centroid.coords[0] for each in (goes, stays)]))
    assert gone[3] == 0
    assert 0 < there[3] < 255
    bench.build([stays])
    assert bench.seen_at(np.array([stays.footprint.centroid.coords[0]]))[0, 3] == 255


def test_few_chips_wait_on_disk_for_blocks_that_have_not_begun(
    host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images lie on a corner of four blocks: all of the first block are asked for at once."""
    early, images, there = 4, list[Image](), list[int]()
    monkeypatch.setattr("oam_mosaic_assets.gateways.imagery.cutting.EARLY", early)
    side = 2 * HALF_WORLD / (1 << BLOCK_ZOOM)
    corner = [2200 * side - HALF_WORLD], [HALF_WORLD - 1400 * side]
    (east,), (north,) = transform("EPSG:3857", "EPSG:32633", *corner)
    of = utm(33, east - 450, north + 375, 3.0, (300, 250))
    for number in range(12):
        write_image(tmp_path / f"{number}.tif", of, Writing(bands=of.colours()))
        images.append(Image(id=f"{number}", footprint=of.footprint(), asset=host.address(f"{number}.tif")))
    bench = Bench(tmp_path / "bench", host.host, workers=1)
    give_files(host, tmp_path)
    give = host.script

    def count(request: Request) -> None:
        there.append(len(list(bench.folder.rglob("*.chip"))))
        give(request)

    host.script = count
    tally = bench.build(images)
    assert (tally.read, tally.made) == (12, 4)
    assert max(there) <= len(images) + early + TOGETHER


def test_blocks_that_were_done_before_a_kill_are_not_done_again(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(done: int) -> None:
        if done == 3:
            raise Killed

    bench = Bench(tmp_path, nginx.host)
    with pytest.raises(Killed):
        bench.build(flights, on_progress=kill)
    tally = bench.build(flights)
    assert tally.made == tally.blocks - 3
    afresh = Bench(tmp_path / "afresh", nginx.host)
    afresh.build(flights)
    assert bench.tiles() == afresh.tiles()
    assert not list(bench.store.keys(f"{ROOT}{PARTITION_ZOOM}-{bench.tile.x}-{bench.tile.y}/{UNJOINED}"))


def test_the_next_run_does_what_the_budget_did_not_reach(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host, workers=1)
    newest = replace(flights[5], updated=NOON)
    images = [*flights[:5], newest, *flights[6:]]
    first = bench.build(images, budget=Budget(bytes=1))
    assert 0 < first.made < first.blocks
    assert first.left == first.blocks - first.made
    shown = bench.seen_at(np.array([newest.footprint.centroid.coords[0]]))
    assert shown[0, 3] == 255  # the newest image was built first
    second = bench.build(images)
    assert second.made == first.left
    assert second.left == 0
    assert bench.build(images, budget=Budget(until=time.monotonic() - 1)).left == 0


def test_blocks_that_wait_are_grey_where_images_are_until_they_are_read(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    spent = Budget(until=time.monotonic() - 1)
    tally = bench.build(flights, budget=spent)
    assert (tally.made, tally.left, tally.requests) == (0, tally.blocks, 0)
    assert sorted(tally.waiting) == sorted(each.id for each in flights)
    middles = np.array([each.footprint.centroid.coords[0] for each in flights])
    for zoom in (FINEST, FINEST - 1, FINEST - 2):
        assert np.abs(bench.seen_at(middles, zoom) - [128, 128, 128, 102]).max() < 8
    before = [(each.key, each.etag) for each in bench.store.keys(ROOT)]
    bench.build(flights, budget=spent)
    assert [(each.key, each.etag) for each in bench.store.keys(ROOT)] == before
    assert bench.build(flights).made == tally.blocks
    assert (bench.seen_at(middles)[:, 3] == 255).all()


def test_where_no_grey_is_wanted_what_waits_is_not_seen(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    spent = Budget(until=time.monotonic() - 1)
    bench.build(flights, budget=spent)
    bench.recipe = Recipe(kind="imagery")
    bench.build(flights, budget=spent)
    assert bench.tiles() == {}


def test_another_kind_of_the_same_images_costs_no_request(
    flights: list[Image], nginx: Nginx, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, nginx.host)
    bench.build(flights)
    for kind in ("imagery", "hybrid", "hints"):
        bench.recipe = Recipe(kind=kind)  # type: ignore[arg-type]
        tally = bench.build(flights)
        assert (tally.made, tally.requests) == (0, 0)


def test_the_rule_of_overlap_holds_at_a_thousand_points(nginx: Nginx, tmp_path: Path) -> None:
    colours = {
        "coarse": (200, 20, 20),
        "fine": (20, 200, 20),
        "unknown": (20, 20, 200),
        "tie": (200, 200, 20),
    }
    stated: dict[str, dict[str, object]] = {
        "coarse": {"gsd": 2.0, "acquired_to": datetime(2024, 1, 1, tzinfo=UTC)},
        "fine": {"gsd": 0.1, "acquired_to": datetime(2020, 1, 1, tzinfo=UTC)},
        "unknown": {"acquired_to": datetime(2025, 1, 1, tzinfo=UTC)},
        "tie": {"gsd": 0.1},
    }
    places = {"coarse": (0, 0), "fine": (700, -500), "unknown": (-600, -700), "tie": (900, 300)}
    images = [
        plain(
            nginx,
            f"z-{name}",
            utm(33, 420_000 + x, 5_050_000 + y, 8.0, (250, 220)),
            colours[name],
            **stated[name],
        )
        for name, (x, y) in places.items()
    ]
    order = {"finest": ["fine", "tie", "coarse", "unknown"], "newest": ["unknown", "coarse", "fine", "tie"]}
    areas = dict(zip(places, (each.footprint for each in images), strict=True))
    west, south, east, north = shapely.unary_union(list(areas.values())).bounds
    points = np.random.default_rng(1).uniform((west, south), (east, north), (1000, 2))
    edge = shapely.unary_union([each.boundary for each in areas.values()]).buffer(0.0004)
    points = points[~shapely.contains_xy(edge, *points.T)]
    for rule in ("finest", "newest"):
        bench = Bench(tmp_path / rule, nginx.host)
        bench.recipe = Recipe(order=rule)  # type: ignore[arg-type]
        bench.build(images)
        shown = bench.seen_at(points)
        for point, colour in zip(points, shown, strict=True):
            on_top = next((n for n in order[rule] if shapely.contains_xy(areas[n], *point)), None)
            assert colour[3] == (255 if on_top else 0)
            if on_top:
                assert np.abs(colour[:3].astype(int) - colours[on_top]).max() < 30


def test_feathered_images_go_over_into_each_other_across_blocks(nginx: Nginx, tmp_path: Path) -> None:
    width = 40
    top = plain(nginx, "west", utm(33, 420_000, 5_050_000, 40.0, (400, 500)), (230, 30, 30), gsd=0.1)
    below = plain(nginx, "east", utm(33, 432_000, 5_050_000, 40.0, (400, 500)), (30, 30, 230), gsd=1.0)
    soft, hard = Bench(tmp_path / "soft", nginx.host), Bench(tmp_path / "hard", nginx.host)
    soft.recipe = Recipe(feather=width)
    for bench in (soft, hard):
        assert bench.build([top, below]).made >= 9
    both = shapely.intersection(top.footprint, below.footprint)
    places = np.random.default_rng(3).uniform(both.bounds[:2], both.bounds[2:], (20_000, 2))
    places = places[shapely.contains_xy(both, *places.T)]
    pixels = shapely.transform(
        project(shapely.points(places), FINEST), lambda tiles: np.floor(tiles * 256) + 0.5
    )
    edge = in_pixels(top.footprint).boundary
    away = shapely.distance(pixels, edge)
    # at corners and where the other image ends, the weights differ
    clear = shapely.distance(pixels, in_pixels(below.footprint).boundary) > 2 * width
    clear &= shapely.distance(pixels, shapely.multipoints(shapely.get_coordinates(edge.envelope))) > 3 * width
    share = np.clip(away / width, 0.0, 1.0)[clear]
    expected = share[:, None] * [230, 30, 30] + (1.0 - share[:, None]) * [30, 30, 230]
    shown = soft.seen_at(places)[clear].astype(int)
    off = np.abs(shown[:, :3] - expected).mean(axis=1)
    at_seam = (np.abs((shapely.get_coordinates(pixels)[clear] % BLOCK) - BLOCK / 2) > BLOCK / 2 - width).any(
        axis=1
    )
    assert (share < 0.9).sum() > 300
    assert (at_seam & (share < 0.9)).sum() > 20
    assert off.max() < 25, "WEBP"
    assert off.mean() < 5
    assert off[at_seam].mean() < 5
    assert (shown[:, 3] == 255).all()
    west, south, east, north = shapely.union(top.footprint, below.footprint).buffer(0.01).bounds
    around = np.random.default_rng(4).uniform((west, south), (east, north), (5000, 2))
    assert np.abs(soft.seen_at(around)[:, 3].astype(int) - hard.seen_at(around)[:, 3]).max() <= 1
