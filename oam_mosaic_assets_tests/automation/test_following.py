"""Following the catalogue: nothing is made when nothing changed, and a sensor starts a run when needed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG, UNCHANGED
from oam_mosaic_assets.automation import following
from oam_mosaic_assets.automation.following import LONGEST_WAIT
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.product import DETAILS, EXACT, MOSAIC
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.gateways import from_settings
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.from_settings import catalogue_of
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryPlan
from oam_mosaic_assets.gateways.object_store import Headers, StoredObject
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource
from oam_mosaic_assets.resources.watch import Watch
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, quick_folder, some_items
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, PgstacDatabase, PostgresServer

PUBLISHED = dg.AssetKey("published_mosaic")


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """A catalogue of four images."""
    created = postgres.create_pgstac("following", PRODUCTION_PGSTAC)
    load_items(created, some_items(4))
    yield created
    postgres.drop(created.name)


@pytest.fixture
def site(database: PgstacDatabase, instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that reads that catalogue."""
    with quick_folder() as folder:
        yield Site(dict(database.environment), instance, folder)


def tick(site: Site, cursor: str | None = None) -> tuple[object, str | None]:
    """One tick of the sensor: its run request or skip message, and its cursor."""
    definitions = build_definitions(site.settings)
    sensor = definitions.get_repository_def().get_sensor_def("follow_catalogue")
    resources = {name: definitions.resources[name] for name in sensor.required_resource_keys}
    with dg.build_sensor_context(instance=site.instance, cursor=cursor, resources=resources) as context:
        found = sensor.evaluate_tick(context)
    return (found.run_requests[0] if found.run_requests else found.skip_message), found.cursor


def test_a_build_that_finds_nothing_changed_makes_nothing_and_is_fresh(
    site: Site, database: PgstacDatabase
) -> None:
    assert site.run().success
    before = site.stays_whole()
    objects = {each.key: each.etag for each in site.store.keys("")}
    again = site.run()
    assert again.success, again.log
    assert f"Nothing changed since {before.build}" in again.log
    after = site.stays_whole()
    assert after.build == before.build
    assert after.checked_at > before.checked_at, "it was seen to be up to date"
    assert after.published_at == before.published_at
    changed = {each.key for each in site.store.keys("") if objects.get(each.key) != each.etag}
    assert changed == {site.keys.pointer, site.keys.lock}
    event = site.instance.get_latest_materialization_event(PUBLISHED)
    assert event is not None
    assert event.run_id == again.run_id, "Dagster's own freshness counts from here"
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata[UNCHANGED].value is True

    load_items(database, some_items(1, first=4))
    assert site.run().success
    assert site.stays_whole().images == before.images + 1


def test_what_is_taken_down_or_put_back_is_built_though_the_catalogue_is_unchanged(site: Site) -> None:
    takedowns, gone = Releases(site.store, site.keys).takedowns, some_items(1)[0]["id"]
    assert site.run().success
    assert site.stays_whole().images == 4
    takedowns.add(gone, "the pilot asked for it")
    assert site.run().success
    assert site.stays_whole().images == 3
    takedowns.remove(gone)
    assert site.run().success
    assert site.stays_whole().images == 4


def test_only_what_changed_is_read_and_the_mosaic_is_that_of_a_whole_reading(
    site: Site, database: PgstacDatabase
) -> None:
    load_items(database, some_items(16, first=4))
    first = site.run()
    assert "reading all items: nothing is public yet" in first.log
    load_items(database, [some_items(1)[0] | {"bbox": [0, 0, 1, 1]}, *some_items(2, first=20)])
    with database.connect() as connection:
        connection.execute("DELETE FROM items WHERE id = %s", [some_items(1, first=7)[0]["id"]])
    second = site.run()
    assert "items to read: 3; unchanged: 18" in second.log
    made = site.stays_whole()
    whole = site.run(tags={ANEW_TAG: "yes"})
    assert "reading all items: a full rebuild was requested" in whole.log
    assert (site.stays_whole().digest, site.stays_whole().sha256) == (made.digest, made.sha256)
    assert made.images == 21


@pytest.mark.parametrize("column", ["id", "geometry"])
def test_all_is_read_if_kept_footprints_are_damaged_though_each_row_states_the_same_digest(
    site: Site, database: PgstacDatabase, column: str
) -> None:
    assert site.run().success
    before = site.stays_whole()
    kept = site.keys.footprints(before.build)
    change_one_byte(site.settings.mosaic_store / kept, column)
    load_items(database, some_items(1, first=4))
    after = site.run()
    assert f"reading all items: {kept} is not what was stored there" in after.log
    assert site.stays_whole().images == before.images + 1


def change_one_byte(table: Path, column: str) -> None:
    """Change the last byte of a column's first value, and nothing else that the table says."""
    metadata, rows = pl.read_parquet_metadata(table), pl.read_parquet(table)
    value = rows[column].cast(pl.Binary)[0]
    changed = pl.Series([value[:-1] + bytes([value[-1] ^ 1])]).cast(rows.schema[column])
    ours = {name: text for name, text in metadata.items() if not name.startswith("ARROW:")}
    rows.with_columns(pl.concat([changed.alias(column), rows[column][1:]])).write_parquet(
        table, metadata=ours
    )


def test_a_person_may_have_it_built_all_the_same(site: Site) -> None:
    assert site.run().success
    before = site.stays_whole()
    assert site.run(tags={ANEW_TAG: "yes"}).success
    after = site.stays_whole()
    assert after.build != before.build
    assert after.sha256 == before.sha256


@pytest.mark.parametrize(
    ("products", "made"), [("mosaic,details,changes", "once"), ("density", "daily"), ("statistics", "daily")]
)
def test_what_tells_of_the_last_days_is_made_daily_though_nothing_changed(products: str, made: str) -> None:
    watch = build_definitions(Settings.read({"MOSAIC_PRODUCTS": products})).resources["watch"]

    def basis(day: int, hour: int) -> str:
        moment = datetime(2026, 1, day, hour, tzinfo=UTC)
        seen = SimpleNamespace(taken_at=moment, watermark=lambda: "the same")
        found: str = watch.basis(seen, ())
        return found

    assert basis(15, 0) == basis(15, 23)
    assert (basis(15, 23) != basis(16, 0)) is (made == "daily")


@pytest.mark.parametrize(
    "changed", [{"ZOOM_MAX": "11"}, {"MOSAIC_ALIASES": "old.pmtiles"}, {"TEST_MODE": ""}]
)
def test_another_plan_or_place_is_another_basis(site: Site, changed: dict[str, str]) -> None:
    assert site.run().success
    before = site.stays_whole()
    assert site.run(changed).success
    assert (site.stays_whole().build != before.build) is ("TEST_MODE" not in changed)
    assert (site.store.head("old.pmtiles") is not None) is ("MOSAIC_ALIASES" in changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"S3_PUBLIC_URL": "https://maps.example.org"},
        {"MOSAIC_KEYS": "exact=coverage/exact.pmtiles"},
        {"IMAGERY_FEATHER": "8"},
        {"IMAGERY_KIND": "imagery"},
        {"IMAGERY_TILES_URL": "https://titiler.example.org/{id}/{z}/{x}/{y}.png"},
        {"IMAGERY_BUDGET_HOURS": "1"},
    ],
)
def test_what_another_setting_changes_for_readers_is_another_basis(changed: dict[str, str]) -> None:
    stated = {"MOSAIC_PRODUCTS": "exact,imagery", "S3_BUCKET": "mosaics", "COLLECTION": "openaerialmap"}
    seen = SimpleNamespace(taken_at=datetime(2026, 1, 15, tzinfo=UTC), watermark=lambda: "the same")
    plain, other = (
        build_definitions(Settings.read(each)).resources["watch"].basis(seen, ())
        for each in (stated, {**stated, **changed})
    )
    assert (plain != other) is ("IMAGERY_BUDGET_HOURS" not in changed)


def test_the_plan_of_any_product_counts(site: Site) -> None:
    plans = {MOSAIC.name: TilingPlan(zoom_max=10), DETAILS.name: details_plan(10)}
    pictures = {EXACT.name: CoveragePlan(way="exact", zoom_max=10)}

    def basis(words: str) -> str:
        site.environment["MOSAIC_PRODUCTS"] = words
        releases = Releases(site.store, site.keys)
        catalogue = catalogue_of(site.settings)
        watch = Watch(
            catalogue,
            releases,
            TippecanoeResource(),
            plans=plans,
            pictures=pictures,
            imagery=ImageryPlan(),
            box=None,
        )
        return watch.look().basis

    both, alone = basis("mosaic,details"), basis("mosaic")
    assert both == basis("mosaic,details") != ""
    plans[DETAILS.name] = replace(plans[DETAILS.name], description="Something else is said of images.")
    assert basis("mosaic,details") != both
    assert basis("mosaic") == alone, "details are not made"
    grey = basis("mosaic,exact")
    pictures[EXACT.name] = replace(pictures[EXACT.name], colour=(255, 0, 0))
    assert basis("mosaic,exact") != grey
    assert basis("mosaic") == alone


def test_what_someone_overwrote_is_mended_though_nothing_changed(site: Site) -> None:
    assert site.run().success
    before = site.stays_whole()
    site.store.delete([site.keys.archive])
    assert site.run().success
    assert site.stays_whole().build != before.build


def test_the_command_says_that_nothing_changed(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.environment["MOSAIC_PRODUCTS"] = "mosaic,details"
    assert site.command("build") == 0
    before = site.stays_whole()
    capfd.readouterr()
    assert site.command("build") == 0
    shown = capfd.readouterr().err
    assert f"Nothing changed since {before.build}, which stays public: 4 images" in shown
    assert "Skipping" not in shown
    assert "without gating" not in shown
    assert site.command("build", "--anew") == 0
    assert site.stays_whole().build != before.build


def test_the_sensor_builds_again_after_a_rollback(site: Site, database: PgstacDatabase) -> None:
    def asked() -> dg.RunRequest:
        _, cursor = tick(site)
        found, _ = tick(site, cursor)
        assert isinstance(found, dg.RunRequest)
        return found

    assert site.run().success
    load_items(database, some_items(1, first=4))
    first = asked()
    assert asked().run_key == first.run_key, "one run per change"
    assert site.run(tags=first.tags).success
    assert site.command("rollback", "--reason", "clouds") == 0
    assert site.command("resume") == 0
    assert asked().run_key != first.run_key, "or Dagster would take it for the one it has had"


def test_the_sensor_is_off_until_somebody_switches_it_on() -> None:
    def status(**environment: str) -> dg.DefaultSensorStatus:
        definitions = build_definitions(Settings.read(environment))
        return definitions.get_repository_def().get_sensor_def("follow_catalogue").default_status

    assert status() is dg.DefaultSensorStatus.STOPPED
    assert status(FOLLOW_CATALOGUE="true") is dg.DefaultSensorStatus.RUNNING


def test_the_sensor_starts_one_build_when_the_catalogue_rests(site: Site, database: PgstacDatabase) -> None:
    asked, cursor = tick(site)
    assert "waiting for it to settle" in str(asked), "nothing is public yet"
    asked, cursor = tick(site, cursor)
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_key
    assert site.run(tags=asked.tags).success
    public = site.stays_whole()
    said, cursor = tick(site, cursor)
    assert said == f"{public.build} is up to date."

    load_items(database, some_items(1, first=4))
    said, cursor = tick(site, cursor)
    assert "waiting for it to settle" in str(said)
    load_items(database, some_items(1, first=5))
    said, cursor = tick(site, cursor)
    assert "waiting for it to settle" in str(said), "it still changes"
    again, cursor = tick(site, cursor)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    same, _ = tick(site, cursor)
    assert isinstance(same, dg.RunRequest)
    assert same.run_key == again.run_key, "Dagster starts no run of a key twice"


def test_a_change_has_one_run_of_this_sensor_unless_a_hold_stopped_it(
    site: Site, database: PgstacDatabase
) -> None:
    assert site.run().success
    load_items(database, some_items(1, first=4))
    _, cursor = tick(site)
    asked, _ = tick(site, cursor)
    assert isinstance(asked, dg.RunRequest)
    assert site.command("hold", "--reason", "an exercise") == 0
    assert site.run(tags=asked.tags).kind == "PublicationHeld"
    assert site.command("resume") == 0
    again, _ = tick(site, cursor)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key, "or Dagster would take it for the one it has had"

    failed = site.run({"COLLECTION": "another"}, tags=again.tags)
    assert failed.kind == "CatalogueRefused"
    assert str(tick(site, cursor)[0]) == f"Run {failed.run_id} was for this change; see how it ended."


def test_a_change_whose_runs_fell_into_an_outage_is_asked_for_again_after_it(
    site: Site, database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.run().success
    load_items(database, some_items(1, first=4))
    _, cursor = tick(site)
    asked, _ = tick(site, cursor)
    assert isinstance(asked, dg.RunRequest)
    assert site.run({"PGPORT": "9"}, tags=asked.tags).kind == "CatalogueUnavailable"
    assert "It is built again at" in str(tick(site, cursor)[0])
    monkeypatch.setattr(following, "MUCH_LATER", timedelta(0))
    again, _ = tick(site, cursor)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    assert site.run(tags=again.tags).success
    assert "is up to date" in str(tick(site, cursor)[0])


def test_a_tick_reads_the_records_of_a_failed_run_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cursor = tick(site)
    asked, _ = tick(site, cursor)
    assert isinstance(asked, dg.RunRequest)
    failed = site.run({"PGPORT": "9"}, tags=asked.tags)
    read, all_logs = [], dg.DagsterInstance.all_logs

    def counted(self: dg.DagsterInstance, run: str, *rest: Any, **options: Any) -> Any:
        read.append(run)
        return all_logs(self, run, *rest, **options)

    monkeypatch.setattr(dg.DagsterInstance, "all_logs", counted)
    assert "It is built again at" in str(tick(site, cursor)[0])
    assert read == [failed.run_id]


def test_a_look_that_waits_for_a_publisher_says_so(site: Site) -> None:
    assert site.run().success
    lock, until = site.keys.lock, datetime.now(UTC) + timedelta(minutes=1)

    class Publishing(FolderStore):
        """The publisher is done once its lock has been looked at."""

        def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
            found = super().get_bytes(key)
            if key == lock and found:
                site.store.delete([lock])
            return found

    held = json.dumps({"build": "another", "until": until.isoformat()}).encode()
    site.store.put_bytes(lock, held, Headers("application/json"))
    again = site.run(store=Publishing(site.settings.mosaic_store))
    assert again.success
    assert "waiting for another, which holds the publisher's lock" in again.log


def test_the_sensor_waits_for_a_run_that_has_not_ended(site: Site) -> None:
    _, cursor = tick(site)
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "ours")
    origin = repository.get_job_origin("global_mosaic")
    for status in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"):
        run = create_run_for_test(
            site.instance, "global_mosaic", status=dg.DagsterRunStatus(status), remote_job_origin=origin
        )
        said, _ = tick(site, cursor)
        site.instance.delete_run(run.run_id)
        assert said == f"Run {run.run_id} is in progress.", status
    assert isinstance(tick(site, cursor)[0], dg.RunRequest)


def test_a_catalogue_that_never_rests_is_built_all_the_same(site: Site, database: PgstacDatabase) -> None:
    assert site.run().success
    load_items(database, some_items(1, first=4))
    _, cursor = tick(site)
    load_items(database, some_items(1, first=5))
    seen = json.loads(str(cursor))
    seen["since"] = (datetime.now(UTC) - LONGEST_WAIT - timedelta(seconds=1)).isoformat()
    asked, cursor = tick(site, json.dumps(seen))
    assert isinstance(asked, dg.RunRequest)
    load_items(database, some_items(1, first=6))
    asked, _ = tick(site, cursor)
    assert "waiting for it to settle" in str(asked), "what came since is waited for as long again"


def test_the_sensor_waits_for_a_hold_and_says_so_where_a_server_is_away(site: Site) -> None:
    assert site.run().success
    assert site.command("hold", "--reason", "an exercise") == 0
    assert "an exercise" in str(tick(site)[0])
    assert site.command("resume") == 0
    site.environment["PG_DSN"] = "postgresql://nobody@127.0.0.1:9/none"
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"):
        site.environment.pop(name, None)
    assert "Cannot tell whether anything changed" in str(tick(site)[0])


def test_the_sensor_does_not_wait_for_a_catalogue_that_is_locked(
    site: Site, database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick that Dagster gave up goes on in the code server, and would hold one of its few threads."""
    assert site.settings.pg_statement_timeout / 2 > from_settings.HASTY_STATEMENT_SECONDS
    monkeypatch.setattr(from_settings, "HASTY_STATEMENT_SECONDS", 1)
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        other.execute("SET LOCAL idle_in_transaction_session_timeout = '20s'")
        began = time.monotonic()
        said, _ = tick(site)
        assert time.monotonic() - began < 15.0
    assert "Cannot tell whether anything changed" in str(said)
    assert "statement timeout" in str(said)
    assert "PG_STATEMENT_TIMEOUT" not in str(said), "it would change nothing here"


def test_a_source_without_a_watermark_is_left_to_the_schedule(instance: dg.DagsterInstance) -> None:
    with quick_folder() as folder:
        assert "has no cheap way to tell whether anything changed" in str(tick(Site({}, instance, folder))[0])
