"""How much memory and how many processors a process in control groups may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oam_mosaic_assets.gateways.control_groups import memory_limit, processors

Groups = tuple[Path, Path]


def groups(folder: Path, membership: str, **stated: str) -> Groups:
    """Write the groups and the membership file; in names, `__` stands for `/` and `_max` for `.max`."""
    mounted, file = folder / "groups", folder / "membership"
    mounted.mkdir()
    for name, text in stated.items():
        limit = mounted / name.replace("__", "/").replace("_max", ".max")
        limit.parent.mkdir(parents=True, exist_ok=True)
        limit.write_text(f"{text}\n")
    file.write_text(f"{membership}\n")
    return mounted, file


def test_the_least_limit_of_the_groups_above_a_process_counts(tmp_path: Path) -> None:
    limits = {"a__b__memory_max": "max", "a__memory_max": "500000000", "memory_max": "600000000"}
    assert memory_limit(*groups(tmp_path, "0::/a/b", **limits)) == 500_000_000


def test_in_a_container_the_group_that_is_mounted_counts(tmp_path: Path) -> None:
    of_the_host = "0::/docker/of-the-host"
    assert memory_limit(*groups(tmp_path, of_the_host, memory_max="300000000")) == 300_000_000


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    membership = "4:cpu,cpuacct:/a\n3:memory:/a"
    assert memory_limit(*groups(tmp_path, membership, **{"memory__a__memory.limit_in_bytes": "7"})) == 7


def test_no_limit_is_none(tmp_path: Path) -> None:
    assert memory_limit(*groups(tmp_path, "0::/a", a__memory_max="max")) is None
    assert memory_limit(tmp_path, tmp_path / "missing") is None


@pytest.fixture
def a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.usefixtures("a_large_machine")
@pytest.mark.parametrize(
    ("stated", "usable"),
    [
        ({}, 64),
        ({"a__cpu_max": "max 100000"}, 64),
        ({"a__cpu_max": "200000 100000"}, 2),
        ({"a__cpu_max": "150000 100000"}, 2),
        ({"a__cpu_max": "10000 100000"}, 1),
        ({"a__cpu_max": "800000 100000", "cpu_max": "400000 100000"}, 4),
        ({"cpu_max": "9900000 100000"}, 64),
        ({"a__cpu_max": "nonsense"}, 64),
    ],
)
def test_processors_are_those_that_the_groups_leave(
    tmp_path: Path, stated: dict[str, str], usable: int
) -> None:
    assert processors(*groups(tmp_path, "0::/a", **stated)) == usable


@pytest.mark.usefixtures("a_large_machine")
@pytest.mark.parametrize(("quota", "usable"), [("-1", 64), ("300000", 3)])
def test_quotas_of_the_first_version_count_too(tmp_path: Path, quota: str, usable: int) -> None:
    stated = {"cpu__a__cpu.cfs_quota_us": quota, "cpu__a__cpu.cfs_period_us": "100000"}
    assert processors(*groups(tmp_path, "4:cpu:/a", **stated)) == usable


def test_processors_that_a_process_is_kept_from_do_not_count(tmp_path: Path) -> None:
    assert processors(tmp_path, tmp_path / "missing") == len(os.sched_getaffinity(0))
