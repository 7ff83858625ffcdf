"""The memory and processors that this process's control groups let it use.

A container sees all the processors and memory of its machine; only its control groups say what it may use.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOUNTED: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def memory_limit(mounted: Path = _MOUNTED, membership: Path = _MEMBERSHIP) -> int | None:
    """The lowest memory limit of this process's groups, in bytes; None if there is none.

    Args:
        mounted: where the groups are mounted.
        membership: lists the groups that this process is in; see cgroups(7).
    """
    limits = []
    for group, version in _groups("memory", mounted, membership):
        limits += _numbers_in(group / ("memory.limit_in_bytes" if version == 1 else "memory.max"))
    return min(limits, default=None)


def processors(mounted: Path = _MOUNTED, membership: Path = _MEMBERSHIP) -> int:
    """How many processors this process may keep busy, at least one; a fraction is rounded up.

    Args:
        mounted: where the groups are mounted.
        membership: lists the groups that this process is in; see cgroups(7).
    """
    shares = [float(len(os.sched_getaffinity(0)))]
    for group, version in _groups("cpu", mounted, membership):
        stated = (
            _numbers_in(group / "cpu.cfs_quota_us") + _numbers_in(group / "cpu.cfs_period_us")
            if version == 1
            else _numbers_in(group / "cpu.max")
        )
        match stated:
            case [quota, period] if quota > 0 and period > 0:  # a quota of -1 or "max" is no limit
                shares.append(quota / period)
    return max(1, math.ceil(min(shares)))


def _groups(controller: str, mounted: Path, membership: Path) -> Iterator[tuple[Path, int]]:
    """The groups that may limit this process, innermost first, each with its cgroup version."""
    try:
        entries = membership.read_text().splitlines()
    except OSError:
        return
    for entry in entries:
        _, controllers, name = entry.split(":", 2)
        if controllers == "":
            base, version = mounted, 2
        elif controller in controllers.split(","):
            base, version = mounted / controller, 1
        else:
            continue
        # in a container the name may be the host's, while the mount holds only the container's own group
        group = base / name.lstrip("/")
        yield from ((each, version) for each in (group, *group.parents) if each.is_relative_to(base))


def _numbers_in(file: Path) -> list[int]:
    """The integers in a file; none if it does not exist, or holds a word such as `max`."""
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return []
