"""A build of several products, from catalogue to publication: all of it or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oam_mosaic_assets.assets import catalog_changes
from oam_mosaic_assets.automation.chain import BRANCHES
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import CHANGES, DENSITY, DETAILS, MOSAIC, PRODUCTS, STATISTICS, Product
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.auditor import Auditor, of_changes, of_density, of_footprints, of_statistics
from oam_mosaic_assets_tests.chain import Site, some_items, write_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES

GONE = some_items(1)[0]["id"]
ADDED = some_items(1, first=IMAGES)[0]["id"]


@pytest.fixture
def described(new_site: Site) -> Site:
    """An installation that publishes details as well."""
    new_site.environment["MOSAIC_PRODUCTS"] = "mosaic,details"
    return new_site


@pytest.fixture
def complete(new_site: Site) -> Site:
    """An installation that publishes every product, but has no time to request any imagery."""
    new_site.environment["MOSAIC_PRODUCTS"] = ",".join(each.word for each in PRODUCTS)
    new_site.environment["IMAGERY_BUDGET_HOURS"] = "0"
    return new_site


@pytest.fixture
def counted(new_site: Site) -> Site:
    """An installation that also publishes the density grid, the statistics and the changes."""
    new_site.environment["MOSAIC_PRODUCTS"] = "mosaic,density,statistics,changes"
    return new_site


def read(site: Site, product: Product) -> dict[str, Any]:
    """Read a public document as an anonymous client."""
    (key,) = site.keys.fixed(product.name)
    content = site.store.read_publicly(key)
    assert content is not None
    found: dict[str, Any] = json.loads(content)
    return found


def listed(changes: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [each["id"] for each in changes[name]] for name in ("added", "changed", "removed")}


def test_details_are_published_with_the_mosaic(described: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site = described
    outcome = site.run()
    assert outcome.success, outcome.log
    pointer = site.stays_whole()
    assert [*pointer.products] == [MOSAIC.name, DETAILS.name]
    manifest = site.store.read_publicly(pointer.manifest)
    assert manifest is not None
    stated = json.loads(manifest)["products"][DETAILS.name]
    assert stated["tiles"] > 0
    assert [each["passed"] for each in stated["audit"]] == [True] * 5
    assert site.command("validate", str(site.settings.mosaic_store / DETAILS.name)) == 0
    assert site.command("status") == 0
    assert f"/{DETAILS.name}" in capfd.readouterr().out

    assert site.run({"MOSAIC_PRODUCTS": "mosaic"}).success
    assert [*site.stays_whole().products] == [MOSAIC.name]
    assert site.store.head(DETAILS.name) is None


def test_a_product_that_fails_its_audit_keeps_all_back(described: Site) -> None:
    site = described
    before = site.published()
    releases = Releases(site.store, site.keys)
    plan = TilingPlan(zoom_max=site.settings.zoom_max)

    examiners = {
        MOSAIC.name: of_footprints(plan),
        DETAILS.name: of_footprints(details_plan(plan.zoom_max)),
        DENSITY.name: of_density,
        STATISTICS.name: of_statistics("openaerialmap"),
        CHANGES.name: of_changes(releases),
    }
    for broken in PRODUCTS:
        check = next(iter(BRANCHES[broken.name].checks))
        site.environment |= {"MOSAIC_PRODUCTS": f"mosaic,{broken.word}", "IMAGERY_BUDGET_HOURS": "0"}

        def unhappy(*_: Any, check: str = check, **__: Any) -> list[Verdict]:
            return [Verdict.failing(check, "something is broken")]

        auditor = Auditor(
            releases, {**examiners, broken.name: unhappy}, max_set_aside_share=1.0, max_shrink_share=1.0
        )
        outcome = site.run(auditor=auditor)

        assert not outcome.success
        assert not outcome.text, "no step fails for what an audit left"
        assert outcome.failed_checks[check] == "something is broken"
        assert site.stays_whole() == before


def test_an_image_that_is_taken_down_leaves_the_details_too(described: Site) -> None:
    site = described
    before = site.published()
    path = site.settings.mosaic_store / DETAILS.name
    assert names_any(path, {GONE})

    assert site.command("takedown", GONE, "--reason", "the pilot asked for it") == 0

    after = site.stays_whole()
    assert after.images == IMAGES - 1
    assert not names_any(path, {GONE})
    assert site.store.head(before.products[DETAILS.name]["key"]) is None


def test_all_products_are_of_one_snapshot_and_turn_together(complete: Site) -> None:
    site, items = complete, some_items(IMAGES)
    first = site.published()
    assert [*first.products] == [each.name for each in PRODUCTS]
    kinds = {each.name: each.content_type for each in PRODUCTS}
    assert {name: each["content_type"] for name, each in first.products.items()} == kinds
    statistics, changes = read(site, STATISTICS), read(site, CHANGES)
    assert (statistics["build"], statistics["watermark"]) == (first.build, first.digest)
    assert (changes["build"], changes["watermark"]) == (first.build, first.digest)
    assert statistics["items"] == first.images
    assert (changes["since"], changes["complete"]) == (None, False), "there is nothing to compare with"
    assert site.command("validate", str(site.settings.mosaic_store / DENSITY.name)) == 0
    with open_archive(site.settings.mosaic_store / DENSITY.name) as archive:
        assert archive.metadata["snapshot"] == first.digest

    changed = {**items[1], "properties": {**items[1]["properties"], "title": "another"}}
    write_items(site.items, [changed, *items[2:], some_items(1, first=IMAGES)[0]])
    second = site.recovers(first)
    changes = read(site, CHANGES)
    assert changes["since"] == {
        "build": first.build,
        "watermark": first.digest,
        "snapshot_taken_at": first.snapshot_taken_at,
    }
    new = some_items(1, first=IMAGES)[0]["id"]
    assert listed(changes) == {"added": [new], "changed": [items[1]["id"]], "removed": [items[0]["id"]]}
    assert (changes["complete"], changes["counts"]["unnamed"]) == (True, 0)
    assert read(site, STATISTICS)["build"] == second.build

    assert site.command("rollback", "--reason", "an exercise") == 0
    assert site.stays_whole().build == first.build
    assert read(site, STATISTICS)["build"] == read(site, CHANGES)["build"] == first.build


def test_changes_name_nobody_who_was_taken_down_not_even_one_who_had_left_before(counted: Site) -> None:
    site, items = counted, some_items(IMAGES)
    site.published()
    write_items(site.items, items[1:])
    left = site.run()
    assert left.success, left.log
    assert GONE in listed(read(site, CHANGES))["removed"]
    naming = site.stays_whole().products[CHANGES.name]["key"]

    assert site.command("takedown", GONE, "--reason", "the pilot asked for it") == 0
    assert site.store.head(naming) is None
    assert GONE not in json.dumps(read(site, CHANGES))

    gone = items[1]["id"]
    assert site.command("takedown", gone, "--reason", "the pilot asked for it") == 0
    changes = read(site, CHANGES)
    assert gone not in json.dumps(changes)
    assert (changes["counts"]["removed"], changes["counts"]["unnamed"], changes["complete"]) == (0, 1, False)
    assert not [
        each.key
        for each in site.store.keys("")
        if each.key.endswith(".json")
        and gone.encode() in (site.store.get_bytes(each.key) or (b"",))[0]
        and each.key != site.keys.taken_down
    ]


def test_a_foreign_object_under_the_grids_key_is_kept_and_waits_for_a_person(counted: Site) -> None:
    """An earlier job wrote its mosaic there."""
    site = counted
    (key,) = site.keys.fixed(DENSITY.name)
    site.store.put_bytes(key, b"somebody's", Headers("application/octet-stream"))
    outcome = site.run()
    assert not outcome.success
    assert f"{key} in" in outcome.text
    assert (site.store.get_bytes(key) or (b"",))[0] == b"somebody's"
    assert site.store.head(site.keys.pointer) is None, "nothing is public"


def test_a_build_whose_changes_name_who_was_taken_down_since_is_not_published(counted: Site) -> None:
    """While it waits for a person, an image is taken down that it lists as removed from the catalogue."""
    site, items = counted, some_items(IMAGES)
    before = site.published()
    write_items(site.items, items[1 : IMAGES - 10])
    waiting = site.run()
    assert not waiting.success, "a guard holds it back"
    Releases(site.store, site.keys).takedowns.add(GONE, "the pilot asked for it")

    outcome = site.run(
        job="publish_held_build",
        tags={"oam-mosaic/build": waiting.build, "oam-mosaic/confirm": "a campaign ended"},
    )

    assert not outcome.success
    assert "shows an image that was taken down since its snapshot" in outcome.text
    assert site.store.head(before.archive) is not None


@pytest.mark.parametrize(
    ("images", "name", "call"),
    [
        pytest.param(some_items(IMAGES)[1:], GONE, "as_json", id="removed; once the list is made"),
        pytest.param(some_items(IMAGES + 1), ADDED, "kept_tables", id="added; before the list is made"),
    ],
)
def test_who_is_taken_down_while_changes_are_listed_calls_for_another_build(
    counted: Site, monkeypatch: pytest.MonkeyPatch, images: list[dict[str, Any]], name: str, call: str
) -> None:
    site = counted
    before = site.published()
    write_items(site.items, images)
    real = getattr(catalog_changes, call)

    def taking_down(*rest: Any, **options: Any) -> Any:
        Releases(site.store, site.keys).takedowns.add(name, "the pilot asked for it")
        return real(*rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(catalog_changes, call, taking_down)
        outcome = site.run()

    assert not outcome.failed_checks
    assert outcome.kind == "PublicationLost"
    assert "shows an image that was taken down since its snapshot" in outcome.text
    assert site.stays_whole() == before
    assert site.run().success, "the next build leaves it out"
    assert name not in json.dumps(read(site, CHANGES))
