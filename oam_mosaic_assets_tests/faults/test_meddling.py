"""What happens when somebody else writes to the store: it is noticed, refused or repaired."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, StoredObject
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.chain import Outcome, Site
from oam_mosaic_assets_tests.faults.stores import Meddled

ARCHIVE = Headers("application/vnd.pmtiles")
FOREIGN = b"someone else's archive"


@pytest.mark.parametrize("key", ["global-mosaic.pmtiles", "coverage/old.pmtiles"])
def test_a_public_object_that_was_replaced_is_noticed_and_repaired(site: Site, key: str) -> None:
    site.environment["MOSAIC_ALIASES"] = "coverage/old.pmtiles"
    before = site.published()
    assert site.run(job="mosaic_freshness").success

    site.store.put_bytes(key, FOREIGN, ARCHIVE, public=True)

    noticed = site.run(job="mosaic_freshness")
    assert not noticed.success
    assert f"{key} was overwritten on" in noticed.failed_checks["mosaic_is_fresh"]
    site.recovers(before)
    assert site.run(job="mosaic_freshness").success


@pytest.mark.parametrize("key", ["global-mosaic.pmtiles", "mosaic/builds"])
def test_a_public_object_that_was_deleted_is_noticed_and_repaired(site: Site, key: str) -> None:
    before = site.published()

    site.store.delete([before.archive if key == "mosaic/builds" else key])

    noticed = site.run(job="mosaic_freshness")
    assert not noticed.success
    assert f"{key}" in noticed.failed_checks["mosaic_is_fresh"]
    assert " is gone" in noticed.failed_checks["mosaic_is_fresh"]
    site.recovers(before)


@pytest.mark.parametrize(
    ("foreign", "said", "advice"),
    [
        (b'{"latest": "somebody\'s own"}', "cannot be read: it is not a pointer", "Check who wrote it"),
        (b'{"format": 99}', "cannot be read: it is of format 99", "upgrade this one"),
    ],
    ids=["somebody else", "a newer version"],
)
def test_a_pointer_that_is_not_ours_is_refused_and_left_alone(
    site: Site, foreign: bytes, said: str, advice: str
) -> None:
    before = site.published()
    pointer = site.keys.pointer
    ours, _ = site.store.get_bytes(pointer) or (b"", None)
    site.store.put_bytes(pointer, foreign, ARCHIVE, public=True)

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "StoreRefused"
    assert f"{pointer} in {site.store.origin} {said}" in outcome.text
    assert advice in outcome.text
    assert outcome.exit_code == 2
    assert site.store.read_publicly(pointer) == foreign
    site.store.put_bytes(pointer, ours, ARCHIVE, public=True)
    assert site.stays_whole() == before
    site.recovers(before)


def test_an_archive_that_is_swapped_before_the_publisher_fetches_it_is_not_published(site: Site) -> None:
    before = site.published()

    class Swapping(FolderStore):
        """A store in which the staged archive is replaced once its audit is recorded."""

        def put_bytes(self, key: str, *rest: Any, **options: Any) -> StoredObject:
            stored = super().put_bytes(key, *rest, **options)
            if key.endswith("/audit.json"):
                super().put_bytes(key.replace("audit.json", "global-mosaic.pmtiles"), FOREIGN, ARCHIVE)
            return stored

    outcome = site.run(store=Swapping(site.settings.mosaic_store))

    assert not outcome.success
    assert outcome.kind == "StoreUnavailable"
    assert "is not what was stored there: its digest differs" in outcome.text
    assert "check who else writes to this place" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


@pytest.mark.parametrize(
    ("stated", "instead", "said"),
    [(b"{", b"[", "it cannot be read"), (b'"build"', b'"guild"', "its digest differs")],
)
def test_a_description_that_is_altered_is_not_believed(
    site: Site, stated: bytes, instead: bytes, said: str
) -> None:
    before = site.published()

    class Altering(FolderStore):
        """A store that alters the description of the staged archive as it is written."""

        def put_bytes(self, key: str, content: bytes, *rest: Any, **options: Any) -> StoredObject:
            if key.endswith("/global_mosaic_pmtiles.json"):
                content = content.replace(stated, instead, 1)
            return super().put_bytes(key, content, *rest, **options)

    outcome = site.run(store=Altering(site.settings.mosaic_store))

    assert not outcome.success
    assert outcome.kind == "StoreUnavailable"
    assert f"/global_mosaic_pmtiles.json in {site.store.origin} is not what was stored there: {said}" in (
        outcome.text
    )
    assert site.stays_whole() == before
    site.recovers(before)


def test_an_archive_that_is_swapped_before_it_is_copied_is_not_published(any_site: Site) -> None:
    site, store = any_site, any_site.store
    before = site.published()
    fetched = type(store).copy

    def swap_and_copy(self: Any, source: StoredObject, key: str, *rest: Any, **options: Any) -> StoredObject:
        if source.key.startswith(site.keys.staging_root) and key.startswith(site.keys.releases_root):
            self.put_bytes(source.key, FOREIGN, ARCHIVE)
        return fetched(self, source, key, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "copy", swap_and_copy)
        outcome = site.run()

    refuses_swapped(site, outcome)
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_server_that_pins_copies_does_not_even_copy_what_is_swapped_at_the_last_moment(
    ceph_site: Site,
) -> None:
    site = ceph_site
    before = site.published()
    look = S3Store._expect

    def look_and_swap(self: S3Store, source: StoredObject) -> None:
        look(self, source)
        if source.key.startswith(site.keys.staging_root):
            self.put_bytes(source.key, FOREIGN, ARCHIVE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Store, "_expect", look_and_swap)
        outcome = site.run()

    refuses_swapped(site, outcome)
    assert site.stays_whole() == before
    site.recovers(before)


def refuses_swapped(site: Site, outcome: Outcome) -> None:
    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert f"The staged {site.keys.staging_root}" in outcome.text
    assert "was replaced after its audit" in outcome.text
    assert "check who else writes to this place" in outcome.text


def test_a_foreign_object_under_the_fixed_key_is_kept_and_waits_for_a_person(any_site: Site) -> None:
    site = any_site
    site.store.delete([each.key for each in site.store.keys("")])
    foreign = site.store.put_bytes("global-mosaic.pmtiles", FOREIGN, ARCHIVE, public=True)

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "HeldBack"
    assert f"global-mosaic.pmtiles in {site.store.origin} holds 22 bytes that no build wrote" in outcome.text
    assert re.search(r"oam-mosaic publish \d{8}T\d{6}Z-\w{12} --confirm REASON", outcome.text)
    assert outcome.exit_code == 3
    assert site.store.head("global-mosaic.pmtiles") == foreign
    assert site.store.read_publicly("global-mosaic.pmtiles") == FOREIGN
    assert site.store.head(site.keys.pointer) is None
    (kept,) = [each.key for each in site.store.keys(site.keys.releases_root)]
    assert kept.startswith(f"{site.keys.releases_root}foreign-")
    assert kept in outcome.text
    (build,) = {each.key.split("/")[2] for each in site.store.keys(site.keys.staging_root)}

    tags = {"oam-mosaic/build": build, "oam-mosaic/confirm": "it was an experiment"}
    assert site.run(job="publish_held_build", tags=tags).success

    assert site.stays_whole().build == build
    content, _ = site.store.get_bytes(kept) or (b"", None)
    assert content == FOREIGN


def test_a_foreign_object_that_is_replaced_while_it_is_copied_asks_for_another_run(site: Site) -> None:
    site.store.delete([each.key for each in site.store.keys("")])

    def write_foreign() -> None:
        site.store.put_bytes("global-mosaic.pmtiles", FOREIGN, ARCHIVE, public=True)

    write_foreign()
    copies = f"{site.keys.releases_root}foreign-*"
    outcome = site.run(store=Meddled(site.settings.mosaic_store, copies, write_foreign))

    assert (outcome.kind, outcome.exit_code) == ("PublicationLost", 1)
    assert "global-mosaic.pmtiles in" in outcome.text
    assert "check who else writes to this place" in outcome.text
    assert site.run().kind == "HeldBack"
    site.store.delete([each.key for each in site.store.keys("")])


def test_while_a_foreign_object_waits_for_a_person_neither_builds_nor_copies_pile_up(site: Site) -> None:
    site.store.delete([each.key for each in site.store.keys("")])
    site.store.put_bytes("global-mosaic.pmtiles", FOREIGN, ARCHIVE, public=True)
    waiting = Releases(site.store, site.keys).staged.waiting
    assert site.run().kind == "HeldBack"
    (oldest,) = waiting()
    (kept,) = site.store.keys(site.keys.releases_root)
    earlier = f"{site.keys.releases_root}foreign-20250801/{kept.key.rpartition('/')[2]}"
    site.store.copy(kept, earlier, ARCHIVE)
    site.store.delete([kept.key])

    newest = site.run()

    assert newest.kind == "HeldBack"
    assert f"a copy is kept as {earlier}" in newest.text
    assert [each.key for each in site.store.keys(site.keys.releases_root)] == [earlier]
    (build,) = waiting()
    assert build > oldest
    tags = {"oam-mosaic/build": oldest, "oam-mosaic/confirm": "it was an experiment"}
    assert (
        f"{oldest} was deleted when {build} was held back"
        in site.run(job="publish_held_build", tags=tags).text
    )
    assert site.run(job="publish_held_build", tags={**tags, "oam-mosaic/build": build}).success
    assert site.stays_whole().build == build


def test_a_foreign_file_that_is_edited_in_place_is_copied_again(site: Site) -> None:
    """Its ETag then begins as before: with the same inode, and a time that differs in its last digits."""
    site.store.delete([each.key for each in site.store.keys("")])
    site.store.put_bytes("global-mosaic.pmtiles", FOREIGN, ARCHIVE, public=True)
    assert site.run().kind == "HeldBack"
    file, later = site.settings.mosaic_store / "global-mosaic.pmtiles", b"edited before the person said yes"
    written = file.stat().st_mtime_ns
    file.write_bytes(later)
    os.utime(file, ns=(written ^ 1,) * 2)

    assert site.run().kind == "HeldBack"

    kept = [each.key for each in site.store.keys(f"{site.keys.releases_root}foreign-")]
    assert {(site.store.get_bytes(key) or (b"", None))[0] for key in kept} == {FOREIGN, later}
    site.store.delete([each.key for each in site.store.keys("")])


def test_a_foreign_object_under_an_alias_that_is_new_is_kept_as_well(any_site: Site) -> None:
    """Long after the first publication, and even if another alias has the same name in another folder."""
    site, aliases = any_site, ("global-coverage.pmtiles", "old/global-coverage.pmtiles")
    site.environment.pop("MOSAIC_ALIASES", None)
    before = site.published()
    contents = {key: f"{FOREIGN!r} under {key}".encode() for key in aliases}
    for key, content in contents.items():
        site.store.put_bytes(key, content, ARCHIVE, public=True)
    site.environment["MOSAIC_ALIASES"] = ",".join(aliases)

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "HeldBack"
    assert all(f"{key} in {site.store.origin} holds" in outcome.text for key in aliases)
    assert {key: site.store.read_publicly(key) for key in aliases} == contents
    (build,) = {each.key.split("/")[2] for each in site.store.keys(site.keys.staging_root)}
    later = b"put there before the person said yes"
    site.store.put_bytes(aliases[0], later, ARCHIVE, public=True)

    tags = {"oam-mosaic/build": build, "oam-mosaic/confirm": "nobody reads them"}
    assert site.run(job="publish_held_build", tags=tags).success

    assert site.stays_whole().build == build
    kept = [each.key for each in site.store.keys(f"{site.keys.releases_root}foreign-")]
    found = {(site.store.get_bytes(key) or (b"", None))[0] for key in kept}
    assert found >= {*contents.values(), later}
    site.environment.pop("MOSAIC_ALIASES")
    site.store.delete([*kept, *aliases])
    assert before.build < build


@pytest.mark.parametrize("build", ["mine", "", "../x", ".a/b"])
def test_a_foreign_tilejson_is_kept_as_well(site: Site, build: str) -> None:
    document = json.dumps({"build": build}).encode()
    site.store.delete([each.key for each in site.store.keys("")])
    site.store.put_bytes(site.keys.tilejson, document, Headers("application/json"), public=True)

    outcome = site.run()

    assert outcome.kind == "HeldBack"
    assert site.store.read_publicly(site.keys.tilejson) == document
    assert len(list(site.store.keys(f"{site.keys.releases_root}foreign-"))) == 1
    site.store.delete([each.key for each in site.store.keys("")])
