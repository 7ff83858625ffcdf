"""Footprints in drawing order: whatever is added comes out, oldest first, once per id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oam_mosaic_assets.core.drawing_order import SCHEMA, DrawingOrder
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW
from oam_mosaic_assets_tests.core.strategies import examples

KNOWN = Footprint(
    id="ä 👩‍🚒",
    geometry=shapely.box(170.1, -10, 179.9, 10),
    acquired_from=datetime(1858, 1, 1, tzinfo=UTC),
    acquired_to=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    updated=NOW,
    title='"; DROP TABLE footprints',
    provider="",
    platform="uav",
    sensor="a, b",
    gsd=0.1 + 0.2,
    license="CC-BY-4.0",
    asset="https://example.org/a.tif?x=1",
    asset_name="visual",
    thumbnail="s3://bucket/key",
    file_size=2**63 - 1,
    unknown=("gsd: not a number", "datetime: in the future"),
)


@pytest.fixture
def order(tmp_path: Path) -> Iterator[DrawingOrder]:
    with DrawingOrder(tmp_path / "a.sqlite") as made:
        yield made


def whole(order: DrawingOrder, size: int = 1000) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=SCHEMA), *order.batches(size)])


def test_everything_that_is_known_comes_out_as_it_went_in(order: DrawingOrder) -> None:
    assert order.add([KNOWN, Footprint(id="nothing else", geometry=KNOWN.geometry)]) == [True, True]

    nothing, row = whole(order).to_dicts()
    for name in (each.name for each in fields(Footprint)):
        if name not in {"geometry", "unknown"}:
            assert row[name] == getattr(KNOWN, name)
            assert name == "id" or nothing[name] is None
    assert shapely.from_wkb(row["geometry"]) == KNOWN.geometry
    assert row["bbox"] == {"xmin": 170.1, "ymin": -10, "xmax": 179.9, "ymax": 10}
    assert (row["unknown"], nothing["unknown"]) == ([*KNOWN.unknown], [])


def test_an_id_that_is_there_already_is_left_out(order: DrawingOrder) -> None:
    again = replace(
        KNOWN, title="again", acquired_to=NOW + timedelta(days=1), geometry=shapely.box(0, 0, 1, 1)
    )

    assert order.add([KNOWN, again, replace(KNOWN, id="other")]) == [True, False, True]
    assert order.add([again]) == [False]
    assert whole(order)["title"].to_list() == [KNOWN.title] * 2


def test_of_nothing_comes_nothing(order: DrawingOrder) -> None:
    assert order.add([]) == []
    assert list(order.batches(10)) == []


@settings(examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=3),
        st.none() | st.datetimes(timezones=st.just(UTC)),
        max_size=20,
    ),
    size=st.integers(1, 7),
)
def test_the_order_is_acquisition_then_id_whatever_they_are(
    rows: dict[str, datetime | None], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with DrawingOrder(tmp_path_factory.mktemp("order") / "a.sqlite") as order:
        order.add(
            [Footprint(id=name, geometry=KNOWN.geometry, acquired_to=moment) for name, moment in rows.items()]
        )
        batches = list(order.batches(size))

    assert all(batch.schema == SCHEMA for batch in batches)
    assert [batch.height for batch in batches[:-1]] == [size] * (len(batches) - 1)
    unknown = datetime.min.replace(tzinfo=UTC)
    expected = sorted(rows, key=lambda name: (rows[name] is not None, rows[name] or unknown, name.encode()))
    assert [name for batch in batches for name in batch["id"]] == expected


def digest_of(footprint: Footprint, folder: Path) -> bytes:
    with DrawingOrder(folder / "a.sqlite") as order:
        order.add([footprint])
        digest: bytes = whole(order)["digest"].item()
    return digest


@pytest.mark.parametrize("name", [each.name for each in fields(Footprint)])
def test_the_digest_changes_with_everything_that_is_known(name: str, tmp_path: Path) -> None:
    changed: Any = {
        "geometry": shapely.box(0, 0, 1, 1),
        "unknown": ("gsd: not a number",),
        "gsd": 0.3,
        "file_size": 9,
        "acquired_from": NOW,
        "acquired_to": NOW,
        "updated": NOW - timedelta(microseconds=1),
    }.get(name, "other")
    for folder in ("one", "another", "same"):
        (tmp_path / folder).mkdir()

    digest = digest_of(KNOWN, tmp_path / "one")

    assert digest_of(replace(KNOWN, **{name: changed}), tmp_path / "another") != digest
    assert digest_of(replace(KNOWN), tmp_path / "same") == digest


def test_the_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from oam_mosaic_assets_tests.core.test_drawing_order import KNOWN, digest_of\n"
        f"print(digest_of(KNOWN, Path({str(tmp_path)!r})).hex())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    (tmp_path / "here").mkdir()
    assert answer.stdout.strip() == digest_of(KNOWN, tmp_path / "here").hex()


def test_all_of_it_lies_in_the_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorting must not fill another disk: SQLite sorts even where it cannot write temporary files."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with DrawingOrder(tmp_path / "a.sqlite") as order:
        for number in range(40):
            order.add([replace(each, id=f"{each.id} {number}") for each in IMAGES])
        (plan,) = order._database.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM footprints ORDER BY acquired_to, id"
        ).fetchall()
        assert whole(order).height == 40 * len(IMAGES)
    assert "USING INDEX drawing_order" in plan[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.sqlite"]
