"""Imagery of the whole world: partitions are brought up to date, and merged into one archive."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import shapely

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.grid import first_tile_id, tile_positions
from oam_mosaic_assets.core.imagery.audit import Unread
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, PARTITION_ZOOM, Tile, blocks_of
from oam_mosaic_assets.core.imagery.fragment import above, write_tiles
from oam_mosaic_assets.core.imagery.grey import GREY_PLAN, LAST_GREY
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.outcome import Reason
from oam_mosaic_assets.core.imagery.pixels import decoded
from oam_mosaic_assets.core.imagery.recipe import Image, Kind, Order, Recipe
from oam_mosaic_assets.core.imagery.state import State, Tally
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.tiling import ATTRIBUTION
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.coverage import Shown, make_coverage
from oam_mosaic_assets.gateways.imagery.addresses import AMAZON, Rules
from oam_mosaic_assets.gateways.imagery.partition import STATE, Budget
from oam_mosaic_assets.gateways.imagery.workers import Workers
from oam_mosaic_assets.gateways.imagery_blocks import Partition
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, StoredObject
from oam_mosaic_assets.gateways.open_files import more_files
from oam_mosaic_assets.gateways.publisher_lock import WRONG_CLOCKS
from oam_mosaic_assets.gateways.takedowns import Takedowns

COLUMNS: Final = ("id", "geometry", "asset", "gsd", "acquired_to", "updated", "render_params")

PARTITIONS: Final = "imagery"
"""Dagster's name for the dynamic partitions."""

_SHOWS: Final[Mapping[Kind, str]] = {
    "imagery": "What they show, where they could be read.",
    "hints": "What they show; in grey, where those lie that are not read.",
    "hybrid": f"To z{LAST_GREY} where they lie, in grey; from there on what they show.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageryPlan:
    """What the settings decide about imagery.

    Attributes:
        order: which image is on top where several show the same place.
        kind: what is shown.
        feather: width in pixels of the strip along an image's edge where it blends into those below it.
        tiles: where TiTiler draws tiles of single images; None reads the images themselves. See `Recipe`.
        private_hosts: hosts that may be contacted although they are not public; see `Rules`.
        s3_endpoint: the server that holds the buckets of s3 addresses.
        processes: how many read images.
        per_host: how many images are read from one host at a time.
        budget_bytes: the bytes that a run may receive; None for no limit.
        budget_seconds: the time after which a run begins to read no more images; None for no limit.
        seconds: the time that one image may take.
        memory: the bytes of memory that each process may use.
    """

    order: Order = "finest"
    kind: Kind = "hints"
    feather: int = 0
    tiles: str | None = None
    private_hosts: tuple[str, ...] = ()
    s3_endpoint: str = AMAZON
    processes: int = 2
    per_host: int = 4
    budget_bytes: int | None = None
    budget_seconds: float | None = None
    seconds: float = 90.0
    memory: int = 512 * 2**20

    @property
    def recipe(self) -> Recipe:
        """How blocks are made, with everything that affects their pixels."""
        libraries = (f"{each} {importlib.metadata.version(each)}" for each in ("rasterio", "pillow", "cmap"))
        return Recipe(
            order=self.order,
            kind=self.kind,
            feather=self.feather,
            tiles=self.tiles,
            libraries=tuple(libraries),
        )

    @property
    def name(self) -> str:
        """What is shown and how it is made: with another name the archive is another."""
        return f"{self.kind} {self.recipe.digest}"

    @property
    def rules(self) -> Rules:
        """Which addresses may be read."""
        return Rules(frozenset(each.lower() for each in self.private_hosts), self.s3_endpoint)

    def budget(self) -> Budget:
        """What a run that starts now may spend."""
        until = None if self.budget_seconds is None else time.monotonic() + self.budget_seconds
        return Budget(self.budget_bytes, until)


class ImageryMosaic:
    """The imagery in a store."""

    def __init__(self, store: ObjectStore, keys: Keys, plan: ImageryPlan) -> None:
        self._store = store
        self._keys = keys
        self.plan = plan

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """The processes that read images."""
        plan = self.plan
        limits: Mapping[str, Any] = {"seconds": plan.seconds}
        with Workers(
            plan.rules, limits, count=plan.processes, per_host=plan.per_host, memory=plan.memory
        ) as running:
            yield running

    def partition(self, tile: Tile) -> Partition:
        """One of its partitions."""
        return Partition(self._store, self._keys.imagery, tile, self.plan.recipe, self.plan.rules)

    def bring_up_to_date(
        self,
        snapshot: ByPartition,
        tiles: Sequence[Tile],
        scratch: Callable[[str], Path],
        budget: Budget,
        *,
        on_progress: Callable[[int, int, Tally], None],
    ) -> Tally:
        """Remake what changed in these partitions, without images that were taken down since the snapshot.

        Those come first that the last build has not finished, so that changes do not use up the budget of
        what was never read; but last, if each block that is left was begun in vain by two builds, so that one
        that takes more than a budget does not use it up every time.

        Args:
            snapshot: the images.
            tiles: the partitions.
            scratch: makes an empty folder with a given name.
            budget: what may be spent; see `ImageryPlan.budget`.
            on_progress: called with blocks done, blocks in all, and the tally of the finished partitions.
        """
        whole = Tally()
        blocks = snapshot.blocks(tiles)
        taken_down = Takedowns(self._store, self._keys).ids
        # without a limit the order does not matter, and the report may be long
        reported = {} if budget == Budget() else self._reported()
        begun = {int(each): times for each, times in reported.get("begun", {}).items()}
        with self.workers() as workers:
            for tile in _left_first(tiles, reported.get("unfinished", ()), begun):
                told = partial(_further, on_progress, whole, blocks)
                images = snapshot.images(tile)
                tally = self.partition(tile).build(
                    images,
                    workers,
                    scratch("partition"),
                    budget,
                    taken_down=taken_down,
                    begun=begun,
                    on_progress=told,
                )
                whole = Tally.total([whole, tally])
                on_progress(whole.blocks, blocks, whole)
        return whole.of_images(snapshot.count(tiles))

    def sweep(self, named: Set[str], *, snapshot_taken_at: datetime) -> None:
        """Delete all partitions but these: they no longer hold any imagery.

        Those that were written to since the snapshot stay until the next sweep: a build of a newer one may be
        reading their images.

        Args:
            named: the partitions of a build that is public.
            snapshot_taken_at: when its snapshot was, UTC.
        """
        root, others = self._keys.imagery, dict[str, list[StoredObject]]()
        for each in self._store.keys(root):
            name, _, rest = each.key.removeprefix(root).partition("/")
            if rest and name not in named:
                others.setdefault(name, []).append(each)
        since = snapshot_taken_at - WRONG_CLOCKS  # the store's clock may be behind the catalogue's
        gone = [there for there in others.values() if all(each.written_at < since for each in there)]
        self._store.delete([each.key for there in gone for each in there])

    def report(self, tally: Tally, build: str) -> bytes:
        """Store the report of what was read and what was not, and return it."""
        stated = asdict(tally)
        del stated["shown"], stated["partitions"]
        content = json.dumps({"build": build, **stated}, ensure_ascii=False, indent=1).encode()
        self._store.put_bytes(self._keys.imagery_report, content, Headers("application/json"))
        return content

    def joined(self, tiles: Collection[Tile], left: int) -> dict[str, Any]:
        """What a build's manifest states for `has_more`.

        To be asked before it joins the partitions: what another machine builds meanwhile counts as more.

        Args:
            tiles: the partitions.
            left: how many of their blocks are left because its budget was spent.
        """
        names = {each.partition for each in tiles}
        return {"names": sorted(names), "partitions": self._built(names), "left": left}

    def has_more(self, joined: Mapping[str, Any]) -> bool:
        """Whether a build of the same images would show more than one that stated this; see `joined`.

        It would if another machine has built partitions since, or if it may go on where that one's budget
        ended.
        """
        goes_on = bool(joined.get("left")) and not self.plan.budget().is_spent
        # others may be there that a sweep has spared; manifests of earlier versions have no names
        names = set(joined["names"]) if "names" in joined else None
        return goes_on or joined.get("partitions") != self._built(names)

    def _built(self, names: Set[str] | None) -> str:
        """A digest of the states of these partitions, or of all, as they are now."""
        root = self._keys.imagery
        states = [
            (name, each.etag)
            for each in self._store.keys(root)
            for name, _, rest in [each.key.removeprefix(root).partition("/")]
            if rest == STATE and (names is None or name in names)
        ]
        return hashlib.sha256(json.dumps(states).encode()).hexdigest()[:32]

    def unread(self, build: str) -> Unread | None:
        """What a build has not read, from its report; None if that is gone, or another build's by now."""
        told = self._reported()
        if told.get("build") != build:
            return None
        skipped = (each["id"] for each in told["skipped"] if each["reason"] != Reason.ELSEWHERE)
        return Unread(
            failed=frozenset(skipped),
            waiting=frozenset(told["waiting"]),
            unfinished=frozenset(told.get("unfinished", ())),
            grey=frozenset(told.get("grey", ())),
        )

    def _reported(self) -> dict[str, Any]:
        """The report of the last build; empty if there is none, or none that can be read."""
        found = self._store.get_bytes(self._keys.imagery_report)
        with suppress(ValueError):
            return dict(json.loads(found[0])) if found else {}
        return {}

    def write(
        self,
        target: Path,
        snapshot: ByPartition,
        tiles: Sequence[Tile],
        folder: Path,
        *,
        holding: Mapping[str, Collection[str]],
        shown: Shown,
    ) -> None:
        """Merge all partitions into one archive.

        Args:
            target: the archive's path; must not exist.
            snapshot: the images.
            tiles: the partitions; those that hold nothing yet are skipped.
            folder: empty, for copies of their archives.
            holding: `Tally.partitions` from when they were brought up to date.
            shown: the footprints.

        Raises:
            StoreUnavailable: another machine has built a partition meanwhile, of images that are not in the
                snapshot or without some that it showed, or what it held is gone.
        """
        roots: dict[Tile, bytes] = {}
        with ExitStack() as stack, more_files(len(tiles)):
            sources = []
            for tile in tiles:
                if (found := self.partition(tile).archives(folder)) is None:
                    if tile.partition in holding:
                        raise self._emptied(tile)
                    continue
                archive, exact, state = found
                _refuse_others(state, snapshot, tile, holding.get(tile.partition, ()))
                sources.append(Source.of_archive(stack.enter_context(open_archive(archive))))
                if self.plan.kind != "hybrid" and (root := _root(exact, tile)) is not None:
                    roots[tile] = root
                exact.unlink()
            made, _ = above(0, list(roots), PARTITION_ZOOM, lambda tile: decoded(roots[tile]))
            if self.plan.kind == "hybrid":
                grey = folder / "grey.pmtiles"
                make_coverage(GREY_PLAN, shown, grey, before="it is drawn in seconds")
                sources = [_below(each, LAST_GREY) for each in sources]
                sources.append(Source.of_archive(stack.enter_context(open_archive(grey))))
            told = {
                "name": "OpenAerialMap imagery",
                "description": f"Openly licensed images of OpenAerialMap. {_SHOWS[self.plan.kind]}",
                "attribution": ATTRIBUTION,
                "type": "overlay",
                "format": "webp",
                "kind": self.plan.kind,
                "snapshot": shown.snapshot,
            }
            write_tiles(target, sources, made, told, zooms=(0, FINEST), bounds=shown.bounds)

    def _emptied(self, tile: Tile) -> StoreUnavailable:
        """The error for what this build has read and its archive would lack: no audit would notice."""
        return StoreUnavailable(
            f"The partition {tile.partition} in {self._store.origin} was deleted after this build had "
            "brought it up to date.",
            hint="Build again: the partition is read again. If this recurs, check who else deletes there.",
        )


def _left_first(tiles: Sequence[Tile], unfinished: Sequence[int], begun: Mapping[int, int]) -> list[Tile]:
    """Partitions in the order in which `bring_up_to_date` takes them; see `Tally` for what it is told."""
    places = np.column_stack(tile_positions(np.array(unfinished, np.int64), BLOCK_ZOOM))
    least: dict[Tile, int] = {}
    for block, (x, y) in zip(unfinished, (places >> (BLOCK_ZOOM - PARTITION_ZOOM)).tolist(), strict=True):
        times = begun.get(block, 0)
        least[Tile(x, y)] = min(times, least.get(Tile(x, y), times))

    def turn(tile: Tile) -> int:
        if tile not in least:
            return 1
        # a block that was begun once may have been the last one that a budget reached
        return 0 if least[tile] <= 1 else least[tile]

    return sorted(tiles, key=turn)


def _refuse_others(state: State, snapshot: ByPartition, tile: Tile, shown: Collection[str]) -> None:
    """Refuse a partition that shows an image which is not in the snapshot, such as one that was taken down.

    Also one that was made without an image that the build counts as shown, as from an older snapshot. Pixels
    bear no ids, so nothing that follows would notice.
    """
    of = ""
    if others := len(state.images - snapshot.ids(tile)):
        of = f"of images that this build's snapshot does not have ({others:,})"
    elif lost := len(set(shown) - state.images):
        of = f"without images that this build has read ({lost:,})"
    if of:
        raise StoreUnavailable(
            f"Another machine has built the partition {tile.partition} meanwhile, {of}.",
            hint="Build again: the partition is made of the catalogue's images then.",
        )


def _below(source: Source, zoom: int) -> Source:
    """Its tiles at the zooms after this one."""
    entries = source.entries
    return Source(source.descriptor, entries[entries.tile_id >= first_tile_id(zoom + 1)])


def _root(path: Path, tile: Tile) -> bytes | None:
    """The partition's own tile, as lossless WEBP; None if nothing is visible at its zoom."""
    with open_archive(path) as archive:
        tiles = laid_in(archive)
        for _, content in contents(archive, tiles[tiles.tile_id == tile.id(PARTITION_ZOOM)]):
            return content
    return None


def _further(on_progress: Callable[[int, int, Tally], None], whole: Tally, blocks: int, done: int) -> None:
    on_progress(whole.blocks + done, blocks, whole)


class ByPartition:
    """The images of a snapshot by partition: on disk, so that memory use does not grow."""

    def __init__(self, footprints: Path, folder: Path) -> None:
        """Sort the images by partition.

        Args:
            footprints: the GeoParquet.
            folder: where the database file goes; it is removed with the folder.
        """
        self._database = sqlite3.connect(folder / "partitions.sqlite", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE images (x, y, row, stated)",
            "CREATE TABLE blocks (x, y, PRIMARY KEY (x, y)) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)
        before = 0
        for rows in read_batches(footprints, COLUMNS):
            which, places = blocks_of(shapely.from_wkb(rows["geometry"].to_numpy()))
            coarse = places >> (BLOCK_ZOOM - PARTITION_ZOOM)
            pairs = np.unique(np.column_stack([which, coarse]), axis=0).tolist()
            stated = [pickle.dumps(rows.row(row)) for row in range(len(rows))]
            self._database.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", places.tolist())
            self._database.executemany(
                "INSERT INTO images VALUES (?, ?, ?, ?)",
                ((x, y, before + row, stated[row]) for row, x, y in pairs),
            )
            before += len(rows)
        self._database.execute("CREATE INDEX places ON images (x, y)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def tiles(self) -> list[Tile]:
        """All partitions with imagery, in the order of columns, then rows."""
        found = self._database.execute("SELECT DISTINCT x, y FROM images ORDER BY x, y")
        return [Tile(x, y) for x, y in found]

    def blocks(self, tiles: Sequence[Tile]) -> int:
        """How many blocks these partitions have."""
        zooms = BLOCK_ZOOM - PARTITION_ZOOM
        counted = self._database.execute(
            "SELECT x >> ?, y >> ?, count(*) FROM blocks GROUP BY 1, 2", (zooms, zooms)
        )
        wanted = set(tiles)
        return sum(count for x, y, count in counted if Tile(x, y) in wanted)

    def count(self, tiles: Sequence[Tile]) -> int:
        """How many images touch any of these partitions."""
        marks = ", ".join("?" * len(tiles))
        (found,) = self._database.execute(
            f"SELECT count(DISTINCT row) FROM images WHERE (x << ?) | y IN ({marks})",  # noqa: S608  # only `?`s
            (PARTITION_ZOOM, *((each.x << PARTITION_ZOOM) | each.y for each in tiles)),
        ).fetchone()
        return int(found)

    def images(self, tile: Tile) -> list[Image]:
        """The images that touch a partition."""
        return [
            Image(footprint=shapely.from_wkb(each.pop("geometry")), **each) for each in self._stated(tile)
        ]

    def ids(self, tile: Tile) -> set[str]:
        """Their ids."""
        return {each["id"] for each in self._stated(tile)}

    def _stated(self, tile: Tile) -> Iterator[dict[str, Any]]:
        """What the snapshot says of each of them, by column."""
        place = (tile.x, tile.y)
        for (stated,) in self._database.execute("SELECT stated FROM images WHERE x = ? AND y = ?", place):
            # written a moment ago, by this process
            yield dict(zip(COLUMNS, pickle.loads(stated), strict=True))  # noqa: S301
