"""What is published, and under which keys: nothing goes to S3 unasked, no key means two things."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.key import check_key
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.from_settings import imagery_of
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets.settings.values import KEY
from oam_mosaic_assets_tests.chain import REPOSITORY


def test_two_keys_alone_publish_nothing_to_s3_and_say_so() -> None:
    settings = Settings.read({"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"})
    assert not settings.publishes_to_s3
    assert any("nothing goes to S3" in remark for remark in settings.remarks())


@pytest.mark.parametrize(
    ("environment", "remark"),
    [
        ({"S3_PUBLIC_URL": "https://cdn.example.org"}, "S3_PUBLIC_URL is set, but has no effect"),
        ({"FOLLOW_CATALOGUE": "yes"}, "builds start on schedule alone"),
        ({"FOLLOW_CATALOGUE": "yes", "STAC_API_URL": "https://example.org"}, "only a pgSTAC database"),
    ],
)
def test_what_has_no_effect_is_remarked_on(environment: dict[str, str], remark: str) -> None:
    assert any(remark in each for each in Settings.read(environment).remarks())
    effective = {**environment, "STAC_API_URL": "", "PGHOST": "db", "S3_BUCKET": "b"}
    assert Settings.read(effective).remarks() == []


@pytest.mark.parametrize("name", ["IMAGERY_BUDGET_GB", "IMAGERY_BUDGET_HOURS"])
@pytest.mark.parametrize("value", ["inf", "nan", "-1"])
def test_a_budget_is_a_finite_number(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.read({name: value})
    assert any(each.startswith(name) for each in raised.value.problems)


@pytest.mark.parametrize("configuration", ["dagster.yaml", "deploy/dagster.yaml"])
def test_imagery_leaves_a_run_time_to_publish_before_it_is_ended(configuration: str) -> None:
    monitoring = yaml.safe_load((REPOSITORY / configuration).read_text())["run_monitoring"]
    budget = imagery_of(Settings.read({}), FolderStore(Path("nowhere"))).plan.budget_seconds
    assert budget is not None
    assert budget <= monitoring["max_runtime_seconds"] - 2 * 3600


def test_a_budget_is_in_gigabytes_and_hours() -> None:
    plan = imagery_of(
        Settings.read({"IMAGERY_BUDGET_GB": "2.5", "IMAGERY_BUDGET_HOURS": "1.5"}),
        FolderStore(Path("nowhere")),
    ).plan
    assert (plan.budget_bytes, plan.budget_seconds) == (2_500_000_000, 5_400.0)


def test_a_budget_may_be_none() -> None:
    plan = imagery_of(
        Settings.read({"IMAGERY_BUDGET_GB": "none", "IMAGERY_BUDGET_HOURS": "None"}),
        FolderStore(Path("nowhere")),
    ).plan
    assert plan.budget_bytes is plan.budget_seconds is None


@pytest.mark.parametrize(
    "environment", [{"S3_BUCKET": "b"}, {"S3_ENDPOINT": "http://127.0.0.1:9000"}, {"MOSAIC_PUBLISH": "s3"}]
)
def test_s3_is_used_where_someone_says_so(environment: dict[str, str]) -> None:
    assert Settings.read({**environment, "PGHOST": "db"}).publishes_to_s3


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"S3_BUCKET": "b"}, "sample/"),
        ({"S3_BUCKET": "b", "TEST_MODE": "yes"}, "sample/test/"),
        ({"S3_BUCKET": "b", "TEST_MODE": "yes", "PGHOST": "db"}, "test/"),
        ({"TEST_MODE": "yes"}, "test/"),
    ],
)
def test_neither_test_mode_nor_on_s3_the_sample_writes_a_fixed_key(
    environment: dict[str, str], root: str
) -> None:
    settings = Settings.read({"MOSAIC_ALIASES": "old.pmtiles", **environment})
    keys = settings.keys
    assert keys.fixed_archives() == (f"{root}global-mosaic.pmtiles", f"{root}old.pmtiles")
    assert keys.tilejson == f"{root}global-mosaic.json"
    assert keys.pointer == f"{root}mosaic/latest.json"
    for place in root.removesuffix("/").split("/"):
        assert any(f"`{place}/`" in remark for remark in settings.remarks())


@pytest.mark.parametrize(
    "aliases",
    [
        "global-mosaic.pmtiles",
        "global-mosaic.json",
        "mosaic/builds/x.pmtiles",
        "a.pmtiles,a.pmtiles",
        "../up.pmtiles",
        "/root.pmtiles",
        "with space.pmtiles",
        "a//b.pmtiles",
        "./here.pmtiles",
        ".well-known/mosaic.pmtiles",
        "a/.b.pmtiles",
        "mosaic",
        "global-mosaic.pmtiles/x",
        "a.pmtiles,a.pmtiles/b",
        "a/b,a",
        "test/global-mosaic.pmtiles",
        "sample",
    ],
)
def test_a_key_with_two_meanings_or_none_is_an_error(aliases: str) -> None:
    with pytest.raises(SettingsError, match="MOSAIC_ALIASES"):
        Settings.read({"MOSAIC_ALIASES": aliases})


@given(key=st.from_regex(KEY, fullmatch=True))
def test_a_key_that_the_settings_take_is_one_for_every_store(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "aliases", ["mosaics", "old/a.pmtiles,old/b.pmtiles", "global-mosaic.pmtiles.old", "tests"]
)
def test_keys_that_only_begin_alike_do_not_clash(aliases: str) -> None:
    assert Settings.read({"MOSAIC_ALIASES": aliases}).mosaic_aliases == tuple(aliases.split(","))


def test_the_mosaic_is_among_the_products_whatever_is_asked_for() -> None:
    everything = ["mosaic", "details", "exact", "whole", "density", "statistics", "changes"]
    assert [each.word for each in Settings.read({}).keys.products] == everything
    stated = {"MOSAIC_PRODUCTS": " changes,whole,statistics,exact,density,details,"}
    assert Settings.read(stated).keys == Settings.read({}).keys
    assert [each.word for each in Settings.read({"MOSAIC_PRODUCTS": "mosaic"}).keys.products] == ["mosaic"]
    with pytest.raises(SettingsError, match="MOSAIC_PRODUCTS: unknown product 'maps'; known are: mosaic, d"):
        Settings.read({"MOSAIC_PRODUCTS": "maps"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COVERAGE_COLOUR", "grey"),
        ("COVERAGE_COLOUR", "128,128"),
        ("COVERAGE_COLOUR", "0,0,256"),
        ("COVERAGE_COLOUR", "0,-1,0"),
        ("COVERAGE_OPACITY", "0"),
        ("COVERAGE_OPACITY", "1.5"),
        ("COVERAGE_TILE_PIXELS", "300"),
    ],
)
def test_what_coverage_cannot_be_drawn_in_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


def test_the_colour_of_coverage_is_read() -> None:
    assert Settings.read({"COVERAGE_COLOUR": "255, 102,0"}).coverage_colour == (255, 102, 0)
    assert Settings.read({}).coverage_colour == (128, 128, 128)


def test_a_product_and_an_alias_have_no_key_in_common() -> None:
    with pytest.raises(SettingsError, match=r"'global-data.pmtiles' clashes .* the product 'details'"):
        Settings.read({"MOSAIC_ALIASES": "global-data.pmtiles"})
    Settings.read({"MOSAIC_ALIASES": "global-data.pmtiles", "MOSAIC_PRODUCTS": "mosaic"})


def test_the_key_of_the_seed_era_follows_one_contract() -> None:
    """It is the density grid by default; an alias of the mosaic if the grid is not made; never both."""
    seed_era = {"MOSAIC_ALIASES": "global-coverage.pmtiles"}
    with pytest.raises(
        SettingsError, match=r"the product 'density'; keep one of them \(MOSAIC_PRODUCTS says"
    ):
        Settings.read(seed_era)
    keys = Settings.read({**seed_era, "MOSAIC_PRODUCTS": "mosaic,details,statistics,changes"}).keys
    assert keys.product_at("global-coverage.pmtiles") == "global-mosaic.pmtiles"
    assert Settings.read({}).keys.product_at("global-coverage.pmtiles") == "global-coverage.pmtiles"


def test_a_product_may_have_a_key_of_its_own() -> None:
    keys = Settings.read({"MOSAIC_KEYS": "exact=coverage/pixels.pmtiles, whole = tiles.pmtiles"}).keys
    assert keys.fixed("global-coverage-exact.pmtiles") == ("coverage/pixels.pmtiles",)
    assert keys.fixed("global-coverage-whole.pmtiles") == ("tiles.pmtiles",)
    assert keys.fixed("global-data.pmtiles") == ("global-data.pmtiles",)
    assert {"coverage/pixels.pmtiles", "tiles.pmtiles"} < {*keys.all_fixed()}
    assert "global-coverage-exact.pmtiles" not in keys.all_fixed()
    for name in ("global-mosaic.pmtiles", *(each.name for each in keys.products)):
        assert {keys.product_at(key) for key in keys.fixed(name)} == {name}
        below = keys.below("test/")
        assert below.fixed(name) == tuple(f"test/{key}" for key in keys.fixed(name))
        assert {below.product_at(key) for key in below.fixed(name)} == {name}


def test_two_products_may_change_their_keys_with_each_other() -> None:
    names = "global-coverage-exact.pmtiles", "global-coverage-whole.pmtiles"
    keys = Settings.read({"MOSAIC_KEYS": f"exact={names[1]},whole={names[0]}"}).keys
    assert [keys.product_at(each) for each in names] == [*reversed(names)]


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        (
            "exact=a.pmtiles,whole=a.pmtiles",
            "'a.pmtiles' clashes with 'a.pmtiles', the key of the product 'ex",
        ),
        ("exact=a,whole=a/b.pmtiles", "'a/b.pmtiles' clashes with 'a', the key of the product 'exact'"),
        ("exact=global-coverage-whole.pmtiles", "clashes .* the product 'whole'"),
        ("exact=global-mosaic.pmtiles", "clashes .* the mosaic itself"),
        ("exact=mosaic/latest.json", "clashes .* MOSAIC_PREFIX"),
        ("exact=test/a.pmtiles", "clashes .* TEST_MODE"),
        ("exact=../up.pmtiles", "is not a key"),
        ("exact=a.pmtiles,exact=b.pmtiles", "gives 'exact' two keys"),
        ("mosaic=a.pmtiles", "for more, set MOSAIC_ALIASES"),
        ("maps=a.pmtiles", "unknown product 'maps'"),
        ("exact", "must be pairs"),
        ("exact=", "must be pairs"),
    ],
)
def test_a_key_of_a_product_that_cannot_be_is_an_error(stated: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"MOSAIC_KEYS: .*{problem}"):
        Settings.read({"MOSAIC_KEYS": stated})


def test_an_alias_may_have_the_name_of_a_product_that_lies_elsewhere() -> None:
    stated = {"MOSAIC_ALIASES": "global-coverage.pmtiles", "MOSAIC_KEYS": "density=density.pmtiles"}
    keys = Settings.read(stated).keys
    assert keys.product_at("global-coverage.pmtiles") == "global-mosaic.pmtiles"
    assert keys.product_at("density.pmtiles") == "global-coverage.pmtiles"
    with pytest.raises(SettingsError, match=r"MOSAIC_ALIASES: 'a.pmtiles' clashes .* the product 'exact'"):
        Settings.read({"MOSAIC_ALIASES": "a.pmtiles", "MOSAIC_KEYS": "exact=a.pmtiles"})
