"""How many images lie where: a grid of cells for each zoom, with counts by what is known of the images.

A cell of display zoom z is a Web Mercator tile of zoom z + 4; an image counts in the cell that its centroid
lies in, and so once at each zoom. Cells are numbered along the Hilbert curve of their zoom, as in PMTiles: a
quarter of a cell's number, rounded down, is that of the cell above, and the cells of a tile are consecutive.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.grid import Geometries, first_tile_id, tile_ids, to_tiles

ZOOM_MAX: Final = 13
"""The last display zoom; the first is 0."""

FINER: Final = 4
"""How many zooms deeper than its display tile a cell is."""

DEEPEST: Final = ZOOM_MAX + FINER
"""Zoom of the smallest cells."""

COLUMNS: Final = ("geometry", "acquired_to", "platform", "license", "gsd")
"""Columns of the footprints that are needed to count images."""

NAMED: Final = (
    "count_uav",
    "count_satellite",
    "count_aircraft",
    "count_lic_by",
    "count_lic_by_nc",
    "count_lic_by_sa",
    "count_gsd_lt_05",
    "count_gsd_05_2",
    "count_gsd_2_10",
    "count_gsd_gt_10",
    "count_last_7d",
    "count_last_30d",
)
"""The counts by kind, except those by year. A kind is an index into this list, or a year."""

DAYS: Final = {"in_7d": 7, "in_30d": 30}
"""The moving windows in days before the snapshot, by the column that says whether an image falls in."""

SIDES: Final = ("west", "south", "east", "north")

KIND_COLUMNS: Final = ("platform_kind", "license_kind", "gsd_kind", "year", "in_7d", "in_30d")
"""Columns that each hold one kind of the image, or null."""

_IMAGES: Final = {
    "cell": pl.Int64(),
    **dict.fromkeys(SIDES, pl.Float64()),
    "newest": pl.Datetime("us", "UTC"),
    **dict.fromkeys(KIND_COLUMNS, pl.UInt16()),
}


def kind_name(kind: int) -> str:
    """The property that counts images of a kind."""
    return NAMED[kind] if kind < len(NAMED) else f"count_year_{kind:04}"


def no_images() -> pl.DataFrame:
    """An empty table of images, as `placed` gives it."""
    return pl.DataFrame(schema=_IMAGES)


def placed(rows: pl.DataFrame, areas: Geometries, *, taken_at: datetime) -> pl.DataFrame:
    """Images, each with the smallest cell it counts in, its extent and its kinds.

    Args:
        rows: footprints with `COLUMNS`.
        areas: their geometries.
        taken_at: the moment of the snapshot, UTC; the moving windows end there.
    """
    middle, extent = middles_and_extents(areas)
    cells = _cells_at(middle)
    found = rows.select(
        pl.Series("cell", cells),
        # -0.0 becomes 0.0, for a tile would tell the two apart
        *(pl.Series(name, extent[:, index] + 0.0) for index, name in enumerate(SIDES)),
        pl.col("acquired_to").alias("newest"),
        *_kinds(taken_at),
    )
    return found.cast(pl.Schema(_IMAGES))


def smallest_cells(areas: Geometries) -> NDArray[np.int64]:
    """The smallest cell that each area (EPSG:4326) counts in."""
    return _cells_at(middles_and_extents(areas)[0])


def _cells_at(middle: NDArray[np.float64]) -> NDArray[np.int64]:
    # 180 degrees east and 85.0511 degrees south fall in the last cell
    x, y = np.clip(np.floor(to_tiles(middle, DEEPEST)).astype(np.int64), 0, (1 << DEEPEST) - 1).T
    return tile_ids(DEEPEST, x, y) - first_tile_id(DEEPEST)


def _kinds(taken_at: datetime) -> list[pl.Expr]:
    number = {name: pl.lit(index, pl.UInt16()) for index, name in enumerate(NAMED)}
    platform = pl.col("platform").str.to_lowercase().fill_null("")
    parts = pl.col("license").str.to_lowercase().str.split("-")
    gsd = pl.col("gsd")
    day = pl.col("acquired_to")
    return [
        pl.when(platform.is_in(["uav", "drone"]))
        .then(number["count_uav"])
        .when(platform == "satellite")
        .then(number["count_satellite"])
        .otherwise(number["count_aircraft"])
        .alias("platform_kind"),
        pl.when(parts.list.contains("nc"))
        .then(number["count_lic_by_nc"])
        .when(parts.list.contains("sa"))
        .then(number["count_lic_by_sa"])
        .when(parts.list.contains("by"))
        .then(number["count_lic_by"])
        .alias("license_kind"),
        pl.when(gsd < 0.5)  # noqa: PLR2004  # metres
        .then(number["count_gsd_lt_05"])
        .when(gsd <= 2.0)  # noqa: PLR2004
        .then(number["count_gsd_05_2"])
        .when(gsd <= 10.0)  # noqa: PLR2004
        .then(number["count_gsd_2_10"])
        .when(gsd.is_not_null())
        .then(number["count_gsd_gt_10"])
        .alias("gsd_kind"),
        day.dt.year().cast(pl.UInt16).alias("year"),
        *(
            pl.when(is_within(days, taken_at)).then(number[f"count_last_{days}d"]).alias(column)
            for column, days in DAYS.items()
        ),
    ]


def is_within(days: int, taken_at: datetime) -> pl.Expr:
    """Whether a footprint was acquired within this many days before a snapshot."""
    return pl.col("acquired_to") > taken_at - timedelta(days=days)


def middles_and_extents(areas: Geometries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroids, longitude from -180 to 180, and the extents around them: west, south, east, north, degrees.

    An image that crosses the antimeridian is one piece here, so its extent may reach beyond 180 degrees east
    or west.
    """
    whole = areas.copy()
    extent = shapely.bounds(areas)
    wide = np.flatnonzero(extent[:, 2] - extent[:, 0] > 180.0)  # noqa: PLR2004
    if len(wide):
        joined = _joined(areas[wide])
        there = shapely.bounds(joined)
        is_narrower = there[:, 2] - there[:, 0] < (extent[wide, 2] - extent[wide, 0])
        whole[wide[is_narrower]], extent[wide[is_narrower]] = joined[is_narrower], there[is_narrower]
    middle = shapely.get_coordinates(shapely.centroid(whole))
    turn = np.where(middle[:, 0] > 180.0, 360.0, 0.0)  # noqa: PLR2004
    middle[:, 0] -= turn
    extent[:, [0, 2]] -= turn[:, None]
    return middle, extent


def _joined(areas: Geometries) -> Geometries:
    """The areas, with their parts in the western hemisphere moved 360 degrees to the east."""
    parts, of = shapely.get_parts(areas, return_index=True)
    west, _, east, _ = shapely.bounds(parts).T
    points, part = shapely.get_coordinates(parts, return_index=True)
    points[:, 0] += np.where(west + east < 0.0, 360.0, 0.0)[part]
    return np.asarray(shapely.multipolygons(shapely.set_coordinates(parts, points), indices=of), dtype=object)


def cells_by_zoom(
    images: pl.DataFrame, zoom_min: int = 0
) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Count images, from the last display zoom upwards.

    Args:
        images: as `placed` gives them.
        zoom_min: the lowest display zoom that is wanted.

    Returns:
        The display zoom; its cells with `count`, extent and newest acquisition; and how many images of each
        kind (`kind`, `count`) they hold. Both sorted by cell.
    """
    cells = images.group_by("cell").agg(pl.len().alias("count"), *_sums()).sort("cell")
    kinds = pl.concat(
        images.filter(pl.col(column).is_not_null())
        .group_by("cell", pl.col(column).alias("kind"))
        .agg(pl.len().alias("count"))
        for column in KIND_COLUMNS
    ).sort("cell", "kind")
    for zoom in range(ZOOM_MAX, zoom_min - 1, -1):
        yield zoom, cells, kinds
        cells, kinds = cells_above(cells, kinds)


def cells_above(cells: pl.DataFrame, kinds: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables of `cells_by_zoom` for the zoom above, from those of a zoom."""
    parent = pl.col("cell") // 4
    return (
        cells.group_by(parent).agg(pl.sum("count"), *_sums()).sort("cell"),
        kinds.group_by(parent, "kind").agg(pl.sum("count")).sort("cell", "kind"),
    )


def _sums() -> list[pl.Expr]:
    return [pl.min("west", "south"), pl.max("east", "north", "newest")]


def totals_of(kinds: pl.LazyFrame) -> dict[int, int]:
    """How many images there are of each kind, from the table of kinds."""
    found = kinds.filter(zoom=0).group_by("kind").agg(pl.sum("count")).sort("kind").collect()
    return dict(zip(found["kind"].to_list(), found["count"].to_list(), strict=True))


def years_of(kinds: pl.LazyFrame) -> list[int]:
    """The years in which images were taken, from the table of kinds."""
    return [kind for kind in totals_of(kinds) if kind >= len(NAMED)]
