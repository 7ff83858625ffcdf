"""Imagery from the catalogue to publication: made, audited, published, made again, taken down."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import pytest
import shapely
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import tileid_to_zxy, zxy_to_tileid

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.automation.jobs import PLAIN_LOG
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.imagery.blocks import FINEST, PARTITION_ZOOM, in_pixels
from oam_mosaic_assets.core.imagery.grey import GREY_PLAN
from oam_mosaic_assets.core.imagery.pixels import TILE, decoded, straightened
from oam_mosaic_assets.core.product import IMAGERY, MOSAIC
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.gateways.imagery.partition import STATE
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.takedowns import Takedowns
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, some_items, write_items
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, PgstacDatabase, PostgresServer

FLIGHTS = 3
HOSTILE = [
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "/vsicurl/http://127.0.0.1/a.tif",
]


@pytest.fixture
def pictured(new_site: Site, nginx: Nginx) -> Site:
    """An installation whose catalogue has three flights and three hostile entries."""
    new_site.environment |= {"MOSAIC_PRODUCTS": "imagery", "IMAGERY_PRIVATE_HOSTS": nginx.host}
    write_items(new_site.items, items(nginx))
    return new_site


@pytest.fixture
def database(pictured: Site, nginx: Nginx, postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """The same catalogue as a database, which can tell that nothing changed; the installation reads it."""
    created = postgres.create_pgstac("imagery", PRODUCTION_PGSTAC)
    load_items(created, items(nginx))
    pictured.environment |= {**created.environment, "STAC_ITEMS": ""}
    yield created
    postgres.drop(created.name)


def items(nginx: Nginx) -> list[dict[str, Any]]:
    found = some_items(FLIGHTS + len(HOSTILE))
    for number, item in enumerate(found):
        of = utm(33, 400_000 + 150_000 * number, 5_000_000, 3.0, (300, 250))
        footprint = of.footprint()
        item |= {"geometry": json.loads(shapely.to_geojson(footprint)), "bbox": list(footprint.bounds)}
        if number < FLIGHTS:
            write_image(nginx.root / f"{number}.tif", of, Writing(bands=of.colours()))
            item["assets"]["visual"]["href"] = nginx.address(f"{number}.tif")
        else:
            item["assets"]["visual"]["href"] = HOSTILE[number - FLIGHTS]
    return found


def alpha_at(site: Site, item: dict[str, Any]) -> int:
    """The alpha of the public archive in the middle of an image, at z14."""
    content = site.store.read_publicly(IMAGERY.name)
    assert content is not None
    middle = in_pixels(shapely.from_geojson(json.dumps(item["geometry"])).centroid)
    x, y = int(middle.x), int(middle.y)
    tile = Reader(MemorySource(content)).get(FINEST, x >> 8, y >> 8)
    return 0 if tile is None else int(straightened(decoded(tile))[y & 255, x & 255, 3])


def test_imagery_is_published_with_the_mosaic_and_says_what_it_could_not_read(
    pictured: Site, nginx: Nginx
) -> None:
    outcome = pictured.run()
    assert outcome.success, outcome.log
    pointer = pictured.stays_whole()
    assert [*pointer.products] == [MOSAIC.name, IMAGERY.name]
    shown = [alpha_at(pictured, each) for each in items(nginx)]
    assert shown[:FLIGHTS] == [255] * FLIGHTS
    assert all(0 < each < 255 for each in shown[FLIGHTS:])  # a grey hint
    report = pictured.store.get_bytes(f"{pictured.keys.imagery}report.json")
    assert report is not None
    told = json.loads(report[0])
    assert (told["images"], told["read"]) == (6, 3)
    assert sorted(each["reason"] for each in told["skipped"]) == [
        "bad_address",
        "bad_address",
        "refused_address",
    ]

    before = report[0]
    outcome = pictured.run(tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    report = pictured.store.get_bytes(f"{pictured.keys.imagery}report.json")
    assert report is not None
    assert report[0] != before
    again = json.loads(report[0])
    assert (again["requests"], again["made"], again["read"]) == (0, 0, 3)


def test_what_is_skipped_is_shown_in_dagster_as_plain_text(pictured: Site, nginx: Nginx) -> None:
    hostile = "a\\|![x](https://example.org/seen.png) [Sign in](https://example.org)"
    *read, last = items(nginx)
    write_items(pictured.items, [*read, {**last, "id": hostile}])

    outcome = pictured.run()

    assert outcome.success, outcome.log
    (told,) = [
        event.dagster_event.step_materialization_data.materialization.metadata
        for event in pictured.instance.all_logs(outcome.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
        if event.step_key == "global_imagery_pmtiles" and event.dagster_event
    ]
    shown = told["first 50 skipped"]
    assert isinstance(shown, dg.TableMetadataValue), "its cells are text to the UI, never markup"
    assert hostile in [each.data["image"] for each in shown.records]
    texts = [str(each.value) for each in told.values() if isinstance(each, dg.MarkdownMetadataValue)]
    assert not any("example.org" in each for each in texts)


def test_a_catalogue_that_answers_with_a_part_of_its_images_costs_no_imagery(
    pictured: Site, nginx: Nginx
) -> None:
    """The guard holds its build back: what was read for the others is still there for the next build."""
    outcome = pictured.run()
    assert outcome.success, outcome.log
    offered = pictured.instance.get_dynamic_partitions("imagery")
    whole = items(nginx)
    write_items(pictured.items, whole[-1:])  # far from all flights
    outcome = pictured.run()
    assert list(outcome.failed_checks) == ["catalogue_did_not_shrink"]
    assert pictured.instance.get_dynamic_partitions("imagery") == offered

    write_items(pictured.items, whole)
    outcome = pictured.run(tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    report = pictured.store.get_bytes(f"{pictured.keys.imagery}report.json")
    assert report is not None
    told = json.loads(report[0])
    assert (told["requests"], told["read"]) == (0, FLIGHTS)

    write_items(pictured.items, whole[-1:])
    outcome = pictured.run({"MAX_SHRINK_SHARE": "1"})
    assert outcome.success, outcome.log
    (left,) = pictured.instance.get_dynamic_partitions("imagery")
    assert kept_partitions(pictured) > {left}, "another build may just have read the others"
    read_long_ago(pictured)
    outcome = pictured.run(tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    assert kept_partitions(pictured) == {left}


def kept_partitions(site: Site) -> set[str]:
    """The partitions of which anything is in the store."""
    kept = (each.key.removeprefix(site.keys.imagery) for each in site.store.keys(site.keys.imagery))
    return {key.partition("/")[0] for key in kept if "/" in key}


def read_long_ago(site: Site) -> None:
    """As if all that partitions hold had been read a day ago."""
    then = time.time() - 86_400
    for each in site.store.keys(site.keys.imagery):
        os.utime(site.folder / "store" / each.key, (then, then))


def seen(site: Site) -> dict[int, bytes]:
    """All tiles of the public archive, by tile id."""
    content = site.store.read_publicly(IMAGERY.name)
    assert content is not None
    return {zxy_to_tileid(*place): tile for place, tile in all_tiles(MemorySource(content))}


def test_the_zooms_of_partitions_and_above_are_means_of_the_finest_one(new_site: Site, nginx: Nginx) -> None:
    """For an image that is large enough to be visible at z0."""
    of = utm(33, 450_000, 5_050_000, 60.0, (800, 800))
    write_image(nginx.root / "wide.tif", of, Writing(bands=of.colours()))
    (item,) = some_items(1)
    footprint = of.footprint()
    item |= {"geometry": json.loads(shapely.to_geojson(footprint)), "bbox": list(footprint.bounds)}
    item["assets"]["visual"]["href"] = nginx.address("wide.tif")
    new_site.environment |= {"MOSAIC_PRODUCTS": "imagery", "IMAGERY_PRIVATE_HOSTS": nginx.host}
    write_items(new_site.items, [item])
    new_site.published()

    tiles = {tileid_to_zxy(each): decoded(content) for each, content in seen(new_site).items()}
    finest = {(x, y): tile for (zoom, x, y), tile in tiles.items() if zoom == FINEST}
    assert len(finest) > 700
    for zoom in range(PARTITION_ZOOM + 1):  # at these, a finest tile lies within one pixel
        factor = 1 << (FINEST - zoom)
        sums: dict[tuple[int, int], np.ndarray] = {}
        for (x, y), tile in finest.items():
            place = x * TILE // factor, y * TILE // factor
            sums[place] = sums.get(place, np.zeros(4)) + tile.sum(axis=(0, 1), dtype=np.float64)
        found = np.array([tiles[zoom, x >> 8, y >> 8][y & 255, x & 255] for x, y in sums], np.float64)
        expected = np.array(list(sums.values())) / factor**2
        off = np.abs(found - expected)
        assert found[:, 3].max() > 40.0
        assert off[:, 3].max() <= 2.0, "each halving rounds"
        # WEBP stores brightness per pixel but colour per four pixels, and here those differ a lot
        assert np.abs((found - expected)[:, :3] @ [0.299, 0.587, 0.114]).mean() < 6.0
        assert np.abs((found - expected).mean(axis=0)).max() < 8.0


def test_three_kinds_are_made_of_the_same_images(pictured: Site, nginx: Nginx) -> None:
    kinds: dict[str, dict[int, bytes]] = {}
    for kind in ("imagery", "hints", "hybrid"):
        outcome = pictured.run({"IMAGERY_KIND": kind}, tags={ANEW_TAG: "yes"})
        assert outcome.success, outcome.log
        kinds[kind] = seen(pictured)
        report = pictured.store.get_bytes(f"{pictured.keys.imagery}report.json")
        assert report is not None
        assert json.loads(report[0])["requests"] == 0 or kind == "imagery"
        shown = [alpha_at(pictured, each) for each in items(nginx)]
        assert shown == [255] * FLIGHTS + [0 if kind == "imagery" else 102] * len(HOSTILE)
    deep = first_tile_id(11)  # z0 to z10 are the grey ones
    assert {each for each in kinds["hybrid"] if each >= deep} == {
        each for each in kinds["hints"] if each >= deep
    }
    assert all(kinds["hybrid"][each] == kinds["hints"][each] for each in kinds["hybrid"] if each >= deep)
    for each, tile in kinds["hybrid"].items():
        if each < deep:
            assert GREY_PLAN.picture.decoded(tile).any()


def read_all_partitions(site: Site) -> None:
    """Run the partitions' job for each of them."""
    keys = site.instance.get_dynamic_partitions("imagery")
    assert keys
    job = build_definitions(Settings.read(site.environment)).resolve_job_def("imagery_partitions")
    for key in keys:
        result = job.execute_in_process(instance=site.instance, partition_key=key, run_config=PLAIN_LOG)
        assert result.success
        (made,) = result.get_asset_materialization_events()
        assert made.partition == key


def test_a_partition_whose_last_image_left_the_catalogue_before_its_turn_is_emptied(
    pictured: Site, nginx: Nginx
) -> None:
    """A backfill, or `oam-mosaic imagery`, lists the partitions once, and may read them for days."""
    pictured.environment["MAX_SHRINK_SHARE"] = "1"
    pictured.published()
    listed = pictured.instance.get_dynamic_partitions("imagery")
    gone, *_, far_away = items(nginx)
    write_items(pictured.items, [far_away])
    outcome = pictured.run()
    assert outcome.success, outcome.log
    assert set(pictured.instance.get_dynamic_partitions("imagery")) < set(listed)
    pictured.instance.add_dynamic_partitions("imagery", listed)

    read_all_partitions(pictured)

    for each in pictured.store.keys(pictured.keys.imagery):
        found = pictured.store.get_bytes(each.key)
        assert found is not None
        assert gone["id"].encode() not in found[0], each.key


def test_an_image_that_is_being_taken_down_is_read_in_no_partition(pictured: Site, nginx: Nginx) -> None:
    """It is on the list, and still in the public build, whose images the partitions' job reads."""
    pictured.environment["IMAGERY_BUDGET_HOURS"] = "0"
    outcome = pictured.run()
    assert outcome.success, outcome.log
    gone = items(nginx)[0]["id"]
    Takedowns(pictured.store, pictured.keys).add(gone, "asked for")
    read_all_partitions(pictured)
    for each in pictured.store.keys(pictured.keys.imagery):
        found = pictured.store.get_bytes(each.key)
        assert found is not None
        assert gone.encode() not in found[0] or each.key == pictured.keys.imagery_report
    outcome = pictured.run(tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log


@pytest.mark.usefixtures("database")
def test_what_the_budget_leaves_is_read_in_partitions_by_other_machines(pictured: Site, nginx: Nginx) -> None:
    """The partitions' job works from the store alone; the next build assembles what it finds there."""
    pictured.environment["IMAGERY_BUDGET_HOURS"] = "0"
    outcome = pictured.run()
    assert outcome.success, outcome.log
    assert [alpha_at(pictured, each) for each in items(nginx)] == [102] * len(items(nginx))  # all grey
    del pictured.environment["IMAGERY_BUDGET_HOURS"]
    read_all_partitions(pictured)
    outcome = pictured.run({"IMAGERY_BUDGET_HOURS": "0"})
    assert outcome.success, outcome.log
    assert [alpha_at(pictured, each) for each in items(nginx)[:FLIGHTS]] == [255] * FLIGHTS
    assert "Nothing changed since" in pictured.run().log


@pytest.mark.usefixtures("database")
def test_a_build_goes_on_where_the_budget_of_the_last_one_ended(pictured: Site, nginx: Nginx) -> None:
    outcome = pictured.run({"IMAGERY_BUDGET_HOURS": "0"})
    assert outcome.success, outcome.log
    assert "Nothing changed since" in pictured.run({"IMAGERY_BUDGET_HOURS": "0"}).log, "it may read nothing"
    outcome = pictured.run()
    assert outcome.success, outcome.log
    assert [alpha_at(pictured, each) for each in items(nginx)[:FLIGHTS]] == [255] * FLIGHTS
    assert "Nothing changed since" in pictured.run().log


def test_where_no_partition_was_built_since_nothing_is_made(pictured: Site, database: PgstacDatabase) -> None:
    """Not even after a build whose publication deleted the partition of an image that left the catalogue."""
    pictured.environment["MAX_SHRINK_SHARE"] = "1"
    before = pictured.published()
    *_, gone = some_items(FLIGHTS + len(HOSTILE))  # far from all flights
    with database.connect() as connection:
        connection.execute("DELETE FROM items WHERE id = %s", [gone["id"]])
    partitions = pictured.instance.get_dynamic_partitions("imagery")
    read_long_ago(pictured)
    assert pictured.run().success
    assert len(pictured.instance.get_dynamic_partitions("imagery")) < len(partitions)
    public = pictured.stays_whole()
    assert public.build != before.build

    again = pictured.run()

    assert again.success, again.log
    assert f"Nothing changed since {public.build}" in again.log
    assert pictured.stays_whole().build == public.build


def test_an_image_that_is_taken_down_is_in_no_partition_and_no_tile(pictured: Site, nginx: Nginx) -> None:
    outcome = pictured.run()
    assert outcome.success, outcome.log
    gone = items(nginx)[0]
    assert pictured.command("takedown", gone["id"], "--reason", "asked for") == 0
    pictured.stays_whole()
    assert alpha_at(pictured, gone) == 0
    assert alpha_at(pictured, items(nginx)[1]) == 255
    for each in pictured.store.keys(pictured.keys.imagery):
        content = pictured.store.get_bytes(each.key)
        assert content is not None
        assert gone["id"].encode() not in content[0], each.key


def test_a_takedown_does_not_wait_for_images_that_are_still_to_be_read(pictured: Site, nginx: Nginx) -> None:
    outcome = pictured.run({"IMAGERY_BUDGET_HOURS": "0"})
    assert outcome.success, outcome.log
    gone, *others = items(nginx)

    assert pictured.command("takedown", gone["id"], "--reason", "asked for") == 0

    pictured.stays_whole()
    report = pictured.store.get_bytes(pictured.keys.imagery_report)
    assert report is not None
    told = json.loads(report[0])
    assert (told["requests"], told["made"]) == (0, 0)
    assert told["left"] > 0
    assert alpha_at(pictured, gone) == 0
    outcome = pictured.run()
    assert outcome.success, outcome.log
    assert [alpha_at(pictured, each) for each in others[: FLIGHTS - 1]] == [255] * (FLIGHTS - 1)


@pytest.mark.parametrize(("kind", "meanwhile"), [("hints", 102), ("imagery", 0)])
def test_what_was_below_an_image_that_is_taken_down_is_shown_by_the_next_build(
    pictured: Site, nginx: Nginx, kind: str, meanwhile: int
) -> None:
    pictured.environment["IMAGERY_KIND"] = kind
    gone, below, *others = items(nginx)
    below |= {"geometry": gone["geometry"], "bbox": gone["bbox"]}
    below["assets"]["visual"]["href"] = gone["assets"]["visual"]["href"]
    write_items(pictured.items, [gone, below, *others])
    pictured.published()
    assert alpha_at(pictured, below) == 255

    assert pictured.command("takedown", gone["id"], "--reason", "asked for") == 0

    assert [alpha_at(pictured, each) for each in (below, others[0])] == [meanwhile, 255]
    outcome = pictured.run()
    assert outcome.success, outcome.log
    assert alpha_at(pictured, below) == 255


def test_a_takedown_is_not_finished_while_another_machine_may_be_saving_the_image(
    pictured: Site, nginx: Nginx, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = pictured.run()
    assert outcome.success, outcome.log
    gone = items(nginx)[0]["id"]
    state = next(each.key for each in pictured.store.keys(pictured.keys.imagery) if each.key.endswith(STATE))
    archive = f"{state.removesuffix(STATE)}0123456789abcdef-tiles.pmtiles"
    pictured.store.put_bytes(archive, b"its pixels", Headers("application/vnd.pmtiles"))
    capfd.readouterr()

    assert pictured.command("takedown", gone, "--reason", "asked for") == 1

    told = capfd.readouterr().out
    assert f"nothing tells whether it is in {archive}" in told
    assert "Run this again in an hour" in told
    assert pictured.store.head(archive) is not None
    assert pictured.command("takedown", "--list") == 0
    assert "not gone yet" in capfd.readouterr().out

    os.utime(pictured.folder / "store" / archive, (0, 0))
    assert pictured.command("takedown", gone, "--reason", "asked for") == 0
    assert pictured.store.head(archive) is None


def test_partitions_are_named_as_dagster_shows_them(pictured: Site) -> None:
    definitions = build_definitions(Settings.read(pictured.environment))
    asset = definitions.resolve_assets_def("imagery_blocks")
    assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
    without = build_definitions(Settings.read({**pictured.environment, "MOSAIC_PRODUCTS": "details"}))
    assert dg.AssetKey("imagery_blocks") not in without.resolve_all_asset_keys()
