"""The density grid: what today's web map expects of it, and an audit that fails if it is anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core import density_spool, density_tiles, ground, snapshot
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.density import DEEPEST, middles_and_extents, placed, years_of
from oam_mosaic_assets.core.density_audit import DENSITY_CHECKS, examine_density
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.density_tiles import density_metadata, write_density_archive
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.grid import first_tile_id, tile_positions
from oam_mosaic_assets.core.low_zooms import Tile
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.vector_tile import kind_of, read_layers
from oam_mosaic_assets_tests.core.density_world import HARD, NOW, Grid, decoded, grid_of, item
from oam_mosaic_assets_tests.core.messages import changed_tile

COUNTS: Final = re.compile(
    "count|count_(uav|satellite|aircraft|lic_by|lic_by_nc|lic_by_sa|gsd_lt_05|gsd_05_2|gsd_2_10|gsd_gt_10"
    r"|year_\d{4}|last_7d|last_30d)"
)
SIDES: Final = {"bboxW", "bboxS", "bboxE", "bboxN"}
EXCLUDED: Final = {"no_area": 1}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return grid_of(HARD, tmp_path_factory.mktemp("grid"))


def failures(grid: Grid, archive: Path | None = None, **stated: Any) -> dict[str, str]:
    """The text of each check that an archive fails; checks that could not be run are missing."""
    asked = {
        "snapshot": grid.snapshot.digest,
        "taken_at": NOW.isoformat(),
        "excluded": EXCLUDED,
        "catalogued": len(HARD),
        **stated,
    }
    found = examine_density(archive or grid.archive, grid.footprints, **asked)
    return {each.name: each.text for each in found if not each.passed}


# what the web map relies on


def test_layer_zooms_and_kinds_of_properties_are_those_of_the_contract(grid: Grid) -> None:
    with open_archive(grid.archive) as archive:
        assert (archive.header["min_zoom"], archive.header["max_zoom"]) == (0, 13)
        (layer,) = archive.metadata["vector_layers"]
    assert (layer["id"], layer["minzoom"], layer["maxzoom"]) == ("density", 0, 13)
    kinds = dict(layer["fields"])
    assert kinds.pop("newest") == "String"
    assert set(kinds.values()) == {"Number"}
    for zoom in range(14):
        features = decoded(grid.archive, zoom)
        assert {each["geometry"]["type"] for each in features} == {"Polygon", "Point"}
        for feature in features:
            properties = feature["properties"]
            assert properties.keys() <= layer["fields"].keys()
            counts = {name: each for name, each in properties.items() if COUNTS.fullmatch(name)}
            others = properties.keys() - counts.keys()
            assert others - {"newest"} == (
                SIDES | {"covered"} if feature["geometry"]["type"] == "Polygon" else set()
            )
            assert all(type(each) is int and each > 0 for each in counts.values())
            assert "count" in counts


def test_counts_are_whole_numbers_also_to_a_reader_of_the_tiles(grid: Grid) -> None:
    with open_archive(grid.archive) as archive:
        for directory in archive.directories():
            for tile_id, offset, length in zip(
                directory.tile_id, directory.offset, directory.length, strict=True
            ):
                (layer,) = read_layers(archive.tile(int(tile_id), int(offset), int(length)))
                kinds = {each.WhichOneof("kind") for each in layer.stated}
                assert kinds <= {"uint_value", "double_value", "string_value"}
                assert {kind_of(each) for each in layer.stated} == {"Number", "String"}


def test_a_cell_has_a_sixteenth_of_a_tile_and_its_point_in_the_middle(grid: Grid) -> None:
    for zoom in (0, 7, 13):
        features = decoded(grid.archive, zoom)
        squares = [
            shapely.geometry.shape(each["geometry"])
            for each in features
            if len(each["properties"]) and each["geometry"]["type"] == "Polygon"
        ]
        middles = [
            each["geometry"]["coordinates"] for each in features if each["geometry"]["type"] == "Point"
        ]
        for square, middle in zip(squares, middles, strict=True):
            west, south, east, north = square.bounds
            assert east - west == pytest.approx(360.0 / 2 ** (zoom + 4), abs=2e-6)
            assert middle[0] == pytest.approx((west + east) / 2.0, abs=2e-6)
            assert south < middle[1] < north


def test_an_extent_holds_its_images_however_narrow_they_are(tmp_path: Path) -> None:
    boxes = [(10.0000001, 50.0, 10.0000004, 50.001), (128.1, -1e-9, 128.1000000001, 0.1)]
    for number, (west, south, east, north) in enumerate(boxes):
        narrow = grid_of([item("narrow", west, south, east, north)], tmp_path / f"{number}")
        for zoom in (0, 13):
            (said,) = (
                each["properties"] for each in decoded(narrow.archive, zoom) if "bboxW" in each["properties"]
            )
            assert said["bboxW"] <= west < east <= said["bboxE"]
            assert said["bboxS"] <= south < north <= said["bboxN"]
            assert said["bboxE"] - said["bboxW"] < 1.001e-6
            assert said["bboxN"] == north
        assert failures(narrow, excluded={}, catalogued=1) == {}


def test_the_archive_says_what_is_excluded_and_what_its_last_days_are_relative_to(grid: Grid) -> None:
    with open_archive(grid.archive) as archive:
        said = archive.metadata
    assert said["snapshot_taken_at"] == NOW.isoformat()
    assert (said["images"], said["excluded"]) == (len(HARD) - 1, EXCLUDED)
    assert said["snapshot"] == grid.snapshot.digest


def test_the_same_snapshot_gives_the_same_bytes(grid: Grid, tmp_path: Path) -> None:
    again = grid_of(reversed(HARD), tmp_path)
    assert again.archive.read_bytes() == grid.archive.read_bytes()


def test_the_tables_are_the_same_however_few_images_are_held_together(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "BATCH", 5)
    monkeypatch.setattr(density_spool, "TOGETHER", 3)
    monkeypatch.setattr(ground, "TOGETHER", 3)
    again = grid_of(HARD, tmp_path)
    assert len(list((tmp_path / "parts").glob("placed-*"))) > 1, "they were held by way of several files"
    for one, other in ((grid.cells, again.cells), (grid.kinds, again.kinds)):
        assert pl.read_parquet(one).equals(pl.read_parquet(other))
    assert again.counted == grid.counted


# where images count


@given(
    west=st.floats(-180.0, 179.9),
    south=st.floats(-85.05, 84.9),
    width=st.floats(1e-6, 200.0),
    height=st.floats(1e-6, 9.0),
)
def test_an_image_is_as_wide_as_it_is_wherever_it_lies(
    west: float, south: float, width: float, height: float
) -> None:
    """Its centroid is on the map and its extent is around that, wherever the antimeridian splits it."""
    north, east = min(south + height, 85.0), west + min(width, 170.0)
    parts = [shapely.box(west, south, min(east, 180.0), north)]
    if east > 180.0:
        parts.append(shapely.box(-180.0, south, east - 360.0, north))
    area = shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]
    (middle,), (extent,) = middles_and_extents(np.array([area], dtype=object))
    turn = 360.0 if (west + east) / 2.0 > 180.0 else 0.0
    assert middle[0] == pytest.approx((west + east) / 2.0 - turn, abs=1e-6)
    assert -180.0 <= middle[0] <= 180.0
    assert extent.tolist() == pytest.approx([west - turn, south, east - turn, north], abs=1e-9)


@pytest.mark.parametrize(
    ("lon", "lat", "expected"),
    [
        (180.0, 0.0, (2**DEEPEST - 1, 2**DEEPEST // 2)),
        (-180.0, 85.05112878, (0, 0)),
        (180.0, -85.05112878, (2**DEEPEST - 1, 2**DEEPEST - 1)),
        (0.0, 85.0511, (2**DEEPEST // 2, 0)),
    ],
)
def test_the_edges_of_the_map_fall_in_the_last_cells(
    lon: float, lat: float, expected: tuple[int, int]
) -> None:
    rows = pl.DataFrame(
        {"acquired_to": [None], "platform": [None], "license": [None], "gsd": [None]},
        schema={
            "acquired_to": pl.Datetime("us", "UTC"),
            "platform": pl.String(),
            "license": pl.String(),
            "gsd": pl.Float64(),
        },
    )
    image = placed(rows, np.array([shapely.Point(lon, lat)], dtype=object), taken_at=NOW)
    x, y = tile_positions(image["cell"].to_numpy() + first_tile_id(DEEPEST), DEEPEST)
    assert (int(x[0]), int(y[0])) == expected


# the audit


def test_a_sound_archive_passes(grid: Grid) -> None:
    assert failures(grid) == {}


def rewritten(grid: Grid, folder: Path, cells: pl.Expr | None = None, kinds: pl.Expr | None = None) -> Path:
    """An archive made from tables that differ from the snapshot's."""
    wrong = DensityTables.within(folder)
    for table, target, change in (
        (grid.cells, wrong.cells, cells),
        (grid.kinds, wrong.kinds, kinds),
    ):
        rows = pl.read_parquet(table)
        if change is not None:
            changed = rows.select(change).to_series()
            rows = rows.filter(changed) if changed.dtype == pl.Boolean() else rows.with_columns(changed)
        rows.write_parquet(target)
    archive = folder / "wrong.pmtiles"
    with open_archive(grid.archive) as right:
        metadata = right.metadata
    write_density_archive(wrong, archive, metadata=metadata, scratch=folder)
    return archive


ONE: Final = pl.int_range(pl.len()) == 77
LATER: Final = pl.col("newest").dt.offset_by(pl.when(ONE).then(pl.lit("1s")).otherwise(pl.lit("0s")))
BARE: Final = pl.col("covered") * (pl.col("zoom") > 3)
OTHERWISE: Final = pl.col("covered") - (pl.col("zoom") == 13) * 0.001
ANOTHER_KIND: Final = pl.when(ONE).then(2026).otherwise(pl.col("kind")).alias("kind")


@pytest.mark.parametrize(
    ("cells", "kinds", "check", "said"),
    [
        (~ONE, None, "every_image_is_counted", "there are 22 images, but "),
        (~ONE, None, "cells_hold_what_lies_there", "cells differ from a fresh count"),
        (pl.col("count") + ONE, None, "every_image_is_counted", "23 at z"),
        (pl.col("north") + ONE * 1e-3, None, "cells_hold_what_lies_there", "1 cells differ from a"),
        (LATER, None, "cells_hold_what_lies_there", "1 cells differ from a"),
        (pl.col("covered") + ONE * 1.5, None, "cells_hold_what_lies_there", "is not between 0 and 1"),
        (pl.col("covered") * 0.0, None, "cells_hold_what_lies_there", "z0: images cover 0."),
        (pl.col("covered") * 0.0 + 1.0, None, "cells_hold_what_lies_there", "not 1.0"),
        (OTHERWISE, None, "cells_hold_what_lies_there", "z13: images cover "),
        (BARE, None, "cells_hold_what_lies_there", "z4: cells cover more ground than the one"),
        (pl.col("cell") - ONE, None, "cells_hold_what_lies_there", "1 cells differ from a"),
        (None, pl.col("count") + ONE, "cells_hold_what_lies_there", "1 cells differ from a"),
        (None, ~ONE, "cells_hold_what_lies_there", "1 cells differ from a"),
        (None, ANOTHER_KIND, "cells_hold_what_lies_there", "1 cells differ from a"),
    ],
)
def test_a_grid_that_says_something_else_fails(
    grid: Grid, tmp_path: Path, cells: pl.Expr | None, kinds: pl.Expr | None, check: str, said: str
) -> None:
    assert said in failures(grid, rewritten(grid, tmp_path, cells, kinds))[check]


def test_wrong_bounds_fail(grid: Grid, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pmtiles"
    with open_archive(grid.archive) as archive:
        west, south, east, north = archive.bounds
        place = Place(zoom_min=0, zoom_max=13, bounds=(west, south, east - 22.5, north))
        write_archive(wrong, [Source.of_archive(archive)], place, archive.metadata)
    assert failures(grid, wrong)["archive_is_as_asked"].startswith("bounds: ")


@pytest.mark.parametrize(
    ("stated", "check", "said"),
    [
        ({"snapshot": "another"}, "archive_is_as_asked", "snapshot: "),
        ({"excluded": {"no_area": 2}}, "archive_is_as_asked", "excluded: "),
        ({"excluded": {}}, "every_image_is_counted", "the catalogue holds 23"),
        ({"catalogued": 50}, "every_image_is_counted", "the catalogue holds 50"),
    ],
)
def test_an_archive_of_another_snapshot_fails(
    grid: Grid, stated: dict[str, Any], check: str, said: str
) -> None:
    assert said in failures(grid, **stated)[check]


@contextmanager
def tiles_changed(change: Callable[[Any], None]) -> Iterator[None]:
    """Change the first tile that is written."""
    write = density_tiles.density_tiles

    def changed(tables: DensityTables, only: Stretches | None) -> Iterator[Tile]:
        first, *rest = write(tables, only)
        yield first._replace(content=changed_tile(first.content, change))
        yield from rest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density_tiles, "density_tiles", changed)
        yield


def _as_text(layer: Any) -> None:
    layer.values[_value_of_count(layer)].string_value = "1"


def _as_fraction(layer: Any) -> None:
    layer.values[_value_of_count(layer)].double_value = 1.5


def _value_of_count(layer: Any) -> int:
    tags = list(layer.features[0].tags)
    return int(tags[tags[::2].index(list(layer.keys).index("count")) * 2 + 1])


def _moved(layer: Any) -> None:
    layer.features[0].geometry[1] += 2


def _named_otherwise(layer: Any) -> None:
    layer.name = "globalcoverage"


def _twice(layer: Any) -> None:
    layer.features.append(layer.features[0])


def _without_a_point(layer: Any) -> None:
    del layer.features[-1]


def _another_count(layer: Any) -> None:
    at = list(layer.keys).index("count")
    point = layer.features[-1]
    place = list(point.tags)[::2].index(at) * 2 + 1
    layer.values.add(uint_value=12345)
    point.tags[place] = len(layer.values) - 1


def _and_more(layer: Any) -> None:
    layer.keys.append("secret")
    layer.values.add(uint_value=7)
    layer.features[0].tags.extend([len(layer.keys) - 1, len(layer.values) - 1])


def _without(name: str) -> Callable[[Any], None]:
    def change(layer: Any) -> None:
        at = list(layer.keys).index(name)
        tags = list(layer.features[0].tags)
        place = tags[::2].index(at) * 2
        del layer.features[0].tags[place : place + 2]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_as_text, "count must not be '1', a string_value"),
        (_as_fraction, "count must not be 1.5, a double_value"),
        (_moved, "a feature is not a cell of the grid"),
        (_named_otherwise, "it does not hold exactly one valid layer 'density'"),
        (_twice, "or is there twice"),
        (_without_a_point, "not every cell is drawn as polygon and point"),
        (_another_count, "a point does not have exactly the counts of its polygon"),
        (_and_more, "cells have no property 'secret'"),
        (_without("bboxW"), "a polygon lacks bboxW"),
        (_without("covered"), "a polygon lacks covered"),
    ],
)
def test_a_tile_that_the_web_map_does_not_expect_fails(
    grid: Grid, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    with tiles_changed(change):
        archive = rewritten(grid, tmp_path)
    assert said in failures(grid, archive)["archive_is_whole"]


def test_a_tile_below_the_grid_fails(grid: Grid, tmp_path: Path) -> None:
    archive = tmp_path / "deeper.pmtiles"
    with open_archive(grid.archive) as right, ExitStack() as held:
        whole = Source.of_archive(right)
        _, x, y = tileid_to_zxy(int(whole.entries.tile_id[-1]))
        content = whole.content(int(whole.entries.offset[-1]), int(whole.entries.length[-1]))
        below = Fragment.written([(15, 4 * x, 4 * y, content)], tmp_path / "below.tiles").opened(held)
        place = Place(zoom_min=0, zoom_max=15, bounds=right.bounds)
        write_archive(archive, [whole, below], place, right.metadata)

    found = failures(grid, archive)

    assert ": the grid ends at z13" in found["archive_is_whole"]
    assert "zooms: " in found["archive_is_as_asked"]


def test_what_is_no_archive_fails(grid: Grid, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pmtiles"
    broken.write_bytes(grid.archive.read_bytes()[:5000])
    assert "archive_is_whole" in failures(grid, broken)
    assert next(iter(DENSITY_CHECKS)) == "archive_is_whole"


def test_a_year_is_named_where_there_are_images_of_it(grid: Grid) -> None:
    years = years_of(pl.scan_parquet(grid.kinds))
    assert years == sorted({2020, *(int(each["properties"]["datetime"][:4]) for each in HARD)} - {None})
    metadata = density_metadata(snapshot="", taken_at="", images=0, excluded={}, years=years)
    assert "count_year_2020" in metadata["vector_layers"][0]["fields"]
