"""The audit of an imagery archive: it is whole and as requested, and images are where they should be."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from pmtiles.tile import Compression, TileType

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.coverage_audit import judge_coverage
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tile_name, tile_positions
from oam_mosaic_assets.core.imagery.blocks import BLOCK, BLOCK_ZOOM, FINEST, blocks_of, in_pixels
from oam_mosaic_assets.core.imagery.grey import GREY_PLAN, LAST_GREY
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.pixels import TILE, decoded, halved
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.palette import NOT_DECODED, BrokenPicture
from oam_mosaic_assets.core.placement import chosen_by_digest
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.stretches import Stretches

IMAGERY_CHECKS: Final = {
    "archive_is_whole": "Every directory can be decoded, every tile is a WEBP of 256 by 256 pixels.",
    "archive_is_as_asked": "Header and metadata match what was asked for.",
    "every_image_is_accounted_for": "Each image is shown, skipped with a reason, or waits for the next run.",
    "images_lie_where_they_should": "Tiles are only where images are, each with those above and below it.",
    "no_image_is_a_hole": "Images not read are grey, and the upper zooms of a hybrid show all images.",
}
"""The checks by name, in the order in which they are made, and what each one verifies."""

DECODED: Final = 500
"""How many tiles are decoded, chosen by digest; of all others only the header is checked."""

_HEAD: Final = 12

_SEEN: Final = 6.0
"""Radius, in pixels of `FINEST`, of a disc that contains a whole pixel of `BLOCK_ZOOM` wherever it is."""

_JAGGED: Final = 500
"""Corners; moving in an outline that has thousands takes minutes, as each side may meet all others."""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a build has not read.

    Attributes:
        failed: ids of the images that could not be read.
        waiting: ids of those that no block shows yet.
        unfinished: ids of the tiles at `BLOCK_ZOOM` whose blocks are not up to date.
        grey: ids of those in which an image could not be read; in others it may have been, and show nothing.
    """

    failed: Collection[str] = frozenset()
    waiting: Collection[str] = frozenset()
    unfinished: Set[int] = frozenset()
    grey: Set[int] = frozenset()


ALL_READ: Final = Unread()


def examine_imagery(
    archive: Path,
    footprints: Path,
    *,
    snapshot: str,
    extent: tuple[float, float, float, float],
    tally: Mapping[str, Any],
    unread: Unread | None = ALL_READ,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Audit an imagery archive.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet of the images that it shows.
        snapshot: the digest of the snapshot.
        extent: bounds of all its footprints: west, south, east, north, degrees.
        tally: what became of the images, in numbers, and the archive's kind.
        unread: what was not read; None if that is unknown.
        on_progress: called now and then with the share of tiles checked, 0 to 1.
    """
    try:
        with open_archive(archive) as opened:
            tiles, faults = _looked_through(opened, snapshot, on_progress)
            return [
                _wholeness(tiles.tile_id, faults),
                _header(opened, snapshot, extent, tally["kind"]),
                _accounts(tally),
                _placement(opened, tiles, footprints, tally),
                _holes(opened, tiles, footprints, snapshot, tally["kind"], unread),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _looked_through(
    archive: Archive, snapshot: str, on_progress: Callable[[float], None]
) -> tuple[Directory, list[str]]:
    """Check all tiles; returns their entries, one per tile in the order of ids, and the faults found."""
    tiles = laid_in(archive)
    which = tiles.distinct()
    closely = set(chosen_by_digest([str(each) for each in which.tolist()], snapshot, DECODED))
    faults = []
    for number, index in enumerate(which.tolist()):
        if number % 1000 == 0:
            on_progress(number / len(which))
        whole = number in closely
        ((tile_id, content),) = contents(archive, tiles[index : index + 1], most=None if whole else _HEAD)
        if fault := _fault(content, int(tiles.length[index]), whole=whole):
            faults.append(f"tile {tile_id}: {fault}")
    return tiles, faults


def _fault(content: bytes, length: int, *, whole: bool) -> str:
    # a RIFF header states the length, rounded up to an even number
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return "it is not a WEBP picture"
    if int.from_bytes(content[4:8], "little") + 8 != length:
        return "it is cut short"
    if whole:
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
                picture.load()
                if picture.size != (TILE, TILE):
                    return f"it has {picture.size} pixels"
        except NOT_DECODED as error:
            return f"it does not decode: {error}"
    return ""


def _wholeness(tiles: NDArray[np.int64], faults: list[str]) -> Verdict:
    name = "archive_is_whole"
    if faults:
        return Verdict.failing(name, f"{len(faults)} tiles are broken, first {'; '.join(faults[:5])}")
    zooms = np.searchsorted([first_tile_id(zoom + 1) for zoom in range(FINEST + 1)], tiles, side="right")
    by_zoom = {str(zoom): count for zoom, count in sorted(Counter(zooms.tolist()).items())}
    text = f"all {len(tiles):,} tiles are WEBP"
    return Verdict.passing(name, text, tiles=len(tiles), tiles_by_zoom=by_zoom)


def _header(archive: Archive, snapshot: str, extent: tuple[float, float, float, float], kind: str) -> Verdict:
    name, header = "archive_is_as_asked", archive.header
    expected = {
        "tile type": (header["tile_type"], TileType.WEBP),
        "compression": (header["tile_compression"], Compression.NONE),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (0, FINEST)),
        "snapshot": (archive.metadata.get("snapshot"), snapshot),
        "kind": (archive.metadata.get("kind"), kind),
        "clustered": (header["clustered"], True),
    }
    wrong = [f"{what} is {found}, not {right}" for what, (found, right) in expected.items() if found != right]
    if not np.allclose(archive.bounds, extent, atol=1e-6):
        wrong.append(f"bounds are {archive.bounds}, not {extent}")
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"WEBP, z0-{FINEST}, {kind}, of snapshot {snapshot[:12]}")


def _accounts(tally: Mapping[str, Any]) -> Verdict:
    name, (images, read, left) = (
        "every_image_is_accounted_for",
        (tally[n] for n in ("images", "read", "left")),
    )
    skipped = sum(tally["skipped"].values())
    numbers = {"images": images, "read": read, "skipped": skipped, "blocks left": left}
    if read + skipped > images or (read + skipped < images and not left):
        return Verdict.failing(
            name, f"{read:,} shown and {skipped:,} skipped do not add up to {images:,}", **numbers
        )
    waiting = images - read - skipped
    waits = f", {waiting:,} left for the next run" if waiting else ""
    return Verdict.passing(
        name, f"{read:,} of {images:,} images shown, {skipped:,} skipped{waits}", **numbers
    )


def _placement(archive: Archive, tiles: Directory, footprints: Path, tally: Mapping[str, Any]) -> Verdict:
    name, ids = "images_lie_where_they_should", tiles.tile_id
    touched = [np.zeros(0, np.int64)]
    for rows in read_batches(footprints, ("geometry",)):
        _, places = blocks_of(shapely.from_wkb(rows["geometry"].to_numpy()))
        touched.append(np.unique(tile_ids(BLOCK_ZOOM, places[:, 0], places[:, 1])))
    blocks = np.unique(np.concatenate(touched))
    of_zoom = [
        ids[(ids >= first_tile_id(zoom)) & (ids < first_tile_id(zoom + 1))] for zoom in range(FINEST + 1)
    ]
    wrong: list[str] = []
    if len(outside := np.setdiff1d(of_zoom[BLOCK_ZOOM], blocks)):
        wrong.append(f"{len(outside)} tiles of z{BLOCK_ZOOM} are where there is no image, first {outside[0]}")
    for zoom in range(1, FINEST + 1):
        x, y = tile_positions(of_zoom[zoom], zoom)
        parents = tile_ids(zoom - 1, x >> 1, y >> 1)
        missing = [
            each
            for each in np.setdiff1d(parents, of_zoom[zoom - 1]).tolist()
            if not _fades(archive, tiles, of_zoom[zoom][parents == each])
        ]
        if missing:
            wrong.append(f"{len(missing)} tiles of z{zoom - 1} are missing above others, first {missing[0]}")
        if tally["kind"] == "hybrid" and zoom <= LAST_GREY + 1:
            continue  # an image may be there that shows nothing; `_holes` checks these zooms
        if len(alone := np.setdiff1d(of_zoom[zoom - 1], parents)):
            wrong.append(f"{len(alone)} tiles of z{zoom - 1} have none below them, first {alone[0]}")
    if tally["read"] and not len(tiles):
        wrong.append("there are no tiles, though images were read")
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"{len(of_zoom[BLOCK_ZOOM]):,} of {len(blocks):,} blocks show something")


def _holes(
    archive: Archive, tiles: Directory, footprints: Path, snapshot: str, kind: str, unread: Unread | None
) -> Verdict:
    name = "no_image_is_a_hole"
    if kind == "imagery":
        return Verdict.passing(name, "nothing is grey, as asked for")
    if unread is None:  # another build, or a takedown, has taken the place of its report
        return Verdict.failing(name, "the report of what this build did not read is gone")
    count, missing = _missing(footprints, set(tiles.tile_id.tolist()), unread)
    wrong = []
    if missing:
        tile = tile_name(min(missing))
        wrong.append(f"{len(missing)} tiles are missing where images were not read, first {tile}")
    if kind == "hybrid":
        upper = Stretches.of_zooms(0, LAST_GREY).cut(Source.of_archive(archive).entries)[0]
        try:
            grey = judge_coverage(Source(archive.descriptor, upper), footprints, GREY_PLAN, snapshot=snapshot)
        except BrokenPicture as error:
            wrong.append(f"a tile above z{LAST_GREY + 1} is not grey: {error}")
        else:
            wrong += [each.text for each in grey if not each.passed]
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    above = f", and z0-{LAST_GREY} show all images" if kind == "hybrid" else ""
    return Verdict.passing(name, f"all {count:,} images that were not read are grey{above}")


def _missing(footprints: Path, there: Collection[int], unread: Unread) -> tuple[int, set[int]]:
    """How many images were not read, and the tiles of `BLOCK_ZOOM` that should be grey but are not there."""
    count, missing = 0, set[int]()
    for rows in read_batches(footprints, ("id", "geometry")):
        for image, geometry in zip(rows["id"].to_list(), rows["geometry"].to_list(), strict=True):
            if image not in unread.failed and image not in unread.waiting:
                continue
            count += 1
            bare = set(_surely_seen(shapely.from_wkb(geometry))).difference(there)
            # an image that waits may show nothing in a block that was finished
            missing |= bare & (unread.grey if image in unread.failed else unread.unfinished)
    return count, missing


def _surely_seen(footprint: Area) -> list[int]:
    """The tiles of `BLOCK_ZOOM` in which a footprint is certain to cover at least one pixel."""
    _, places = blocks_of(np.array([footprint], dtype=object))
    x, y = places.T
    inside = shapely.intersection(
        in_pixels(footprint), shapely.box(x * BLOCK, y * BLOCK, (x + 1) * BLOCK, (y + 1) * BLOCK)
    )
    # no place is farther from the outline than the radius of the largest disc, so radius times length is more
    seen = shapely.area(inside) > _SEEN * shapely.length(inside)
    rest = ~seen & (shapely.get_num_coordinates(inside) <= _JAGGED)
    seen[rest] = ~shapely.is_empty(shapely.buffer(inside[rest], -_SEEN))
    found: list[int] = tile_ids(BLOCK_ZOOM, x[seen], y[seen]).tolist()
    return found


def _fades(archive: Archive, tiles: Directory, children: NDArray[np.int64]) -> bool:
    """Whether these tiles show so little that nothing of it is left at half their size."""
    below = tiles[np.searchsorted(tiles.tile_id, children)]
    return not any(halved(decoded(content)).any() for _, content in contents(archive, below))
