"""Several products of one build: they turn together or not at all, on every store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.product import MOSAIC, PMTILES
from oam_mosaic_assets.core.release import ARCHIVE
from oam_mosaic_assets.errors import HeldBack, NotAsPublished, RollbackRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.purge import purge
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Candidate, Releases
from oam_mosaic_assets.gateways.unchanged import note_unchanged
from oam_mosaic_assets_tests.gateways.two_products import (
    BOTH,
    GONE,
    JSON,
    OTHER,
    back,
    built,
    fails_once,
    manifest_of,
    published,
    shows,
    unreadable,
)


def test_all_products_of_a_build_turn_together_and_back(releases: Releases, tmp_path: Path) -> None:
    first = published(releases, "a", *BOTH)
    second = published(releases, "b", *BOTH)

    found = releases.store.get_bytes(second.manifest)
    assert found is not None
    assert json.loads(found[0])["products"][OTHER.name]["sha256"] == second.products[OTHER.name]["sha256"]
    assert second.products[ARCHIVE]["content_type"] == PMTILES

    back(releases, first.build, tmp_path)
    shows(releases, "a", *BOTH)


@pytest.mark.parametrize("key", ["other.json", "old.pmtiles", "global-mosaic.json"])
def test_where_one_of_them_is_not_readable_nothing_has_changed(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        unreadable(patch, releases.store, key)
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", *BOTH))
    shows(releases, "a", *BOTH)
    published(releases, "c", *BOTH)


def test_a_product_that_fails_at_its_first_publication_is_gone_again(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(releases, "a", MOSAIC)
    with monkeypatch.context() as patch:
        unreadable(patch, releases.store, OTHER.name)
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", *BOTH))
    shows(releases, "a", MOSAIC)
    published(releases, "c", *BOTH)


def test_a_product_whose_release_is_not_readable_leaves_no_release(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(releases, "a", *BOTH)
    candidate = built(releases, "b", *BOTH)
    build = candidate.pointer.build
    with monkeypatch.context() as patch:
        unreadable(patch, releases.store, releases.keys.release(build, OTHER.name))
        with pytest.raises(NotAsPublished):
            releases.publish(candidate)
    assert list(releases.store.keys(releases.keys.release(build))) == []
    shows(releases, "a", *BOTH)


def test_a_public_build_that_is_published_again_keeps_its_manifest(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publication was killed once the pointer was turned, before it had tidied up."""
    published(releases, "a", *BOTH)
    candidate = built(releases, "b", *BOTH)

    def keep_tables(_: Candidate) -> None:
        raise StoreUnavailable("the store is gone", hint="Run again.")

    with monkeypatch.context() as patch:
        patch.setattr(releases, "_keep_tables", keep_tables)
        releases.publish(candidate)
    manifest = manifest_of(releases, candidate)

    releases.publish(candidate)

    shows(releases, "b", *BOTH)
    assert manifest_of(releases, candidate) == manifest


def test_a_pointer_that_cannot_be_read_back_costs_a_public_build_nothing(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    real = releases.public.read_back

    def read_back(key: str, expected: Expected) -> None:
        if key == releases.keys.pointer:
            raise NotAsPublished("a cache still shows the one before", hint="Wait.")
        real(key, expected)

    monkeypatch.setattr(releases.public, "read_back", read_back)
    pointer = releases.publish(built(releases, "a", *BOTH), warn=warned.append)
    shows(releases, "a", *BOTH)
    (warning,) = warned
    assert warning.startswith(f"{pointer.build} is public, but not everybody can see so yet. a cache still")
    assert releases.store.head(releases.keys.footprints(pointer.build)) is not None
    assert list(releases.staged.objects()) == []


def test_a_pointer_that_strangers_cannot_read_is_a_difference(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = published(releases, "a", *BOTH)
    kind = type(releases.store)
    real = kind.read_publicly

    def read_publicly(self: Any, key: str, **part: Any) -> bytes | None:
        return None if key == releases.keys.pointer else real(self, key, **part)

    monkeypatch.setattr(kind, "read_publicly", read_publicly)
    assert releases.differences(pointer) == ["mosaic/latest.json is not publicly readable"]


def test_what_a_killed_doctor_left_does_not_mean_that_something_changed(releases: Releases) -> None:
    candidate = built(releases, "a", *BOTH)
    releases.publish(replace(candidate, pointer=replace(candidate.pointer, basis="the same")))
    probe = releases.keys.staging("doctor-1234", "probe")
    releases.store.put_bytes(probe, b"1", Headers("text/plain"))
    assert note_unchanged(releases, "the same", taken_at=datetime.now(UTC), say=print) is not None
    releases.staged.name_build(datetime.now(UTC), "0" * 64, run="killed")
    assert note_unchanged(releases, "the same", taken_at=datetime.now(UTC), say=print) is None


def test_what_a_build_does_not_have_is_not_left_of_another(releases: Releases, tmp_path: Path) -> None:
    first = published(releases, "a", *BOTH)
    second = published(releases, "b", MOSAIC)
    back(releases, first.build, tmp_path)
    shows(releases, "a", *BOTH)
    back(releases, second.build, tmp_path)
    shows(releases, "b", MOSAIC)


def test_a_product_that_was_taken_away_comes_back_where_the_pointer_cannot_be_turned(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        patch.setattr(releases.public, "turn_pointer", fails_once(releases.public.turn_pointer))
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", MOSAIC))
    shows(releases, "a", *BOTH)


def test_somebody_elses_object_under_a_products_key_is_kept(releases: Releases, tmp_path: Path) -> None:
    store, foreign = releases.store, b"somebody else's"
    store.put_bytes(OTHER.name, foreign, Headers("text/plain"), public=True)
    first = releases.publish(built(releases, "a", MOSAIC))
    with pytest.raises(HeldBack, match=r"other\.json"):
        releases.publish(built(releases, "b", *BOTH))
    assert store.read_publicly(OTHER.name) == foreign
    assert releases.current() is not None

    second = releases.publish(built(releases, "c", *BOTH), confirmed="ours now")
    shows(releases, "c", *BOTH)
    (kept,) = store.keys(f"{releases.keys.releases_root}foreign-")
    assert kept.key.endswith("-other.json")

    store.put_bytes(OTHER.name, foreign, Headers("text/plain"), public=True)
    back(releases, first.build, tmp_path)
    assert store.read_publicly(OTHER.name) == foreign, "nobody takes away what is not ours"
    back(releases, second.build, tmp_path)
    shows(releases, "c", *BOTH)


def test_a_build_that_lost_a_product_is_not_made_public_again(releases: Releases, tmp_path: Path) -> None:
    first = published(releases, "a", *BOTH)
    published(releases, "b", *BOTH)
    releases.store.delete([first.released[OTHER.name]])
    with pytest.raises(RollbackRefused, match=r"other\.json is gone"):
        back(releases, first.build, tmp_path)
    shows(releases, "b", *BOTH)


def test_a_product_that_is_gone_is_noticed(releases: Releases) -> None:
    pointer = published(releases, "a", *BOTH)
    releases.store.delete([OTHER.name, pointer.released[OTHER.name]])
    assert releases.differences(pointer) == [
        "other.json is gone",
        f"{pointer.released[OTHER.name]} is gone",
    ]


def test_an_image_that_only_the_second_product_names_is_found(releases: Releases, tmp_path: Path) -> None:
    first = published(releases, "y", *BOTH)
    kept = purge(releases, GONE, folder=tmp_path, say=lambda _: None)
    assert sorted(kept.left) == [first.released[OTHER.name], OTHER.name]

    published(releases, "b", *BOTH)
    found = purge(releases, GONE, folder=tmp_path, say=lambda _: None)
    assert (found.deleted, found.left) == ((first.build,), ())
    shows(releases, "b", *BOTH)
    releases.takedowns.add(GONE, "the pilot asked for it")
    assert list(releases.store.keys(releases.keys.release(first.build))) == []


def test_a_report_that_names_an_image_takes_no_partition_of_imagery_along(
    releases: Releases, tmp_path: Path
) -> None:
    """An image that could not be read appears in the report on all partitions, but in none of them."""
    store, keys = releases.store, releases.keys
    published(releases, "a", *BOTH)
    states = [f"{keys.imagery}{tile}/state.json" for tile in ("6-1-1", "6-34-23")]
    for state in states:
        store.put_bytes(state, b'{"blocks": {}}', Headers(JSON))
    store.put_bytes(keys.imagery_report, f'{{"skipped": [{{"id": "{GONE}"}}]}}'.encode(), Headers(JSON))
    found = purge(releases, GONE, folder=tmp_path, say=lambda _: None)
    assert (found.deleted, found.left) == ((keys.imagery_report,), ())
    assert [each.key for each in store.keys(keys.imagery)] == states

    store.put_bytes(states[0], f'{{"blocks": {{"1": "{GONE}"}}}}'.encode(), Headers(JSON))
    found = purge(releases, GONE, folder=tmp_path, say=lambda _: None)
    assert found.deleted == (f"{keys.imagery}6-1-1/",)
    assert [each.key for each in store.keys(keys.imagery)] == states[1:]
