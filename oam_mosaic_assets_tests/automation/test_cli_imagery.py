"""The command `oam-mosaic imagery`: which partitions it takes, and what it says when it cannot take any."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from oam_mosaic_assets.core.product import PRODUCTS
from oam_mosaic_assets_tests.automation.live_dagster import environment_of
from oam_mosaic_assets_tests.automation.test_cli import PUBLISHED, WRONG, Shell
from oam_mosaic_assets_tests.chain import quick_folder, some_items, write_items

IMAGES = 5
NOTHING_READ = "0"


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with quick_folder() as folder:
        items = some_items(IMAGES)
        for item in items:
            item["assets"]["visual"]["href"] = "http://127.0.0.1/nobody-is-asked.tif"
        write_items(folder / "items.ndjson", items)
        settings = {
            "STAC_ITEMS": str(folder / "items.ndjson"),
            "MOSAIC_PRODUCTS": "imagery",
            "IMAGERY_BUDGET_HOURS": NOTHING_READ,
        }
        yield Shell(folder, environment_of(folder, **settings))


def test_before_the_first_build_there_is_nothing_to_read(shell: Shell) -> None:
    told = shell.run_forked("imagery")
    assert told.returncode == WRONG
    assert "There is no public build" in told.stderr


def test_shares_are_all_partitions_of_the_public_build_and_none_twice(shell: Shell) -> None:
    assert shell.run_forked("build").returncode == PUBLISHED
    names = shell.run_forked("imagery", "--list").stdout.split()
    assert len(names) == len(set(names)) == IMAGES
    shares = [
        shell.run_forked("imagery", "--list", "--share", f"{which}/2").stdout.split() for which in (1, 2)
    ]
    assert sorted(shares[0] + shares[1]) == sorted(names)
    assert len(shares[0]) - len(shares[1]) == 1
    told = shell.run("imagery", names[0])
    assert (told.returncode, f"Partition {names[0]}, 1 of 1" in told.stderr) == (0, True)
    told = shell.run_forked("imagery", names[0], "--share", "2/2")
    assert (told.returncode, "share 2 of 2 has no partition" in told.stderr) == (0, True)
    assert shell.run_forked("imagery", names[0], "--share", "2/2", "--list").stdout == ""
    told = shell.run_forked("imagery", "6-0-0")
    assert told.returncode == WRONG
    assert "The public build has no images in 6-0-0." in told.stderr


def test_where_imagery_is_no_product_that_is_said(shell: Shell) -> None:
    told = shell.run_forked("imagery", MOSAIC_PRODUCTS="")
    assert told.returncode == WRONG
    stated = re.search(r"What to do: Set MOSAIC_PRODUCTS=([a-z,]+), here and for the builds", told.stderr)
    assert stated
    assert [each.word for each in PRODUCTS] == stated[1].split(","), "all of the default, and imagery"
    told = shell.run_forked("imagery", MOSAIC_PRODUCTS="mosaic,exact")
    assert "Set MOSAIC_PRODUCTS=mosaic,exact,imagery," in told.stderr
    assert "off by default" in shell.run_forked("imagery", "--help").stdout


@pytest.mark.parametrize("name", ["foo", "7-1-1", "6-64-0", "6-1"])
def test_a_word_that_is_no_partition_is_refused(shell: Shell, name: str) -> None:
    told = shell.run_forked("imagery", name)
    assert told.returncode == WRONG
    assert f"{name!r} is not a partition such as 6-34-23" in told.stderr


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(shell: Shell, share: str) -> None:
    assert shell.run_forked("imagery", "--share", share).returncode == WRONG
