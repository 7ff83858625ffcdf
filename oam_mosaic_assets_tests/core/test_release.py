"""Names, keys, pointer, TileJSON; the plan; and whether the public mosaic is fresh and unaltered."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from oam_mosaic_assets.core.comparison import compare_ids
from oam_mosaic_assets.core.freshness import Comparison, compare_counts, judge_freshness
from oam_mosaic_assets.core.release import Keys, Pointer, build_name, tilejson
from oam_mosaic_assets.core.tiling import TilingPlan

NOW = datetime(2026, 1, 15, 3, tzinfo=UTC)
POINTER = Pointer(
    build="20260115T030000Z-3f9c2a7d41be",
    digest="3f9c2a7d41be",
    snapshot_taken_at=NOW.isoformat(),
    checked_at=NOW.isoformat(),
    published_at=NOW.isoformat(),
    source="pgstac",
    images=95,
    set_aside=5,
    archive="mosaic/builds/b/global-mosaic.pmtiles",
    manifest="mosaic/builds/b/manifest.json",
    size=1,
    sha256="00",
    etags={"global-mosaic.pmtiles": "e"},
)


def test_a_build_is_named_by_its_start_in_utc_and_its_digest() -> None:
    started = datetime(2026, 1, 15, 5, tzinfo=timezone(timedelta(hours=2)))
    assert build_name(started, "3f9c2a7d41be" + "0" * 52) == POINTER.build


def test_keys_are_those_that_others_rely_on() -> None:
    keys = Keys(aliases=("global-coverage.pmtiles",))
    assert keys.fixed_archives() == ("global-mosaic.pmtiles", "global-coverage.pmtiles")
    assert keys.tilejson == "global-mosaic.json"
    assert keys.pointer == "mosaic/latest.json"
    assert keys.release("b", "manifest.json") == "mosaic/builds/b/manifest.json"
    assert keys.staging("b", "x") == "mosaic/staging/b/x"
    assert keys.below("test/").release("b", "x") == "test/mosaic/builds/b/x"


def test_the_pointer_survives_the_store() -> None:
    assert Pointer.from_json(POINTER.to_json()) == POINTER


def test_a_pointer_that_knows_the_archive_only_is_read() -> None:
    """Written by versions from before there were other products."""
    stated = json.loads(POINTER.to_json())
    del stated["products"]
    assert Pointer.from_json(json.dumps(stated).encode()).released == {
        "global-mosaic.pmtiles": POINTER.archive
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"build": 1}',
        b"\xff",
        replace(POINTER, format=2).to_json(),
        replace(POINTER, products={"a.json": {"key": "a"}}).to_json(),
        replace(POINTER, archive="mosaic/../../etc/passwd").to_json(),
        replace(POINTER, manifest="").to_json(),
        replace(POINTER, etags={"/global-mosaic.pmtiles": "e"}).to_json(),
    ],
)
def test_what_is_no_pointer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        Pointer.from_json(content)


def test_the_tilejson_holds_what_version_3_demands() -> None:
    plan = TilingPlan()
    document = tilejson(
        metadata=plan.metadata("v2", "d"),
        bounds=(-180.0, -85.0, 180.0, 85.0),
        zoom_min=0,
        zoom_max=15,
        archive_address="https://example.org/a.pmtiles",
        build="b",
    )
    assert document["tilejson"] == "3.0.0"
    assert document["tiles"] == ["pmtiles://https://example.org/a.pmtiles/{z}/{x}/{y}"]
    assert document["vector_layers"][0]["id"] == "globalcoverage"
    assert document["vector_layers"][0]["fields"] == {"id": "String", "count": "Number"}
    assert (document["minzoom"], document["maxzoom"], document["scheme"]) == (0, 15, "xyz")
    assert "OpenAerialMap" in document["attribution"]
    json.dumps(document, allow_nan=False)


def test_another_plan_or_tippecanoe_is_another_recipe() -> None:
    plan = TilingPlan()
    digests = {plan.digest("v2.72.0"), plan.digest("v2.73.0"), replace(plan, zoom_max=14).digest("v2.72.0")}
    assert len(digests) == 3
    assert plan.digest("v2.72.0") == TilingPlan().digest("v2.72.0")


def fresh(
    age_hours: float,
    *,
    differences: tuple[str, ...] = (),
    comparison: Comparison | None = None,
    not_gone: int = 0,
) -> tuple[bool, bool, str]:
    found = judge_freshness(
        POINTER,
        differences=differences,
        comparison=comparison,
        now=NOW + timedelta(hours=age_hours),
        warn_hours=25,
        fail_hours=36,
        not_gone=not_gone,
    )
    return found.passed, found.is_late_only, found.text


def test_a_young_mosaic_is_fresh() -> None:
    passed, _, text = fresh(24.9, comparison=compare_ids("abc", set("abc")))
    assert passed
    assert "no images have since been added to the catalogue or removed from it" in text


def test_at_the_warning_age_it_is_late_and_at_the_failing_age_stale() -> None:
    assert fresh(25)[:2] == (False, True)
    assert fresh(35.9)[:2] == (False, True)
    passed, late_only, text = fresh(36)
    assert (passed, late_only) == (False, False)
    assert "stale" in text


def test_a_snapshot_from_the_future_is_young_only_by_a_wrong_clock() -> None:
    passed, _, text = fresh(-0.2)
    assert passed
    assert " is 0 min old and shows " in text
    passed, late_only, text = fresh(-24)
    assert (passed, late_only) == (False, True)
    assert text.startswith("its snapshot is 24.0 h ahead of this machine's clock: set the clock")
    assert " old" not in text, "how old it is, nobody knows"


def test_what_someone_deleted_is_named_however_young_the_mosaic_is() -> None:
    passed, late_only, text = fresh(1, differences=("global-mosaic.pmtiles is gone",))
    assert (passed, late_only) == (False, False)
    assert text.startswith("global-mosaic.pmtiles is gone")


def test_a_takedown_that_is_not_finished_is_a_warning_however_young_the_mosaic_is() -> None:
    passed, late_only, text = fresh(1, not_gone=2)
    assert (passed, late_only) == (False, True)
    assert "images on the takedown list that may still be public or kept here: 2" in text
    assert fresh(40, not_gone=2)[:2] == (False, False)


def test_an_addition_and_a_deletion_do_not_cancel() -> None:
    text = fresh(1, comparison=compare_ids(["b", "c", "d", "e"], {"a", "b", "c", "x"}))[2]
    assert "2 of the catalogue's images not in it yet, 2 of its own no longer in the catalogue" in text


def test_what_has_no_id_or_comes_twice_is_counted_and_lacks_nothing() -> None:
    found = compare_ids(["a", "a", None, "", 7, "\ud800"], {"a"})
    assert found == Comparison(catalogued=6, lacking=0, departed=0)


@pytest.mark.parametrize(("catalogued", "lacking", "departed"), [(107, 7, 0), (90, 0, 10), (100, 0, 0)])
def test_where_only_numbers_are_known_it_says_so(catalogued: int, lacking: int, departed: int) -> None:
    found = compare_counts(catalogued, POINTER, why="it is an API")
    assert (found.lacking, found.departed) == (lacking, departed)
    assert fresh(1, comparison=found)[2].endswith("(only counted: it is an API)")


def test_where_nothing_was_published_nothing_is_fresh() -> None:
    found = judge_freshness(None, differences=[], comparison=None, now=NOW, warn_hours=25, fail_hours=36)
    assert not found.passed
    assert "nothing has been published" in found.text


def test_what_was_taken_down_is_neither_lacking_nor_departed() -> None:
    found = compare_ids(["a", "b", "new"], {"a", "c"}, taken_down={"b", "c"})
    assert (found.catalogued, found.lacking, found.departed) == (3, 1, 0)


def test_the_list_of_what_was_taken_down_holds_in_test_mode_too() -> None:
    keys = Keys(prefix="maps/").below("test/").below("sample/")
    assert keys.taken_down == "maps/taken_down.json"
    assert keys.hold == "sample/test/maps/hold.json"
