"""The footprints of one snapshot as files: a GeoParquet of what can be drawn, a table of what cannot.

Both are written in batches, so that memory does not grow with the catalogue. Footprints stand in drawing
order, oldest first: acquisition end, unknown before all others, then id, so that the order is total.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.drawing_order import SCHEMA, SIDES, DrawingOrder
from oam_mosaic_assets.core.footprint import Footprint, SetAside
from oam_mosaic_assets.core.geoparquet import geo_metadata, reach_of
from oam_mosaic_assets.core.grid import mended, to_tiles
from oam_mosaic_assets.core.rereading import HASHES, READING_KEY, Kept, together, with_hashes
from oam_mosaic_assets.core.tiling import MITRE, TilingPlan

BATCH: Final = 1024
"""Rows held in memory at a time; a footprint with its attributes is about 2 kB."""

ROW_GROUP: Final = 8 * BATCH
"""Rows that are compressed together; a reader of one batch inflates no more."""

_JAGGED: Final = 100
"""Corners of an outline that is not moved in or out as it is: with more, its jags go first."""

_MOST_JAGGED: Final = 2000
"""Corners of one that is drawn by its hull, where nothing else makes it plainer."""

_JAG: Final = 1 / 16
"""Of what is too thin: how far an outline may be moved when its jags go; an eighth of a tile's unit."""

TABLE: Final = pl.Schema({**SCHEMA, "item_hash": HASHES["item_hash"]})
"""The columns of the GeoParquet."""

SET_ASIDE_SCHEMA: Final = pl.Schema({"id": pl.String(), "reason": pl.String(), "value": pl.String()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a snapshot holds, in numbers. The catalogue's count is `drawable + set_aside + outside`.

    Attributes:
        taken_at: the moment of the read, UTC.
        drawable: images with a footprint.
        set_aside: images without, by reason.
        outside: images left out because they do not touch the box that was asked for.
        unknown: values that could not be read, by name and reason.
        bounds: west, south, east, north of all footprints, degrees; None where there are none.
        newest: the latest acquisition, UTC.
        digest: of all footprints in drawing order and all that is set aside, sha256 in hex.
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
        """Images that cannot be drawn, whatever the reason."""
        return sum(self.set_aside.values())

    @property
    def catalogued(self) -> int:
        """Images that this snapshot answers for."""
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
    """Write what was read, and what is taken over, to two Parquet files and count it.

    An id that was read already is set aside: ids are what the archive and the audit are keyed by.

    Args:
        rows: what `read_item` made of each item, in any order.
        footprints: where the GeoParquet goes.
        set_aside: where the table of those set aside goes.
        scratch: an empty folder for what is not sorted yet.
        box: west, south, east, north, degrees; only footprints that touch it.
        kept: what is taken over of an earlier snapshot; `rows` hold none of it.
        hashes: of the items, as far as they are known.
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
    total = rows.select(pl.len()).collect().item()
    for start in range(0, total, ROW_GROUP):  # each time the file is opened and its end is read
        yield from rows.slice(start, ROW_GROUP).collect().iter_slices(BATCH)


def frames_of(boxes: pl.Series) -> NDArray[np.float64]:
    """What bounds images, in tile coordinates of zoom 0.

    Args:
        boxes: the column `bbox` of footprints.

    Returns:
        shape (n, 4): west, north, east, south.
    """
    west, south, east, north = boxes.struct.unnest().select(SIDES).to_numpy().T
    corners = [to_tiles(np.column_stack(each), 0) for each in ((west, north), (east, south))]
    return np.column_stack(corners)


def names_of(footprints: Path) -> Iterator[str]:
    """The ids of all images, in drawing order."""
    return (name for batch in read_batches(footprints, ("id",)) for name in batch["id"])


def snapshot_digest(footprints: Path, set_aside: Path) -> str:
    """The digest of a snapshot, from the files that `write_snapshot` made of it."""
    return _digest(footprints, pl.read_parquet(set_aside, glob=False).iter_rows())


def write_geojson(
    footprints: Path,
    geojson: Path,
    *,
    plan: TilingPlan,
    deepest: NDArray[np.int8] | None = None,
) -> int:
    """Write what tippecanoe reads: a feature a line, in drawing order.

    A footprint that tippecanoe's rounding to its grid would wipe out is widened: where it is too narrow for
    some zooms only, for these it has a line each, and another for the zooms from there on.

    Args:
        footprints: the GeoParquet.
        geojson: where newline-delimited GeoJSON goes, RFC 7946.
        plan: the zooms from `whole_from` on show every footprint; and what is said of each.
        deepest: the last zoom that each footprint is wanted at, before `whole_from` for those that are not
            wanted at all; None wants all of them at every zoom.

    Returns:
        How many of these footprints had to be widened for the last zoom.
    """
    widened = start = 0
    with geojson.open("w", encoding="utf-8") as lines:
        for batch in read_batches(footprints, (*plan.columns, "geometry")):
            last_zoom = np.full(len(batch), plan.zoom_max)
            if deepest is not None:
                last_zoom = deepest[start : start + len(batch)]
            start += len(batch)
            wanted = last_zoom >= plan.whole_from
            geometries = shapely.from_wkb(batch["geometry"].to_numpy()[wanted])
            rows = batch.filter(wanted).select(plan.columns).iter_rows(named=True)
            stated = [
                json.dumps(plan.properties_of(row), ensure_ascii=False, separators=(",", ":")) for row in rows
            ]
            last = as_drawn(geometries, plan.thinnest)
            widened += int((last != geometries).sum())
            image, zooms, areas = _by_zoom(geometries, last, plan)
            ends = last_zoom[wanted][image].tolist()
            for each, zoom, end, area in zip(image, zooms, ends, shapely.to_geojson(areas), strict=True):
                limits = _limits(zoom, end, plan)
                if limits is not None:
                    lines.write(
                        f'{{"type":"Feature",{limits}"properties":{stated[each]},"geometry":{area}}}\n'
                    )
    return widened


def _limits(zooms: tuple[int, int], deepest: int, plan: TilingPlan) -> str | None:
    """How a line says at which zooms tippecanoe draws it; None where at none that is wanted."""
    first, last = zooms[0], min(zooms[1], deepest)
    if (first, last) == (plan.whole_from, plan.zoom_max):
        return ""  # at all of them
    return f'"tippecanoe":{{"minzoom":{first},"maxzoom":{last}}},' if first <= last else None


def _by_zoom(
    geometries: NDArray[np.object_], last: NDArray[np.object_], plan: TilingPlan
) -> tuple[list[int], list[tuple[int, int]], NDArray[np.object_]]:
    """For each line its image, its first and last zoom, and its area; in the order of images."""
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
    return (
        [lines[each][0] for each in order],
        [lines[each][1] for each in order],
        np.concatenate(areas)[order],
    )


def as_drawn(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.object_]:
    """The areas as they are given to tippecanoe: those that its rounding would wipe out are widened.

    Args:
        geometries: EPSG:4326.
        thinnest: degrees.
    """
    thin = too_thin(geometries, thinnest)
    wide = geometries.copy()
    # mitred, so that a widened rectangle stays one
    plain = _plain(geometries[thin], thinnest)
    # what hardly has an area has tips that GEOS divides by zero for, and cuts
    with np.errstate(all="ignore"):
        wide[thin] = shapely.buffer(plain, thinnest, join_style="mitre", mitre_limit=MITRE)
    return wide


def _plain(thin: NDArray[np.object_], thinnest: float) -> NDArray[np.object_]:
    """Thin areas without corners that nobody would see once they are widened.

    Each side of an outline is moved out by more than a jag is long, and so meets all others: to sort that out
    takes minutes where there are some thousands.
    """
    found = _without_jags(thin, thinnest)
    west, south, east, north = shapely.bounds(thin).T
    lost = shapely.is_empty(found)  # thinner than its jags may be long
    found[lost] = shapely.simplify(thin[lost], thinnest * _JAG)
    are_dots = np.maximum(east - west, north - south) <= thinnest
    by_hull = shapely.get_num_coordinates(found) > np.where(are_dots, _JAGGED, _MOST_JAGGED)
    found[by_hull] = shapely.convex_hull(thin[by_hull])
    return found


def _without_jags(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.object_]:
    """Outlines of many corners without jags shorter than a share of this; of some, nothing is left."""
    found = geometries.copy()
    jagged = shapely.get_num_coordinates(geometries) > _JAGGED
    found[jagged] = mended(shapely.simplify(geometries[jagged], thinnest * _JAG, preserve_topology=False))
    return found


def too_thin(geometries: NDArray[np.object_], thinnest: float) -> NDArray[np.bool_]:
    """Which areas hold no disc of this diameter (degrees)."""
    # A strip's width is about twice its area over its outline; only what may be thin is looked at closely.
    width = 2.0 * shapely.area(geometries) / shapely.length(geometries)
    thin: NDArray[np.bool_] = width < 4.0 * thinnest
    # most that only look thin, for their outline is ragged, have room round the middle of their widest line
    middle, outline = shapely.point_on_surface(geometries[thin]), shapely.boundary(geometries[thin])
    thin[thin] = shapely.distance(middle, outline) < thinnest / 2.0
    left = _without_jags(geometries[thin], thinnest)
    jagged = shapely.get_num_coordinates(left) > _JAGGED
    found = np.zeros(len(left), np.bool_)
    found[~jagged] = shapely.is_empty(shapely.buffer(left[~jagged], -thinnest / 2.0))
    # to move many sides in takes minutes, as `_plain` says
    room = shapely.maximum_inscribed_circle(left[jagged], tolerance=thinnest * _JAG)
    found[jagged] = shapely.length(room) < thinnest / 2.0
    thin[thin] = found
    return thin


def _scan(*files: Path) -> pl.LazyFrame:
    # a folder's name may hold what polars would take for a pattern
    return pl.scan_parquet(list(files), glob=False)


def _in_order(ordered: DrawingOrder, scratch: Path, kept: Kept | None) -> pl.LazyFrame:
    """All rows, by way of a file for each batch that was read: polars appends to none."""
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
    for each in aside:
        whole.update(json.dumps(each).encode())
    return whole.hexdigest()
