"""Building a partition from real COGs behind a real server: pixels, keys, costs, failures, resumption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.warp import transform

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.grid import first_tile_id, tile_positions
from oam_mosaic_assets.core.imagery.blocks import FINEST, PARTITION_ZOOM, Tile
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.pixels import decoded, halved, straightened
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.building import UNJOINED
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.workers import Workers
from oam_mosaic_assets.gateways.imagery_blocks import Partition, partitions_of
from oam_mosaic_assets_tests.images import ImageOf, Writing, scene, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, ScriptedHost, running_nginx, scripted_host

LIMITS = {"wait": 0.0, "seconds": 20.0}
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
ROOT = "mosaic/cache/imagery/"


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("images")
    with running_nginx(tmp_path_factory.mktemp("nginx") / "run", root) as running:
        yield running


@pytest.fixture
def host() -> Iterator[ScriptedHost]:
    with scripted_host() as running:
        yield running


class Bench:
    """A store, and how partitions are built in it."""

    def __init__(
        self, folder: Path, *hosts: str, workers: int = 2, limits: dict[str, float] = LIMITS
    ) -> None:  # type: ignore[assignment]
        self.store = FolderStore(folder / "store")
        self.rules = Rules(private_hosts=frozenset(hosts))
        self.folder = folder
        self.now = NOON
        self.recipe = Recipe()
        self._workers, self._limits = workers, limits
        self._runs = 0

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        with Workers(self.rules, self._limits, count=self._workers) as running:
            yield running

    def partition(self, tile: Tile) -> Partition:
        return Partition(self.store, ROOT, tile, self.recipe, self.rules, now=lambda: self.now)

    def build(
        self,
        images: list[Image],
        *,
        budget: Budget | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        running: Workers | None = None,
    ) -> Tally:
        """Build the one partition that the images lie in."""
        self._runs += 1
        scratch = self.folder / f"scratch-{self._runs}"
        scratch.mkdir(parents=True)
        (tile,) = partitions_of([each.footprint for each in images])
        self.tile = tile
        if running is not None:
            return self.partition(tile).build(
                images, running, scratch, budget or Budget(), on_progress=on_progress
            )
        with self.workers() as workers:
            return self.partition(tile).build(
                images, workers, scratch, budget or Budget(), on_progress=on_progress
            )

    def tiles(self) -> dict[int, bytes]:
        """All tiles of the partition as it lies in the store."""
        state = self.partition(self.tile).state()
        folder = self.folder / f"fetched-{self._runs}-{time.monotonic_ns()}"
        folder.mkdir()
        path = self.partition(self.tile).fetch(state.tiles, folder)
        if path is None:
            return {}
        with open_archive(path) as archive:
            return dict(contents(archive, laid_in(archive)))

    def seen_at(self, places: np.ndarray, zoom: int = FINEST) -> np.ndarray:
        """What the tiles show at longitudes and latitudes, shape (n, 2): straight, (n, 4)."""
        tiles = {each: straightened(decoded(content)) for each, content in self.tiles().items()}
        x, y = transform("EPSG:4326", "EPSG:3857", *places.T.tolist())
        pixel = 2 * HALF_WORLD / (256 << zoom)
        columns = ((np.array(x) + HALF_WORLD) / pixel).astype(int)
        rows = ((HALF_WORLD - np.array(y)) / pixel).astype(int)
        nothing = np.zeros((256, 256, 4), np.uint8)
        return np.array(
            [
                tiles.get(Tile(column >> 8, row >> 8).id(zoom), nothing)[row & 255, column & 255]
                for column, row in zip(columns.tolist(), rows.tolist(), strict=True)
            ]
        )


def drone(nginx: Nginx, name: str, east: float, north: float, **stated: object) -> tuple[Image, ImageOf]:
    """A small image of the scene, 900 m wide, in a zone of UTM."""
    of = utm(33, east, north, 3.0, (300, 250))
    write_image(nginx.root / f"{name}.tif", of, Writing(bands=of.colours()))
    return Image(id=name, footprint=of.footprint(), asset=nginx.address(f"{name}.tif"), **stated), of  # type: ignore[arg-type]


def plain(nginx: Nginx, name: str, of: ImageOf, colour: tuple[int, int, int], **stated: object) -> Image:
    """An image of one colour."""
    width, height = of.size
    bands = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, height, width)).copy()
    write_image(nginx.root / f"{name}.tif", of, Writing(bands=bands))
    return Image(id=name, footprint=of.footprint(), asset=nginx.address(f"{name}.tif"), **stated)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def flights(nginx: Nginx) -> list[Image]:
    """Eight images in some blocks of one partition."""
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
    assert np.abs(shown[:, :3] - scene(*places.T).T).mean() < 12.0  # WEBP, and half a pixel off the middle
    for zoom in range(PARTITION_ZOOM, FINEST):
        assert bench.seen_at(places, zoom)[:, 3].min() > 0


def test_each_zoom_is_the_mean_of_the_one_below(nginx: Nginx, flights: list[Image], tmp_path: Path) -> None:
    """Within what WEBP loses at each zoom; down to the partition's own tile."""
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
    assert bench.tiles() == before  # the same pixels, though they were made anew


def test_an_image_that_is_replaced_at_its_address_is_read_again(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 600_000, 5_100_000, 3.0, (300, 250))
    image = plain(nginx, "replaced", of, (200, 0, 0))
    bench = Bench(tmp_path, nginx.host)
    bench.build([image])
    plain(nginx, "replaced", of, (0, 0, 200))
    assert bench.build([image]).made == 0  # nobody looked
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
    assert shown[0, 3] == 255  # the newest came first
    second = bench.build(images)
    assert second.made == first.left
    assert second.left == 0
    assert bench.build(images, budget=Budget(until=time.monotonic() - 1)).left == 0


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


def test_images_that_cannot_be_read_are_told_and_seen_in_grey(nginx: Nginx, tmp_path: Path) -> None:
    good, _ = drone(nginx, "good", 700_000, 5_200_000)
    (nginx.root / "page.tif").write_bytes(b"<html>Sign in</html>")
    beside, _ = drone(nginx, "beside", 702_000, 5_200_000)
    whole = (nginx.root / "beside.tif").read_bytes()
    (nginx.root / "cut.tif").write_bytes(whole[: len(whole) // 2])
    addresses = {
        "missing": nginx.address("nothing.tif"),
        "forbidden": nginx.address("secret/x.tif"),
        "not_tiff": nginx.address("page.tif"),
        "truncated": nginx.address("cut.tif"),
        "refused_address": "http://127.0.0.1:1/a.tif",
        "bad_address": "file:///etc/passwd",
        "no_asset": None,
        "unknown_host": "https://nobody.invalid/a.tif",
    }
    images = [
        good,
        *(Image(id=name, footprint=beside.footprint, asset=address) for name, address in addresses.items()),
    ]
    bench = Bench(tmp_path, nginx.host)
    tally = bench.build(images)
    assert tally.read == 1
    assert {each.id: each.reason for each in tally.skipped} == {name: name for name in addresses}
    assert all(each.since == NOON.isoformat() for each in tally.skipped if each.id != "no_asset")
    middle = np.array([beside.footprint.centroid.coords[0], good.footprint.centroid.coords[0]])
    hint, shown = bench.seen_at(middle)
    assert 0 < hint[3] < 255
    assert np.ptp(hint[:3]) < 12
    assert shown[3] == 255
    again = bench.build(images)
    assert (again.requests, again.made, len(again.skipped)) == (0, 0, 8)
    bench.recipe = Recipe(hints=False)
    bench.build(images)
    assert bench.seen_at(middle)[0, 3] == 0


def test_what_failed_is_tried_again_on_the_next_day(nginx: Nginx, tmp_path: Path) -> None:
    of = utm(33, 650_000, 5_300_000, 3.0, (300, 250))
    image = Image(id="late", footprint=of.footprint(), asset=nginx.address("late.tif"))
    bench = Bench(tmp_path, nginx.host)
    assert [each.reason for each in bench.build([image]).skipped] == ["missing"]
    bench.now += timedelta(days=1)
    first = bench.build([image])
    assert [each.since for each in first.skipped] == [NOON.isoformat()]
    assert first.made == 0
    plain(nginx, "late", of, (200, 100, 50))
    assert bench.build([image]).read == 0
    bench.now += timedelta(days=1)
    assert bench.build([image]).read == 1
    middle = np.array([image.footprint.centroid.coords[0]])
    assert np.abs(bench.seen_at(middle)[0] - [200, 100, 50, 255]).max() < 12


def test_what_was_read_is_shown_while_its_host_is_away(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path
) -> None:
    of = utm(33, 450_000, 5_400_000, 3.0, (300, 250))
    plain(nginx, "lent", of, (200, 100, 50))
    content = (nginx.root / "lent.tif").read_bytes()
    host.script = lambda request: request.give(content)
    image = Image(id="lent", footprint=of.footprint(), asset=host.address("lent.tif"))
    bench = Bench(tmp_path, nginx.host, host.host)
    bench.build([image])
    host.script = lambda request: request.answer("503 Service Unavailable")
    bench.now += timedelta(days=8)
    assert bench.build([image]).read == 1
    beside = drone(nginx, "beside", 451_000, 5_400_000)[0]
    tally = bench.build([image, beside])
    assert tally.left > 0
    middle = np.array([image.footprint.centroid.coords[0]])
    assert np.abs(bench.seen_at(middle)[0] - [200, 100, 50, 255]).max() < 12
    bench.now += timedelta(days=60)
    bench.build([image, beside])
    assert bench.seen_at(middle)[0, 3] < 255


def test_a_host_that_fails_again_and_again_is_left_alone(host: ScriptedHost, tmp_path: Path) -> None:
    host.script = lambda request: request.answer("500 Internal Server Error")
    images = [
        Image(
            id=f"{n}",
            footprint=shapely.box(10 + n / 50, 10, 10.001 + n / 50, 10.001),
            asset=host.address(f"{n}.tif"),
        )
        for n in range(30)
    ]
    bench = Bench(tmp_path, host.host, workers=1)
    tally = bench.build(images)
    assert len(tally.skipped) == 30
    assert len(host.asked) == 5 * 3


def test_a_worker_that_dies_costs_one_image(nginx: Nginx, host: ScriptedHost, tmp_path: Path) -> None:
    """As when a decoder is led astray: the process is gone, the run goes on."""
    good = drone(nginx, "survivor", 530_000, 5_420_000)[0]
    bad = Image(id="deadly", footprint=good.footprint, asset=host.address())
    bench = Bench(tmp_path, nginx.host, host.host, workers=1)
    with bench.workers() as workers:
        host.script = lambda _: os.kill(workers.pids[0], signal.SIGSEGV)
        tally = bench.build([bad, good], running=workers)
    assert tally.read == 1
    assert [(each.id, each.reason) for each in tally.skipped] == [("deadly", "crashed")]


def test_a_worker_that_hangs_is_ended(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers that drip keep a socket busy for ever; whoever started the worker looks at the clock."""
    monkeypatch.setattr("oam_mosaic_assets.gateways.imagery.workers.GRACE_SECONDS", 1.0)
    good = drone(nginx, "patient", 560_000, 5_420_000)[0]
    bad = Image(id="dripping", footprint=good.footprint, asset=host.address())

    def drip(request: object) -> None:
        request.connection.sendall(b"HTTP/1.1 206 Partial Content\r\n")  # type: ignore[attr-defined]
        while True:
            time.sleep(0.1)
            request.connection.sendall(b"X")  # type: ignore[attr-defined]

    host.script = drip
    bench = Bench(tmp_path, nginx.host, host.host, workers=1, limits={"seconds": 2.0, "wait": 0.0})
    tally = bench.build([bad, good])
    assert tally.read == 1
    assert [(each.id, each.reason) for each in tally.skipped] == [("dripping", "slow")]


def test_a_worker_holds_no_secret(monkeypatch: pytest.MonkeyPatch, nginx: Nginx) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("GDAL_HTTP_PROXY", "http://127.0.0.1:1")
    with Workers(Rules(), LIMITS, count=1) as workers:
        given = iter([None])
        list(workers.run(lambda _: next(given)))
        (pid,) = workers.pids
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"hunter2" not in environment
    assert b"GDAL" not in environment
