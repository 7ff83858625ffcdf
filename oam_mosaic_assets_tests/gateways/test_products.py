"""Several products of one build: they turn together or not at all, on every store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.product import MOSAIC, PMTILES, Product
from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, TILEJSON, Keys, Pointer, in_pointer
from oam_mosaic_assets.errors import HeldBack, NotAsPublished, RollbackRefused, StoreUnavailable
from oam_mosaic_assets.gateways.history import read_releases
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PublicHead
from oam_mosaic_assets.gateways.public_keys import Part
from oam_mosaic_assets.gateways.purge import purge
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.releases import Candidate, Releases
from oam_mosaic_assets.gateways.rollback import roll_back
from oam_mosaic_assets.gateways.unchanged import note_unchanged
from oam_mosaic_assets_tests.faults.stores import failing_at

JSON = "application/json"
OTHER = Product(word="other", name="other.json", content_type=JSON, asset="other")
BOTH = (MOSAIC, OTHER)
GONE = "5f1c0c2bd1c7c3000756f1f2"


@pytest.fixture
def releases(store: ObjectStore) -> Releases:
    """Releases whose builds have two products."""
    return Releases(store, Keys(products=BOTH, aliases=("old.pmtiles",)), patience_seconds=0.0)


def built(releases: Releases, letter: str, *products: Product) -> Candidate:
    """A staged and audited build; its products contain its letter, and in `y` the second names an image."""
    now, keys, digest = datetime.now(UTC), releases.keys, sha256(letter.encode()).hexdigest()
    build = releases.staged.name_build(now, digest, run=letter)
    parts, described = [], {}
    for each in products:
        named = f' "{GONE}"' if (letter, each) == ("y", OTHER) else ""
        content = f"{each.name} of {letter}{named}".encode() * 300
        stored = releases.store.put_bytes(keys.staging(build, each.name), content, Headers("text/plain"))
        ends = {"head": content[:1024], "tail": content[-1024:]}
        expected = Expected(content_type=each.content_type, size=len(content), **ends)
        parts.append(Part(name=each.name, stored=stored, expected=expected))
        described[each.name] = {
            "key": keys.release(build, each.name),
            "content_type": each.content_type,
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }
    table = releases.store.put_bytes(keys.staging(build, "table"), b"{}", Headers("text/plain"))
    archive = described[ARCHIVE]
    pointer = Pointer(
        build=build,
        digest=digest,
        snapshot_taken_at=now.isoformat(),
        checked_at=now.isoformat(),
        published_at="",
        source="pgstac",
        images=1,
        set_aside=0,
        archive=str(archive["key"]),
        manifest=keys.release(build, MANIFEST),
        size=len(content),
        sha256=str(archive["sha256"]),
        products=in_pointer(described),
    )
    pointer = replace(pointer, size=int(str(archive["bytes"])))
    manifest = {
        "build": build,
        "snapshot": {"digest": digest, "taken_at": now.isoformat()},
        "source": "pgstac",
        "images": 1,
        "set_aside": {},
        "archive": archive,
        "products": described,
        "confirmed": None,
    }
    return Candidate(
        parts=parts,
        footprints=table,
        set_aside=table,
        pointer=pointer,
        manifest=manifest,
        tilejson=lambda address: {"pmtiles": address, "tiles": [], "build": build},
        names_any=lambda ids: GONE in ids and letter == "y",
    )


def published(releases: Releases, letter: str, *products: Product) -> Pointer:
    pointer = releases.publish(built(releases, letter, *products))
    shows(releases, letter, *products)
    return pointer


def shows(releases: Releases, letter: str, *products: Product) -> None:
    """Check what a stranger sees: these products of this build, complete, and no others."""
    store, keys = releases.store, releases.keys
    current = releases.current()
    assert current is not None
    pointer = current[0]
    assert pointer.digest == sha256(letter.encode()).hexdigest()
    assert list(pointer.released) == [each.name for each in products]
    assert pointer.etags.keys() == {*keys.fixed_of(each.name for each in products)}
    assert releases.differences(pointer) == []
    for each in products:
        for key in (*keys.fixed(each.name), pointer.released[each.name]):
            content, head = store.read_publicly(key), store.head_publicly(key)
            assert content is not None
            assert content.startswith(f"{each.name} of {letter}".encode())
            assert head == PublicHead(len(content), each.content_type if head and head.content_type else None)
            if pointer.products:
                assert sha256(content).hexdigest() == pointer.products[each.name]["sha256"]
    for each in {*BOTH} - {*products}:
        assert [store.head(key) for key in keys.fixed(each.name)] == [None]


def there(releases: Releases) -> set[str]:
    """The builds that are released, public or not."""
    return {each.build for each in read_releases(releases.store, releases.keys)}


def back(releases: Releases, build: str, folder: Path) -> Pointer:
    return roll_back(releases, build, reason="a look", folder=folder, say=lambda _: None)[0]


def unreadable(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, key: str) -> None:
    """Hide this key from strangers; everything else stays."""
    kind = type(store)
    real = kind.head_publicly

    def head_publicly(self: Any, asked: str) -> PublicHead | None:
        return None if asked == key else real(self, asked)

    monkeypatch.setattr(kind, "head_publicly", head_publicly)


def manifest_of(releases: Releases, candidate: Candidate) -> bytes:
    found = releases.store.get_bytes(candidate.pointer.manifest)
    assert found is not None
    return found[0]


def kept_by_a_cache(monkeypatch: pytest.MonkeyPatch, releases: Releases) -> None:
    """Let strangers see of every release what they saw of it first."""
    kind, kept = type(releases.store), dict[Any, Any]()

    def through(name: str) -> None:
        real = getattr(kind, name)

        def ask(self: Any, key: str, **part: Any) -> Any:
            if not key.startswith(releases.keys.releases_root):
                return real(self, key, **part)
            return kept.setdefault((name, key, *part.items()), real(self, key, **part))

        monkeypatch.setattr(kind, name, ask)

    through("head_publicly")
    through("read_publicly")


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


def test_a_build_that_could_not_be_turned_to_is_no_release(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        unreadable(patch, releases.store, OTHER.name)
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", *BOTH))
    assert there(releases) == {first.build}


def test_a_publication_that_was_killed_is_repeated_behind_a_cache(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a person gives a reason now, as for a build that is held back."""
    first = published(releases, "a", *BOTH)
    kept_by_a_cache(monkeypatch, releases)
    candidate = built(releases, "b", *BOTH)
    with releases.lock("killed").held(lambda _: None) as lock:
        releases._release(candidate, lock, lambda _: None, before=first.build)
    manifest = manifest_of(releases, candidate)
    assert json.loads(manifest)["previous"] == first.build

    reason = "it is as it should be"
    confirmed = replace(candidate, manifest={**candidate.manifest, "confirmed": reason})
    releases.publish(confirmed, confirmed=reason)

    shows(releases, "b", *BOTH)
    assert manifest_of(releases, candidate) == manifest


def test_the_next_publication_deletes_a_release_whose_publisher_was_killed_before_it_was_public(
    releases: Releases,
) -> None:
    first = published(releases, "a", *BOTH)
    killed = built(releases, "b", *BOTH)
    with releases.lock("killed").held(lambda _: None) as lock:
        releases._release(killed, lock, lambda _: None, before=first.build)
    assert there(releases) == {first.build, killed.pointer.build}

    third = published(releases, "c", *BOTH)

    assert there(releases) == {first.build, third.build}


@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_a_release_stays_whose_publisher_was_killed_when_it_was_public(
    releases: Releases,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_rolled_back: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    """Its footprints were not kept, and after a rollback no other release names it."""
    first = published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        patch.setattr(releases, "_keep_tables", _fails_once(releases._keep_tables))
        killed = published(releases, "b", *BOTH)
    if is_rolled_back:
        back(releases, first.build, tmp_path)
        releases.holds.put_back(None)

    third = published(releases, "c", *BOTH)

    assert there(releases) == {first.build, killed.build, third.build}


@pytest.mark.parametrize("key", [Keys().release("*", TILEJSON), Keys().pointer])
def test_a_publication_that_failed_is_repeated_behind_a_cache(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Its release was deleted, but strangers may already have seen the manifest."""
    published(releases, "a", *BOTH)
    kept_by_a_cache(monkeypatch, releases)
    candidate = built(releases, "b", *BOTH)
    build = candidate.pointer.build
    with failing_at(releases.store, key.replace("*", build)), pytest.raises(StoreUnavailable):
        releases.publish(candidate)
    assert list(releases.store.keys(releases.keys.release(build))) == []
    shows(releases, "a", *BOTH)

    releases.publish(candidate)

    shows(releases, "b", *BOTH)
    assert list(releases.staged.objects()) == []


def test_a_publication_that_failed_and_is_repeated_later_follows_what_is_public_by_then(
    releases: Releases,
) -> None:
    """What was public at first may have been found to be bad; a rollback must not lead back to it."""
    published(releases, "a", *BOTH)
    candidate = built(releases, "b", *BOTH)
    with failing_at(releases.store, releases.keys.pointer), pytest.raises(StoreUnavailable):
        releases.publish(candidate)
    current = releases.current()
    assert current is not None
    meanwhile = replace(current[0], build="20260115T020000Z-0123456789ab")
    releases.store.put_bytes(releases.keys.pointer, meanwhile.to_json(), Headers(JSON))

    releases.publish(candidate)

    assert json.loads(manifest_of(releases, candidate))["previous"] == meanwhile.build


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
        patch.setattr(releases.public, "turn_pointer", _fails_once(releases.public.turn_pointer))
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", MOSAIC))
    shows(releases, "a", *BOTH)


def _fails_once(call: Any) -> Any:
    failed: list[bool] = []

    def meet(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise NotAsPublished("the store is gone", hint="Run again.")
        return call(*arguments)

    return meet


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


def test_what_a_killed_publisher_left_of_a_product_is_known_for_ours(releases: Releases) -> None:
    first = published(releases, "a", *BOTH)
    published(releases, "b", MOSAIC)
    left = releases.store.head(first.released[OTHER.name])
    assert left is not None
    releases.store.copy(left, OTHER.name, Headers(JSON), public=True)

    published(releases, "c", *BOTH)
    assert list(releases.store.keys(f"{releases.keys.releases_root}foreign-")) == []


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
