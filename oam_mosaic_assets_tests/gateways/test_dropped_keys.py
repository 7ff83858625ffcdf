"""Public keys that the settings no longer name, or name for something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.core.release import ARCHIVE, Keys
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.purge import purge
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.rollback import roll_back
from oam_mosaic_assets_tests.faults.stores import failing_at
from oam_mosaic_assets_tests.gateways.two_products import (
    BOTH,
    GONE,
    JSON,
    OTHER,
    back,
    built,
    published,
    shows,
)


def test_a_product_whose_key_became_an_alias_is_left_out_of_a_rollback(
    releases: Releases, tmp_path: Path
) -> None:
    first = published(releases, "a", *BOTH)
    keys = replace(releases.keys, products=(MOSAIC,), aliases=(OTHER.name,))
    later = Releases(releases.store, keys, patience_seconds=0.0)
    later.publish(built(later, "b", MOSAIC))
    said: list[str] = []

    def shown_again() -> None:
        pointer, _ = roll_back(later, first.build, reason="a look", folder=tmp_path, say=said.append)
        assert later.differences(pointer) == []
        assert [*pointer.released] == [ARCHIVE]
        archive = later.store.read_publicly(first.archive)
        assert [later.store.read_publicly(key) for key in keys.fixed_archives()] == [archive] * 2

    shown_again()
    assert "leaving out other.json: by the settings, other.json is a key of global-mosaic.pmtiles" in said
    later.store.put_bytes(OTHER.name, b"somebody's", Headers("text/plain"), public=True)
    shown_again()


def test_a_product_that_is_no_longer_made_is_searched_as_long_as_it_is_public(
    releases: Releases, tmp_path: Path
) -> None:
    first = published(releases, "y", *BOTH)
    without = Releases(releases.store, replace(releases.keys, products=(MOSAIC,)))
    found = purge(without, GONE, folder=tmp_path, say=lambda _: None)
    assert sorted(found.left) == [first.released[OTHER.name], OTHER.name]


@pytest.mark.parametrize("key", [Keys().tilejson, Keys().pointer])
def test_keys_that_the_settings_dropped_outlast_a_publication_that_failed_and_no_other(
    releases: Releases, tmp_path: Path, key: str
) -> None:
    """Before the pointer is turned, they are deleted; otherwise a takedown has to find them."""
    store, dropped = releases.store, {"old.pmtiles", OTHER.name}
    first = published(releases, "y", *BOTH)
    shown = {each: store.read_publicly(each) for each in dropped}
    renamed = replace(releases.keys, aliases=(), named={OTHER.name: "new.json"})
    later = Releases(store, renamed, patience_seconds=0.0)

    with failing_at(store, key), pytest.raises(StoreUnavailable):
        later.publish(built(later, "b", *BOTH))

    current = later.current()
    assert current is not None
    assert current[0].build == first.build
    assert dropped < current[0].etags.keys()
    assert later.differences(current[0]) == []
    assert {each: store.read_publicly(each) for each in dropped} == shown
    found = purge(later, GONE, folder=tmp_path, say=lambda _: None)
    assert sorted(found.left) == [first.released[OTHER.name], "new.json", OTHER.name]

    published(later, "c", *BOTH)
    assert [store.head(each) for each in dropped] == [None, None]


def test_an_alias_whose_key_becomes_a_products_shows_the_archive_until_that_is_public(
    releases: Releases,
) -> None:
    published(releases, "a", MOSAIC)
    taken_over = replace(releases.keys, aliases=(), named={OTHER.name: "old.pmtiles"})
    later = Releases(releases.store, taken_over, patience_seconds=0.0)

    with failing_at(releases.store, releases.keys.tilejson), pytest.raises(StoreUnavailable):
        later.publish(built(later, "b", *BOTH))

    shows(releases, "a", MOSAIC)
    published(later, "c", *BOTH)


def test_a_pointer_of_a_version_that_knew_the_archive_only_is_read_and_replaced(
    releases: Releases, tmp_path: Path
) -> None:
    """Its manifest lists no products either, but it can be made public again."""
    store = releases.store
    first = published(releases, "a", MOSAIC)
    for key in (releases.keys.pointer, first.manifest):
        found = store.get_bytes(key)
        assert found is not None
        stated = json.loads(found[0])
        del stated["products"]
        store.put_bytes(key, json.dumps(stated).encode(), Headers(JSON), public=True)

    shows(releases, "a", MOSAIC)
    published(releases, "b", *BOTH)
    back(releases, first.build, tmp_path)
    shows(releases, "a", MOSAIC)
