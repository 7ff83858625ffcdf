"""The density grid compared with PostGIS: queries count the database's own rows, cell by cell."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl
import psycopg
import pytest

from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets_tests.core.density_world import BEYOND, CATALOGUE, Grid, decoded, grid_of
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, PgstacDatabase, PostgresServer

ZOOMS: Final = range(14)

# The map ends at 85.0511287798066 degrees. EPSG:6933 is equal-area: its areas are those of the ellipsoid.
FUNCTIONS: Final = """
CREATE FUNCTION map(width float8) RETURNS geometry LANGUAGE sql IMMUTABLE AS
$$ SELECT ST_MakeEnvelope(-width, -85.0511287798066, width, 85.0511287798066, 4326) $$;
CREATE FUNCTION taken_at() RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT current_setting('oracle.taken_at')::timestamptz $$;
CREATE FUNCTION km2(area geometry) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT ST_Area(ST_Transform(ST_Segmentize(area, 0.25), 6933)) / 1e6 $$
"""

# One row per image: its area as one piece around its centroid, and its metadata. None of this is shared with
# the code under test.
IMAGES: Final = """
CREATE TABLE images AS
WITH whole AS (
    SELECT id, content->'properties' AS p,
           ST_Intersection(
               CASE WHEN ST_XMax(geometry) - ST_XMin(geometry) > 180 THEN ST_ShiftLongitude(geometry)
                    ELSE geometry END,
               map(540)
           ) AS area
    FROM pgstac.items
), placed AS (
    SELECT id, p,
           CASE WHEN ST_X(ST_Centroid(area)) > 180 THEN ST_Translate(area, -360, 0) ELSE area END AS area,
           coalesce(p->>'end_datetime', p->>'datetime')::timestamptz AS day,
           CASE WHEN p->>'gsd' ~ '^[0-9.e-]+$' AND (p->>'gsd')::float8 BETWEEN 0.001 AND 1000
                THEN (p->>'gsd')::float8 END AS gsd,
           CASE WHEN p->>'license' LIKE 'CC%' THEN lower(p->>'license') ELSE '' END AS license,
           lower(coalesce(p->>'oam:platform_type', '')) AS platform
    FROM whole WHERE NOT ST_IsEmpty(area)
)
SELECT id, area, day, ST_X(ST_Centroid(area)) AS lon, ST_Y(ST_Centroid(area)) AS lat,
       array_remove(ARRAY[
           'count',
           CASE WHEN platform IN ('uav', 'drone') THEN 'count_uav' WHEN platform = 'satellite'
                THEN 'count_satellite' ELSE 'count_aircraft' END,
           CASE WHEN license ~ 'nc' THEN 'count_lic_by_nc' WHEN license ~ 'sa' THEN 'count_lic_by_sa'
                WHEN license ~ 'by' THEN 'count_lic_by' END,
           CASE WHEN gsd < 0.5 THEN 'count_gsd_lt_05' WHEN gsd <= 2 THEN 'count_gsd_05_2'
                WHEN gsd <= 10 THEN 'count_gsd_2_10' WHEN gsd IS NOT NULL THEN 'count_gsd_gt_10' END,
           'count_year_' || extract(year FROM day AT TIME ZONE 'UTC')::text,
           CASE WHEN day > taken_at() - interval '7 days' THEN 'count_last_7d' END,
           CASE WHEN day > taken_at() - interval '30 days' THEN 'count_last_30d' END
       ], NULL) AS kinds
FROM placed
"""

CELLED: Final = """
CREATE TABLE celled AS
SELECT zoom, images.*,
       least(floor((lon + 180) / 360 * n), n - 1)::int AS x,
       greatest(least(floor((1 - asinh(tan(radians(lat))) / pi()) / 2 * n), n - 1), 0)::int AS y
FROM images, generate_series(0, 13) AS zoom, LATERAL (SELECT 2 ^ (zoom + 4) AS n) AS side
"""

COUNTS: Final = """
SELECT zoom, x, y, kind, count(*) FROM celled, unnest(kinds) AS kind GROUP BY zoom, x, y, kind
"""

EXTENTS: Final = """
SELECT zoom, x, y, min(ST_XMin(area)), min(ST_YMin(area)), max(ST_XMax(area)), max(ST_YMax(area)),
       to_char(date_trunc('second', max(day)) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM celled GROUP BY zoom, x, y
"""

# the areas, split at the antimeridian as on the map
AREAS: Final = """
CREATE TABLE covered AS
WITH lying AS (
    SELECT ST_Intersection(ST_Translate(area, turn, 0), map(180)) AS area
    FROM images, unnest(ARRAY[-360, 0, 360]) AS turn
)
SELECT sum(km2(area)) AS area_km2, ST_Union(area) AS area FROM lying WHERE NOT ST_IsEmpty(area)
"""
SHARES: Final = """
SELECT zoom, x, y, km2(ST_Intersection(area, cell)) / km2(cell)
FROM (SELECT DISTINCT zoom, x, y FROM celled) AS cells, covered,
     LATERAL (SELECT ST_Transform(ST_TileEnvelope(zoom + 4, x, y), 4326) AS cell) AS envelope
WHERE zoom < 5 OR (x + y) % 10 = 0
"""

Cell = tuple[int, int, int]


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    created = postgres.create_pgstac("density", PRODUCTION_PGSTAC)
    load_items(created, CATALOGUE)
    yield created
    postgres.drop(created.name)


@pytest.fixture(scope="module")
def grid(database: PgstacDatabase, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """The grid of a snapshot of the database."""
    with PgstacCatalogue(database.dsn, "openaerialmap").snapshot() as snapshot:
        items = [each for each in snapshot.items() if not isinstance(each, Unreadable)]
        return grid_of(items, tmp_path_factory.mktemp("grid"), taken_at=snapshot.taken_at)


@pytest.fixture(scope="module")
def oracle(database: PgstacDatabase, grid: Grid) -> Iterator[psycopg.Connection]:
    """The database, with tables of the results that it computes itself."""
    with database.connect() as connection:
        connection.execute("SET search_path TO public, pgstac")
        taken_at = grid.snapshot.taken_at.isoformat()
        connection.execute("SELECT set_config('oracle.taken_at', %s, false)", [taken_at])
        for statement in (FUNCTIONS, IMAGES, CELLED, AREAS):
            connection.execute(statement)
        yield connection


@pytest.fixture(scope="module")
def shown(grid: Grid) -> dict[str, dict[Cell, dict[str, Any]]]:
    """The properties of each cell, as polygon and as point; the cell is found from decoded coordinates."""
    found: dict[str, dict[Cell, dict[str, Any]]] = {"Polygon": {}, "Point": {}}
    for zoom in ZOOMS:
        for feature in decoded(grid.archive, zoom):
            kind, places = feature["geometry"]["type"], feature["geometry"]["coordinates"]
            corners = places[0] if kind == "Polygon" else [places]
            lon, lat = (sum(sorted({each[axis] for each in corners})) for axis in (0, 1))
            halves = 2 if kind == "Polygon" else 1
            cell = (zoom, *cell_at(lon / halves, lat / halves, zoom + 4))
            assert cell not in found[kind], "a cell comes once"
            found[kind][cell] = feature["properties"]
    return found


def cell_at(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    side = 2**zoom
    y = (1.0 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2.0
    return int((lon + 180.0) / 360.0 * side), int(y * side)


def counted(shown: dict[Cell, dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {
        (*cell, name, value)
        for cell, properties in shown.items()
        for name, value in properties.items()
        if name.startswith("count")
    }


def test_every_count_of_every_cell_and_zoom_is_the_databases(
    grid: Grid, shown: dict[str, dict[Cell, dict[str, Any]]], oracle: psycopg.Connection
) -> None:
    expected = set(oracle.execute(COUNTS).fetchall())
    assert len(expected) > 10_000
    assert counted(shown["Polygon"]) == expected
    assert counted(shown["Point"]) == expected


def test_extents_and_newest_images_are_the_databases(
    grid: Grid, shown: dict[str, dict[Cell, dict[str, Any]]], oracle: psycopg.Connection
) -> None:
    expected = oracle.execute(EXTENTS).fetchall()
    assert len(expected) == len(shown["Polygon"])
    for zoom, x, y, *sides, newest in expected:
        said = shown["Polygon"][zoom, x, y]
        beyond = np.array([said[f"bbox{side}"] for side in "WSEN"]) - sides
        assert np.all((beyond * [-1, -1, 1, 1] > -1e-12) & (np.abs(beyond) < 1e-6 + 1e-12))
        assert said["newest"] == newest


def test_each_zoom_adds_up_to_the_catalogue_without_the_excluded(
    grid: Grid, shown: dict[str, dict[Cell, dict[str, Any]]]
) -> None:
    sums: defaultdict[int, int] = defaultdict(int)
    for (zoom, _, _), properties in shown["Polygon"].items():
        sums[zoom] += properties["count"]
    assert dict(grid.snapshot.set_aside) == {"no_area": 1}, BEYOND
    assert sums == dict.fromkeys(ZOOMS, len(CATALOGUE) - 1)


def test_covered_ground_is_what_postgis_measures_in_an_equal_area_projection(
    grid: Grid, shown: dict[str, dict[Cell, dict[str, Any]]], oracle: psycopg.Connection
) -> None:
    area, covered = oracle.execute("SELECT area_km2, km2(area) FROM covered").fetchall()[0]
    assert grid.counted.area_km2 == pytest.approx(area, rel=1e-6)
    assert grid.counted.covered_km2 == pytest.approx(covered, rel=1e-6)
    assert covered < area - 10_000.0, "images overlap"
    shares = oracle.execute(SHARES).fetchall()
    assert len(shares) > 500
    assert any(0.01 < share < 0.99 for *_, share in shares)
    for zoom, x, y, share in shares:
        assert shown["Polygon"][zoom, x, y]["covered"] == pytest.approx(share, abs=1e-4), (zoom, x, y)


def test_what_crosses_the_antimeridian_counts_where_it_is(grid: Grid) -> None:
    """All five images at the antimeridian are counted there; a split one must not end up near Greenwich."""
    cells = pl.read_parquet(grid.cells).filter(zoom=13)
    near = cells.filter(pl.col("west").is_between(-180.6, -179.0) | pl.col("east").is_between(179.9, 181.0))
    assert near["count"].sum() == 5
    assert cells.filter(pl.col("east") - pl.col("west") > 180.0).is_empty()
