"""The footprints of one snapshot as files: a GeoParquet of what can be drawn, a table of what cannot.

Footprints are written in batches, so that memory does not grow with the catalogue; only what is set aside is
held whole. Footprints are in drawing order, oldest first: by acquisition end, unknown before all others, then
by id, so that the order is total.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, overload

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.cutting import cut_up
from oam_mosaic_assets.core.drawing_order import SCHEMA, SIDES, DrawingOrder
from oam_mosaic_assets.core.footprint import NAMELESS, Footprint, SetAside
from oam_mosaic_assets.core.geoparquet import geo_metadata, reach_of
from oam_mosaic_assets.core.grid import mended, to_tiles
from oam_mosaic_assets.core.rereading import HASHES, READING_KEY, Kept, together, with_hashes
from oam_mosaic_assets.core.tiling import MITRE, TilingPlan

BATCH: Final = 1024
"""Rows held in memory at a time; a footprint with its attributes is about 2 kB."""

ROW_GROUP: Final = 8 * BATCH
"""Rows that are compressed together; reading one batch decompresses no more than these."""

_JAGGED: Final = 100
"""An outline with more corners is simplified before its edge is moved in or out."""

_JAG: Final = 1 / 16
"""Tolerance of that simplification, as a share of `thinnest`; an eighth of a tile unit."""

TABLE: Final = pl.Schema({**SCHEMA, "item_hash": HASHES["item_hash"]})
"""The columns of the GeoParquet."""

SET_ASIDE_SCHEMA: Final = pl.Schema({"id": pl.String(), "reason": pl.String(), "value": pl.String()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a snapshot holds, in numbers. The catalogue's count is `drawable + set_aside_count + outside`.

    Attributes:
        taken_at: when the catalogue was read, UTC.
        drawable: number of images with a footprint.
        set_aside: number of images without one, by reason.
        outside: number of images left out because they do not touch the box that was asked for.
        unknown: number of values that could not be read, by name and reason.
        bounds: west, south, east, north of all footprints, degrees; None if there are none.
        newest: the latest acquisition, UTC.
        digest: SHA-256 in hex of all footprints in drawing order and everything that was set aside.
    """

    taken_at: datetime
    drawable: int
    set_aside: Mapping[str, int]
    outside: int
    unknown: Mapping[str, int]
    bounds: tuple[float, float, float, float] | None
    newest: datetime | None
    digest: str

    @property
    def set_aside_count(self) -> int:
        """Number of images that cannot be drawn, whatever the reason."""
        return sum(self.set_aside.values())

    @property
    def catalogued(self) -> int:
        """Number of images that this snapshot accounts for."""
        return self.drawable + self.set_aside_count


def write_snapshot(
    rows: Iterable[Footprint | SetAside],
    *,
    taken_at: datetime,
    footprints: Path,
    set_aside: Path,
    scratch: Path,
    box: tuple[float, float, float, float] | None = None,
    kept: Kept | None = None,
    hashes: pl.DataFrame | None = None,
    reading: str = "",
) -> Snapshot:
    """Write what was read and what is taken over to two Parquet files, and count it.

    An item whose id was read before is set aside: the archive and the audit are keyed by id.

    Args:
        rows: the result of `read_item` for each item, in any order.
        footprints: path of the GeoParquet to write.
        set_aside: path of the set-aside table to write.
        scratch: an empty folder for rows that are not sorted yet.
        box: west, south, east, north, degrees; only footprints that touch it are kept.
        kept: what is taken over from an earlier snapshot; `rows` contain none of it.
        hashes: hashes of the items, as far as they are known.
        reading: see `rereading.reading_digest`.
    """
    frame = None if box is None else shapely.box(*box)
    aside: list[SetAside] = []
    outside = 0
    rows = iter(rows)
    with DrawingOrder(scratch / "footprints.sqlite") as ordered:
        while batch := list(islice(rows, BATCH)):
            aside += [row for row in batch if isinstance(row, SetAside)]
            drawable = [row for row in batch if isinstance(row, Footprint)]
            inside = [row for row in drawable if frame is None or row.geometry.intersects(frame)]
            outside += len(drawable) - len(inside)
            for row, is_new in zip(inside, ordered.add(inside), strict=True):
                if not is_new:
                    aside.append(SetAside(row.id, "duplicate_id", row.id))
        whole = _in_order(ordered, scratch, kept)
    reach = reach_of(whole)
    metadata = {"geo": geo_metadata(reach), READING_KEY: reading}
    with_hashes(whole, hashes).sink_parquet(
        footprints, metadata=metadata, row_group_size=ROW_GROUP, engine="streaming"
    )
    aside.sort(key=lambda each: (each.id, each.reason, each.value))
    pl.DataFrame([(a.id, a.reason, a.value) for a in aside], SET_ASIDE_SCHEMA, orient="row").write_parquet(
        set_aside
    )
    return Snapshot(
        taken_at=taken_at,
        drawable=reach.images,
        set_aside=dict(sorted(Counter(each.reason for each in aside).items())),
        outside=outside,
        unknown=reach.unknown,
        bounds=reach.bounds,
        newest=reach.newest,
        digest=_digest(footprints, map(astuple, aside)),
    )


def read_batches(footprints: Path, columns: Iterable[str]) -> Iterator[pl.DataFrame]:
    """The footprints in drawing order, `BATCH` rows at a time."""
    rows = _scan(footprints).select(*columns)
    for start in range(0, _count(rows), ROW_GROUP):  # each slice opens the file and reads its footer
        yield from rows.slice(start, ROW_GROUP).collect().iter_slices(BATCH)


def rows_in(images: NDArray[np.int64], start: int, batch: pl.DataFrame) -> NDArray[np.int64]:
    """The rows of a batch that are some images.

    Args:
        images: indices of the images, ascending.
        start: index of the batch's first image.
        batch: the batch.
    """
    return images[slice(*np.searchsorted(images, [start, start + len(batch)]))] - start


def areas_of(
    footprints: Path, images: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.object_]]]:
    """The areas of some images, EPSG:4326, with their indices; about as many at a time as a batch has rows.

    Args:
        footprints: the GeoParquet.
        images: indices of the images, ascending.
    """
    if not len(images):
        return
    start = first = 0
    held: list[NDArray[np.object_]] = []
    for batch in read_batches(footprints, ("geometry",)):
        after = first + sum(map(len, held))
        end = int(np.searchsorted(images, start + len(batch)))
        held.append(batch["geometry"].to_numpy()[images[after:end] - start])
        start += len(batch)
        if end - first >= BATCH:
            yield images[first:end], shapely.from_wkb(np.concatenate(held))
            first, held = end, []
    if first < len(images):
        yield images[first:], shapely.from_wkb(np.concatenate(held))


def frames_of(boxes: pl.Series) -> NDArray[np.float64]:
    """The bounding boxes of images, in tile coordinates of zoom 0.

    Args:
        boxes: the column `bbox` of footprints.

    Returns:
        shape (n, 4): west, north, east, south.
    """
    west, south, east, north = boxes.struct.unnest().select(SIDES).to_numpy().T
    corners = [to_tiles(np.column_stack(each), 0) for each in ((west, north), (east, south))]
    return np.column_stack(corners)


class Names(Sequence[str]):
    """The ids of all or some images of a snapshot by index, read from its file whenever they are asked for.

    Args:
        footprints: the GeoParquet.
        images: indices of the images, ascending; None for all, in drawing order.
    """

    def __init__(self, footprints: Path, images: NDArray[np.int64] | None = None) -> None:
        self._footprints = footprints
        self._images = np.arange(_count(_scan(footprints))) if images is None else images

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[str]:
        if not len(self):
            return
        rows = _scan(self._footprints).select("id")
        group = self._images // ROW_GROUP
        for some in np.split(self._images, np.flatnonzero(np.diff(group)) + 1):
            start = int(some[0]) // ROW_GROUP * ROW_GROUP
            yield from rows.slice(start, ROW_GROUP).collect()["id"][some - start]

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice | NDArray[np.int64]) -> Names: ...

    def __getitem__(self, number: int | slice | NDArray[np.int64]) -> str | Names:
        """The id of an image, or those of several, whose numbers ascend."""
        found = self._images[number]
        if isinstance(number, slice | np.ndarray):
            return Names(self._footprints, found)
        (name,) = Names(self._footprints, np.array([found]))
        return name


def snapshot_digest(footprints: Path, set_aside: Path) -> str:
    """The digest of a snapshot, from the files that `write_snapshot` wrote."""
    return _digest(footprints, pl.read_parquet(set_aside, glob=False).iter_rows())


def write_geojson(
    footprints: Path,
    geojson: Path,
    *,
    plan: TilingPlan,
    images: NDArray[np.int64] | None = None,
) -> int:
    """Write tippecanoe's input: one feature per line, in drawing order.

    A footprint that tippecanoe's rounding to its grid would wipe out is widened. One that is too narrow only
    for some zooms has a line for each of these, and another for all zooms after them.

    Args:
        footprints: the GeoParquet.
        geojson: path of the newline-delimited GeoJSON (RFC 7946) to write.
        plan: the zooms, which show every footprint from `whole_from` on, and the properties of each.
        images: indices of the footprints to write, ascending; None for all.

    Returns:
        How many of these footprints had to be widened for the last zoom.
    """
    widened = start = 0
    with geojson.open("w", encoding="utf-8") as lines:
        for batch in read_batches(footprints, (*plan.columns, "geometry")):
            rows = batch if images is None else batch[rows_in(images, start, batch)]
            start += len(batch)
            geometries = shapely.from_wkb(rows["geometry"].to_numpy())
            stated = [
                json.dumps(plan.properties_of(row), ensure_ascii=False, separators=(",", ":"))
                for row in rows.select(plan.columns).iter_rows(named=True)
            ]
            last = as_drawn(geometries, plan.thinnest)
            widened += int((last != geometries).sum())
            lines.writelines(
                f'{{"type":"Feature",{_limits(zoom, plan)}"properties":{stated[image]},"geometry":{area}}}\n'
                for image, zoom, area in _by_zoom(geometries, last, plan)
            )
    return widened


def _limits(zooms: tuple[int, int], plan: TilingPlan) -> str:
    """The part of a line that limits the zooms at which it is drawn."""
    first, last = zooms
    if zooms == (plan.whole_from, plan.zoom_max):
        return ""  # drawn at all zooms
    return f'"tippecanoe":{{"minzoom":{first},"maxzoom":{last}}},'


def _by_zoom(
    geometries: NDArray[np.object_], last: NDArray[np.object_], plan: TilingPlan
) -> Iterator[tuple[int, tuple[int, int], str]]:
    """Image, first and last zoom, and area in GeoJSON of each line; in the order of images."""
    lines: list[tuple[int, tuple[int, int]]] = []
    areas = [last]
    first = np.full(len(geometries), plan.whole_from)
    rest = np.arange(len(geometries))
    for zoom in range(plan.whole_from, plan.zoom_max):
        rest = rest[too_thin(geometries[rest], plan.thinnest_at(zoom))]
        lines += [(image, (zoom, zoom)) for image in rest.tolist()]
        areas.append(as_drawn(geometries[rest], plan.thinnest_at(zoom)))
        first[rest] = zoom + 1
    own = [(image, (zoom, plan.zoom_max)) for image, zoom in enumerate(first.tolist())]
    lines = own + lines
    order = np.argsort([image for image, _ in lines], kind="stable").tolist()
    for each, area in zip(order, shapely.to_geojson(np.concatenate(areas)[order]), strict=True):
        yield *lines[each], area


def as_drawn(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.object_]:
    """The areas as they are given to tippecanoe: those that its rounding would wipe out are widened.

    Args:
        geometries: EPSG:4326.
        thinnest: areas that hold no disc of this diameter are widened, degrees.
    """
    thin = too_thin(geometries, thinnest)
    wide = geometries.copy()
    pieces, of = _plain(geometries[thin], thinnest)
    # slivers with hardly any area have tips for which GEOS divides by zero, and which it cuts off
    with np.errstate(all="ignore"):
        # mitred, so that a widened rectangle stays one
        pieces = shapely.buffer(pieces, thinnest, join_style="mitre", mitre_limit=MITRE)
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    widened = pieces[begins]
    for which in np.flatnonzero(np.diff(begins, append=len(pieces)) > 1).tolist():
        widened[which] = shapely.simplify(shapely.union_all(pieces[of == which]), thinnest * _JAG)
    wide[thin] = widened
    return wide


def _plain(thin: NDArray[np.object_], thinnest: float) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Thin areas without the corners that nobody would see once they are widened.

    Widening moves each side of an outline out by more than a jag is long, so that it meets all the others;
    resolving that takes minutes if there are some thousands. So an area that still has as many is cut up.

    Returns:
        Pieces with few corners each, and the index of the area that each is a piece of, ascending.
    """
    found = _without_jags(thin, thinnest)
    whole = [[] if area.is_empty else [area] for area in found]
    jagged = np.flatnonzero(shapely.get_num_coordinates(thin) > _JAGGED)
    parts, of = shapely.get_parts(thin[jagged], return_index=True)
    lost = ~shapely.intersects(parts, found[jagged[of]])  # thinner than the tolerance: a line is as good
    lines = shapely.simplify(shapely.boundary(parts[lost]), thinnest * _JAG, preserve_topology=False)
    for which, line in zip(jagged[of[lost]].tolist(), lines, strict=True):
        whole[which].append(line)
    pieces = [[piece for area in each for piece in cut_up(area, thinnest)] for each in whole]
    of = np.repeat(np.arange(len(thin)), [len(each) for each in pieces])
    return np.array([piece for each in pieces for piece in each], dtype=object), of


def _without_jags(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.object_]:
    """Outlines of many corners, simplified by a share of `thinnest` to remove jags; some may become empty."""
    found = geometries.copy()
    jagged = shapely.get_num_coordinates(geometries) > _JAGGED
    found[jagged] = mended(shapely.simplify(geometries[jagged], thinnest * _JAG, preserve_topology=False))
    return found


def too_thin(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.bool_]:
    """Which areas hold no disc of this diameter (degrees)."""
    # A strip's width is about twice its area over its perimeter; only what may be thin is examined closely.
    width = 2.0 * shapely.area(geometries) / shapely.length(geometries)
    thin: NDArray[np.bool_] = width < 4.0 * thinnest
    # most that only look thin, as their outline is ragged, have room around the middle of their widest line
    middle, outline = shapely.point_on_surface(geometries[thin]), shapely.boundary(geometries[thin])
    thin[thin] = shapely.distance(middle, outline) < thinnest / 2.0
    left = _without_jags(geometries[thin], thinnest)
    jagged = shapely.get_num_coordinates(left) > _JAGGED
    found = np.zeros(len(left), np.bool_)
    found[~jagged] = shapely.is_empty(shapely.buffer(left[~jagged], -thinnest / 2.0))
    # moving many sides in takes minutes, see `_plain`
    room = shapely.maximum_inscribed_circle(left[jagged], tolerance=thinnest * _JAG)
    found[jagged] = shapely.length(room) < thinnest / 2.0
    thin[thin] = found
    return thin


def _scan(*files: Path) -> pl.LazyFrame:
    # the name of a folder may contain what polars would take for a pattern
    return pl.scan_parquet(list(files), glob=False)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())


def _in_order(ordered: DrawingOrder, scratch: Path, kept: Kept | None) -> pl.LazyFrame:
    """All rows in drawing order, by way of one file per batch that was read, as polars cannot append."""
    parts = []
    for number, rows in enumerate(ordered.batches(BATCH)):
        parts.append(scratch / f"part-{number:06}.parquet")
        rows.write_parquet(parts[-1], compression="uncompressed")
    read = _scan(*parts) if parts else pl.LazyFrame(schema=SCHEMA)
    return read if kept is None else together(kept.rows().select(*SCHEMA), read)


def _digest(footprints: Path, aside: Iterable[tuple[str, ...]]) -> str:
    whole = hashlib.sha256()
    for batch in read_batches(footprints, ("digest",)):
        whole.update(b"".join(batch["digest"]))
    # in which position an item without an id is read may differ from one time to the next
    told = sorted(("" if each[1] in NAMELESS else each[0], *each[1:]) for each in aside)
    for each in told:
        whole.update(json.dumps(each).encode())
    return whole.hexdigest()
