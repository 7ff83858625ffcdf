"""An image that was taken down is on no map, in no build, and in no object but the private list."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pmtiles.reader import MemorySource, Reader, all_tiles

from oam_mosaic_assets.automation.conditions import conditions_of
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import DETAILS
from oam_mosaic_assets.core.release import RUN_LOGS, Keys, Pointer
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.purge import purge
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole, some_items, write_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES

GZIP = 31
GONE = some_items(1)[0]["id"]
ODD = "--x'); DROP TABLE items; -- ../../\"é\\"
WHY = "the pilot asked for it"


def published(site: Site) -> Pointer:
    outcome = site.run()
    assert outcome.success, outcome.log
    return public_mosaic_is_whole(site.store, site.keys)


def naming(site: Site, name: str) -> list[str]:
    """The keys of all objects that contain the id anywhere, in decompressed tiles and Parquet rows too."""
    return [each.key for each in site.store.keys("") if holds(site, each.key, name)]


def holds(site: Site, key: str, name: str) -> bool:
    found = site.store.get_bytes(key)
    assert found is not None
    content = found[0]
    if content.startswith(b"PMTiles"):
        read = MemorySource(content)
        inflated = [zlib.decompress(tile, GZIP) for _, tile in all_tiles(read)]
        metadata = json.dumps(Reader(read).metadata(), ensure_ascii=False).encode()
        return any(name.encode() in each for each in [*inflated, metadata])
    if content.startswith(b"PAR1"):
        return name in repr(pl.read_parquet(io.BytesIO(content)).rows())
    written = {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]}
    return any(each.encode() in content for each in written)


def test_the_scan_of_this_test_finds_what_is_there(any_new_site: Site) -> None:
    site = any_new_site
    before = published(site)
    found = naming(site, GONE)
    assert {site.keys.archive, before.archive, site.keys.footprints(before.build)} <= set(found)


def test_the_logs_of_runs_are_searched_wherever_the_mosaic_is(tmp_path: Path) -> None:
    releases = Releases(FolderStore(tmp_path / "store"), Keys(prefix="maps/"))
    log = f"{RUN_LOGS}a-run/compute_logs/stac_footprints.err"
    releases.store.put_bytes(log, f"not drawn: ['{GONE}']".encode(), Headers("text/plain"))
    assert purge(releases, GONE, folder=tmp_path, say=lambda _: None).deleted == (log,)


def test_an_image_is_taken_off_everything_and_off_every_later_build(
    any_new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = any_new_site
    foreign = "mosaic/builds/foreign-20250801/old"
    first, second = published(site), published(site)
    archive = site.store.get_bytes(first.archive)
    assert archive is not None
    site.store.put_bytes(foreign, archive[0], Headers("application/octet-stream"))
    log = f"{RUN_LOGS}a-run/compute_logs/stac_footprints.err"
    site.store.put_bytes(log, f"not drawn: ['{GONE}']".encode(), Headers("text/plain"))
    write_items(site.items, some_items(IMAGES - 10))
    waiting = site.run()  # a guard holds it back, so it stays staged
    assert not waiting.success
    write_items(site.items, some_items(IMAGES))
    assert site.command("hold", "--reason", "a look at the islands") == 0
    capfd.readouterr()

    assert site.command("takedown", GONE, "--reason", WHY) == 0

    told = capfd.readouterr().out
    for deleted in (first.build, second.build, foreign, log):
        assert f"deleted: {deleted}" in told
    assert "nothing that is left names it" in told
    assert naming(site, GONE) == [site.keys.taken_down]
    assert site.store.read_publicly(site.keys.taken_down) is None
    after = site.stays_whole()
    assert (after.images, after.set_aside) == (IMAGES - 1, 1)
    manifest = site.store.read_publicly(after.manifest)
    assert manifest is not None
    assert json.loads(manifest)["set_aside"] == {"taken_down": 1}
    assert site.run(job="mosaic_freshness").success
    assert site.command("status", "--catalogue") == 0
    assert "no images have since been added to the catalogue or removed from it" in capfd.readouterr().out
    assert site.command("build") == 3, "the hold is still there"
    (run, *_) = (each for each in site.instance.get_runs() if "oam-mosaic/takedown" in each.tags)
    assert GONE not in repr(run.tags)
    assert WHY not in repr(run.tags)

    assert site.command("resume") == 0
    assert published(site).images == IMAGES - 1
    assert naming(site, GONE) == [site.keys.taken_down]

    assert site.command("takedown", "--list") == 0
    minute = r"20\d\d-\d\d-\d\d \d\d:\d\d UTC"
    told = capfd.readouterr().out
    assert re.search(rf"^{GONE}  {minute}  gone {minute}  {WHY}$", told, re.MULTILINE)
    Releases(site.store, site.keys).takedowns.add("short", WHY)
    assert site.command("takedown", "--list") == 0
    head, *rows = capfd.readouterr().out.splitlines()
    assert {row.index("  20") for row in rows} == {head.index("  taken down")}
    assert {row.index(f"  {WHY}") for row in rows} == {head.index("  reason")}
    assert site.command("takedown", "--undo", "short") == 0
    assert site.command("takedown", "--undo", GONE) == 0
    assert published(site).images == IMAGES
    assert site.command("takedown", "--undo", GONE) == 2


def test_an_id_is_an_opaque_string_and_need_not_be_in_the_catalogue(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    items = some_items(IMAGES)
    items[3]["id"] = ODD
    unreadable = json.dumps({"id": ODD})[:-1]  # not JSON, so its text would appear in the list
    write_items(site.items, [*items, unreadable])
    published_with_dirt = site.run({"MAX_SET_ASIDE_SHARE": "0.1"})
    assert published_with_dirt.success, published_with_dirt.log
    capfd.readouterr()

    assert site.command("takedown", "--reason", WHY, "--", ODD) == 0
    capfd.readouterr()
    assert site.command("takedown", "nobody's", "--reason", WHY) == 0

    told = capfd.readouterr().err
    assert told.index("the catalogue holds no image with this id") < told.index("Published")  # for Ctrl-C
    assert naming(site, ODD) == [site.keys.taken_down]
    assert public_mosaic_is_whole(site.store, site.keys).set_aside == 2
    assert site.command("takedown", "\ud800", "--reason", WHY) == 2


def test_where_no_catalogue_is_set_nothing_is_taken_down_but_what_the_sample_holds(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    write_items(site.items, some_items(IMAGES))
    before = published(site)
    del site.environment["STAC_ITEMS"]

    assert site.command("takedown", GONE, "--reason", WHY) == 2

    told = capfd.readouterr().err
    assert "No catalogue is set" in told
    assert "with the settings of the builds" in told
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert site.store.get_bytes(site.keys.taken_down) is None


def test_the_samples_place_in_a_bucket_has_nothing_to_do_for_the_catalogues_images(
    moto_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """There the command would be refused."""
    environment = {name: value for name, value in moto_site.environment.items() if name != "STAC_ITEMS"}
    sample = replace(moto_site, environment=environment)
    takedowns = Releases(moto_site.store, moto_site.keys).takedowns
    takedowns.add(GONE, WHY)
    for site, said in ((moto_site, "not gone yet"), (sample, "not shown here")):
        capfd.readouterr()
        assert site.command("takedown", "--list") == 0
        assert said in capfd.readouterr().out
    takedowns.remove(GONE)


def test_another_image_may_have_the_id_as_its_title(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """Or whoever uploads one could stop all publication, and keep an image public that is taken down."""
    site = new_site
    site.environment["MOSAIC_PRODUCTS"] = "mosaic,details"
    gone, another, *others = some_items(IMAGES)
    entitled = {"title": GONE, "oam:producer_name": GONE}
    write_items(site.items, [gone, another | {"properties": another["properties"] | entitled}, *others])
    published(site)

    assert site.command("takedown", GONE, "--reason", WHY) == 0

    first = site.stays_whole()
    assert first.images == IMAGES - 1
    assert names_any(site.settings.mosaic_store / DETAILS.name, {GONE}), "as a title"
    second = site.recovers(first)
    capfd.readouterr()
    assert site.command("takedown", GONE, "--reason", "asked again") == 0
    assert "none named it\n" in capfd.readouterr().out, "whoever takes it off the list would show it again"
    assert [each.reason for each in Releases(site.store, site.keys).takedowns.all()] == [
        f"{WHY}; asked again"
    ]
    assert site.command("rollback", second.build, "--reason", WHY) == 0
    assert site.stays_whole().build == second.build


def test_a_build_that_read_the_catalogue_before_is_not_published(new_site: Site) -> None:
    site = new_site
    before = published(site)

    class Late(Releases):
        """Somebody takes an image down once the build has read the catalogue."""

        def publish(self, *rest: Any, **options: Any) -> Pointer:
            self.takedowns.add(GONE, WHY)
            return super().publish(*rest, **options)

    outcome = site.run(releases=Late(site.store, site.keys))

    assert outcome.kind == "PublicationLost"
    assert "shows an image that was taken down since its snapshot" in outcome.text
    assert site.stays_whole() == before
    rollback = site.run(job="rollback", tags={"oam-mosaic/reason": WHY})
    assert not rollback.success
    assert site.recovers(before).images == IMAGES - 1
    back = site.run(job="rollback", tags={"oam-mosaic/reason": WHY})
    assert back.kind == "RollbackRefused"
    assert f"{before.build} shows an image that has been taken down since" in back.text


def test_where_no_build_can_be_made_that_is_said_and_a_second_call_ends_it(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    first, second = published(site), published(site)
    items = site.items.read_bytes()
    write_items(site.items, some_items(IMAGES - 10))
    waiting = site.run()
    assert waiting.failed_checks
    site.items.unlink()

    assert site.command("takedown", GONE, "--reason", WHY) == 2
    told = capfd.readouterr().out
    assert f"deleted: {first.build}" in told
    assert f"deleted: {waiting.build}" in told
    assert list(site.store.keys(site.keys.staging(waiting.build))) == []
    assert "still named in" in told
    assert site.keys.archive in told
    assert public_mosaic_is_whole(site.store, site.keys) == second
    assert site.command("takedown", "--list") == 0
    assert "not gone yet" in capfd.readouterr().out
    assert site.command("status") == 1
    assert f"but may still be public or kept here: {GONE}. Finish" in capfd.readouterr().out

    site.items.write_bytes(items)
    assert site.command("takedown", GONE, "--reason", WHY) == 0
    assert naming(site, GONE) == [site.keys.taken_down]
    capfd.readouterr()
    assert site.command("status") == 0
    assert "takedown" not in capfd.readouterr().out.lower()


def test_where_a_guard_holds_the_build_back_the_command_is_repeated_with_a_reason(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    site.environment["MOSAIC_PRODUCTS"] = "mosaic,changes"  # which are compared with the build before
    before = published(site)
    write_items(site.items, some_items(IMAGES - 10))

    assert site.command("takedown", GONE, "--reason", WHY) == 3

    told = "".join(capfd.readouterr())
    (held,) = Releases(site.store, site.keys).staged.waiting()
    assert f"deleting {held}" not in told
    assert f"deleted: {held}" not in told
    assert "Fix the cause" not in told
    assert f"the image is STILL PUBLIC, and still named in {site.keys.footprints(before.build)}" in told
    assert not [key for key in naming(site, GONE) if key.startswith(site.keys.staging_root)]
    for command in ("status", "releases", "doctor"):
        site.command(command)
        told += f"{command}\n{''.join(capfd.readouterr())}"
    assert told.count(held) >= 4, "each names what waits"
    assert told.count(f"oam-mosaic takedown --reason REASON --confirm REASON {GONE}") == 5, "doctor at both"
    assert f"oam-mosaic publish {held}" not in told

    assert site.command("takedown", GONE, "--reason", WHY, "--confirm", "a campaign ended") == 0
    assert naming(site, GONE) == [site.keys.taken_down]
    assert Releases(site.store, site.keys).staged.waiting() == []


def test_a_mistyped_id_is_told_of_though_the_catalogue_is_away(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    published(new_site)
    new_site.environment |= {"STAC_ITEMS": "", "PG_DSN": "postgresql://nobody@127.0.0.1:9/none"}
    assert new_site.command("takedown", f"{GONE}x", "--reason", WHY) == 0
    told = "".join(capfd.readouterr())
    assert "the catalogue could not be asked for this id" in told
    assert (
        f"none named it: if you mistyped it, take it off the list: oam-mosaic takedown --undo={GONE}x\n"
        in told
    )
    assert new_site.command("takedown", "--undo", f"{GONE}x") == 0


def test_where_an_object_of_others_holds_it_back_ui_and_alert_name_the_same_command(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    published(site)
    site.environment["MOSAIC_ALIASES"] = "old.pmtiles"
    site.store.put_bytes("old.pmtiles", b"somebody else's", Headers("application/octet-stream"))

    assert site.command("takedown", GONE, "--reason", WHY) == 3

    told = "".join(capfd.readouterr())
    held = next(each for each in conditions_of(site.instance, now=datetime.now(UTC)) if each.key == "held")
    for advice in (told, held.advice):
        assert "repeat the takedown (`oam-mosaic takedown --list` names it) with --confirm REASON" in advice
        assert "oam-mosaic publish" not in advice
    assert GONE not in held.advice, "everybody who gets alerts reads it"
    assert site.command("takedown", GONE, "--reason", WHY, "--confirm", "nobody needs it") == 0
    assert naming(site, GONE) == [site.keys.taken_down]


def test_an_object_that_cannot_be_read_is_told_of(new_site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    published(new_site)
    strange = f"{new_site.keys.prefix}strange.json.gz"
    new_site.store.put_bytes(strange, gzip.compress(b"{}")[:-1], Headers("application/gzip"))
    assert new_site.command("takedown", GONE, "--reason", WHY) == 1
    told = capfd.readouterr().out
    assert "nothing that is left and can be read names it" in told
    assert f"nothing tells whether it is in {strange}, which cannot be read" in told


def test_one_that_is_stopped_says_that_the_image_may_still_be_public(
    new_site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site
    before = published(site)

    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("oam_mosaic_assets.cli.build.run_job", stop)
        assert site.command("takedown", GONE, "--reason", "a request") == 130

    said = capfd.readouterr().err
    assert f"{GONE} is on the takedown list, but may still be public: run the same command again" in said
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert site.command("takedown", GONE, "--reason", "a request") == 0
    assert site.command("takedown", "--undo", GONE) == 0


def test_a_list_that_cannot_be_read_stops_every_build(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    before = published(site)
    site.store.put_bytes(site.keys.taken_down, b"{", Headers("application/json"))

    outcome = site.run()

    assert outcome.kind == "StoreRefused"
    assert "lists what was taken down and cannot be read" in outcome.text
    assert site.command("status") == 1, "an image that was taken down may still be public"
    told = capfd.readouterr().out
    assert "lists what was taken down and cannot be read" in told
    assert before.build in told, "what is public is told all the same"
    assert public_mosaic_is_whole(site.store, site.keys) == before
