"""The sample: the same bytes everywhere, the dirt it declares, and a map like OpenAerialMap's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from itertools import islice, pairwise
from urllib.parse import urlsplit

import pytest
import shapely
from shapely.geometry import shape

from oam_mosaic_assets.core.footprint import SetAside, read_item
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue, SampleSnapshot
from oam_mosaic_assets.gateways.catalogue.sample_dirt import (
    DIRT,
    ID_REPEATED,
    MARK,
    UNREADABLE,
    UPLOADED_TWICE,
)
from oam_mosaic_assets.gateways.catalogue.source import Catalogue, Item, Snapshot, Unreadable

Row = Item | Unreadable

DEFAULT_SAMPLE = "da0b3822a841dc6cf5bd5949f22d3db4f5e03b1946d7d1bc9a606cde71bf39be"
"""Digest of the default sample; to be updated when the sample is changed on purpose."""


def digest(snapshot: Snapshot) -> str:
    lines = hashlib.sha256()
    for row in snapshot.items():
        lines.update((row.text if isinstance(row, Unreadable) else json.dumps(row)).encode() + b"\n")
    return lines.hexdigest()


def rows_of(catalogue: Catalogue) -> list[Row]:
    with catalogue.snapshot() as snapshot:
        return list(snapshot.items())


def kind_of(row: Row) -> str | None:
    return UNREADABLE if isinstance(row, Unreadable) else row["properties"].get(MARK)


def height(item: Item) -> float:
    """The extent from south to north, in kilometres."""
    _, south, _, north = item["bbox"]
    return float(north - south) * 111.32


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    return rows_of(SampleCatalogue())


@pytest.fixture(scope="module")
def clean(sample: list[Row]) -> list[Item]:
    return [row for row in sample if not isinstance(row, Unreadable) and kind_of(row) is None]


@pytest.fixture(scope="module")
def drones(clean: list[Item]) -> list[Item]:
    return [item for item in clean if item["properties"]["oam:platform_type"].lower() in {"uav", "drone"}]


@pytest.fixture(scope="module")
def satellites(clean: list[Item]) -> list[Item]:
    return [item for item in clean if item["properties"]["oam:platform_type"] == "satellite"]


# --- the same bytes everywhere


def test_the_default_sample_is_the_one_known_by_its_digest() -> None:
    with SampleCatalogue().snapshot() as snapshot:
        assert digest(snapshot) == DEFAULT_SAMPLE


def test_a_snapshot_can_be_read_twice_and_by_a_reader_that_changes_what_it_reads() -> None:
    with SampleCatalogue().snapshot() as snapshot:
        for row in snapshot.items():
            if not isinstance(row, Unreadable) and row["geometry"]:
                row["geometry"]["coordinates"].clear()
        assert digest(snapshot) == DEFAULT_SAMPLE


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_order_of_python_hashes_changes_nothing(hash_seed: str) -> None:
    program = f"from {__name__} import *; print(digest(SampleCatalogue().snapshot().__enter__()))"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert answer.stdout.strip() == DEFAULT_SAMPLE


def test_the_clock_decides_when_the_snapshot_was_taken_and_nothing_else() -> None:
    before = datetime.now(UTC)
    with SampleCatalogue().snapshot() as snapshot:
        assert before <= snapshot.taken_at <= datetime.now(UTC)
    earlier = SampleSnapshot(taken_at=datetime(2026, 1, 1, tzinfo=UTC), expected=2000, seed=1)
    assert digest(earlier) == DEFAULT_SAMPLE


def test_another_seed_is_another_catalogue(sample: list[Row]) -> None:
    ids = {row.get("id") for row in sample if not isinstance(row, Unreadable)} - {None}
    others = {row.get("id") for row in rows_of(SampleCatalogue(seed=2)) if not isinstance(row, Unreadable)}
    assert not ids & others


# --- what it declares


def test_the_catalogue_counts_its_rows_without_reading_them(sample: list[Row]) -> None:
    catalogue = SampleCatalogue()
    with catalogue.snapshot() as snapshot:
        assert catalogue.count() == snapshot.expected == len(sample) == 2000
    assert (catalogue.kind, catalogue.origin) == ("sample", "sample catalogue (2,000 images)")


@pytest.mark.parametrize("images", [172, 2000, 9999])
def test_every_kind_of_dirt_is_there_as_often_as_declared_in_any_size(images: int) -> None:
    found = Counter(map(kind_of, rows_of(SampleCatalogue(images))))
    clean = found.pop(None)
    assert found == {kind: dirt.count for kind, dirt in DIRT.items()}
    assert clean == images - sum(dirt.count for dirt in DIRT.values())


def test_a_sample_too_small_for_its_dirt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 172 images"):
        SampleCatalogue(171)


def test_a_sample_of_2000_images_stays_under_the_guard_for_those_set_aside() -> None:
    assert sum(dirt.count for dirt in DIRT.values() if dirt.outcome == "set_aside") < 0.02 * 2000


def test_unreadable_rows_know_where_they_stand(sample: list[Row]) -> None:
    assert all(row.row == n for n, row in enumerate(sample, start=1) if isinstance(row, Unreadable))


def test_an_id_names_one_image_unless_it_is_repeated_on_purpose(sample: list[Row]) -> None:
    repeated = [
        row["id"] for row in sample if not isinstance(row, Unreadable) and kind_of(row) == ID_REPEATED
    ]
    named = Counter(row["id"] for row in sample if not isinstance(row, Unreadable) and row.get("id"))
    assert {name for name, times in named.items() if times > 1} == set(repeated)
    assert all(len(name) == 24 and int(name, 16) for name in named)


def test_an_image_uploaded_twice_differs_in_its_id_alone(sample: list[Row]) -> None:
    pairs = [(first, again) for first, again in pairwise(sample) if kind_of(again) == UPLOADED_TWICE]
    for first, again in pairs:
        assert not isinstance(first, Unreadable)
        assert not isinstance(again, Unreadable)
        assert first["id"] != again["id"]
        assert first["geometry"] == again["geometry"]
        assert first["properties"]["title"] == again["properties"]["title"]
    assert len(pairs) == DIRT[UPLOADED_TWICE].count


# --- the dirt is what its name says


def outlines(sample: list[Row], kind: str) -> list[list[list[float]]]:
    """The exterior rings of all images with this kind of dirt."""
    items = [row for row in sample if not isinstance(row, Unreadable) and kind_of(row) == kind]
    assert len(items) == DIRT[kind].count
    return [item["geometry"]["coordinates"][0] for item in items]


def test_unclosed_rings_are_unclosed(sample: list[Row]) -> None:
    assert all(ring[0] != ring[-1] for ring in outlines(sample, "ring_unclosed"))


def test_clockwise_rings_are_clockwise(sample: list[Row]) -> None:
    assert not any(shapely.LinearRing(ring).is_ccw for ring in outlines(sample, "ring_clockwise"))


def test_self_crossing_rings_cross_themselves(sample: list[Row]) -> None:
    assert not any(shapely.LinearRing(ring).is_simple for ring in outlines(sample, "ring_crosses_itself"))


def test_repeated_points_stand_twice_in_a_row(sample: list[Row]) -> None:
    for ring in outlines(sample, "points_repeated"):
        assert any(first == again for first, again in pairwise(ring))


def test_the_long_way_round_is_the_longer_one(sample: list[Row]) -> None:
    for ring in outlines(sample, "antimeridian_the_long_way_round"):
        west, _, east, _ = shapely.LinearRing(ring).bounds
        assert 350 < east - west < 360


def test_the_core_does_with_every_item_what_is_declared(sample: list[Row]) -> None:
    """Except for repeated ids and unreadable rows, which cannot be seen in a single item."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number, row in enumerate(sample, start=1):
        kind = kind_of(row)
        if isinstance(row, Unreadable) or kind == ID_REPEATED:
            continue
        read = read_item(row, row=number, now=now)
        reason, unknown = (read.reason, ()) if isinstance(read, SetAside) else (None, read.unknown)
        dirt = DIRT[kind] if kind else None
        assert reason == (dirt.concerns if dirt and dirt.outcome == "set_aside" else None), kind
        assert unknown == ((dirt.concerns,) if dirt and dirt.outcome == "unknown" else ()), kind


# --- a map like OpenAerialMap's


def test_clean_outlines_are_as_rfc_7946_asks(clean: list[Item]) -> None:
    for item in clean:
        (ring,) = item["geometry"]["coordinates"]
        outline = shapely.Polygon(ring)
        assert ring[0] == ring[-1]
        assert outline.is_valid
        assert outline.exterior.is_ccw
        assert outline.bounds == tuple(item["bbox"])
        assert shapely.box(-180, -85, 180, 85).contains(outline)


def test_clean_images_were_taken_and_uploaded_between_2006_and_2025(clean: list[Item]) -> None:
    for item in clean:
        properties = item["properties"]
        first = properties["datetime"] or properties["start_datetime"]
        last = properties["datetime"] or properties["end_datetime"]
        assert "2006" < first <= last < properties["created"] < properties["updated"] < "2026"


def test_no_address_leads_anywhere(clean: list[Item]) -> None:
    hosts = {urlsplit(asset["href"]).hostname for item in clean for asset in item["assets"].values()}
    assert hosts == {"imagery.invalid"}


def test_items_have_the_assets_of_older_and_of_newer_ones(clean: list[Item]) -> None:
    names = Counter(tuple(item["assets"]) for item in clean)
    assert set(names) == {("visual", "thumbnail", "metadata"), ("data", "thumbnail", "metadata")}
    assert names["visual", "thumbnail", "metadata"] > names["data", "thumbnail", "metadata"] > 0


def test_most_images_are_drones_and_every_platform_is_there(clean: list[Item], drones: list[Item]) -> None:
    platforms = {item["properties"]["oam:platform_type"] for item in clean}
    assert platforms == {"uav", "UAV", "drone", "satellite", "aircraft", "kite", "balloon"}
    assert 0.5 < len(drones) / len(clean) < 0.8


def test_satellites_see_far_and_drones_near(drones: list[Item], satellites: list[Item]) -> None:
    assert all(height(item) < 5 for item in drones)
    assert sorted(map(height, drones))[len(drones) // 2] < 0.6
    assert all(10 < height(item) < 110 for item in satellites)


def test_satellite_scenes_lie_over_drone_flights(drones: list[Item], satellites: list[Item]) -> None:
    scenes = shapely.STRtree([shape(item["geometry"]) for item in satellites])
    flights = [shape(item["geometry"]) for item in drones]
    under_a_scene = set(scenes.query(flights, predicate="within")[0])
    assert 0.2 < len(under_a_scene) / len(flights) < 0.9


def test_outlines_are_boxes_turned_rectangles_and_ragged_ones(drones: list[Item]) -> None:
    corners = [len(item["geometry"]["coordinates"][0]) - 1 for item in drones]
    assert 0.4 < corners.count(4) / len(corners) < 0.7
    assert 50 < max(corners) <= 60
    turned = [
        item for item in drones if shape(item["geometry"]).area < 0.95 * shapely.box(*item["bbox"]).area
    ]
    assert 0.3 < len(turned) / len(drones) < 0.9


def busy_cells(catalogue: Catalogue, *, degrees: float) -> Counter[tuple[int, int]]:
    """Count the clean images whose south-west corner is in each cell of a grid."""
    corners = [
        row["bbox"] for row in rows_of(catalogue) if not isinstance(row, Unreadable) and not kind_of(row)
    ]
    return Counter((int(west // degrees), int(south // degrees)) for west, south, _, _ in corners)


def test_images_cluster_in_few_places_and_thin_out_over_many() -> None:
    cells = busy_cells(SampleCatalogue(), degrees=1.0)
    assert 150 < len(cells) < 400
    assert 0.25 < sum(images for _, images in cells.most_common(10)) / cells.total() < 0.6


def test_every_inhabited_continent_has_images() -> None:
    sectors = {
        "north america": (-4, 1),
        "south america": (-2, -1),
        "europe": (0, 1),
        "africa": (0, -1),
        "asia": (2, 0),
        "australia": (4, -2),
    }
    assert set(sectors.values()) <= set(busy_cells(SampleCatalogue(), degrees=30.0))


def test_a_larger_sample_spreads_instead_of_growing_denser() -> None:
    small = busy_cells(SampleCatalogue(2000), degrees=0.05)
    large = busy_cells(SampleCatalogue(20_000), degrees=0.05)
    assert large.total() > 10 * small.total()
    assert max(large.values()) < 3 * max(small.values())
    assert len(large) > 7 * len(small)


def test_memory_does_not_grow_with_what_is_read() -> None:
    """A megabyte is less than a tenth of the items read and a five-hundredth of the whole catalogue."""
    with SampleCatalogue(200_000).snapshot() as snapshot:
        tracemalloc.start()
        try:
            read = sum(1 for _ in islice(snapshot.items(), 4000))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert read == 4000
    assert peak < 1_000_000
