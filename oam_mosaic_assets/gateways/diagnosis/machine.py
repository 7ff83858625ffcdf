"""Whether this machine has what a build needs: tippecanoe, memory, processors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.diagnosis.room import in_words
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

WHOLE_CATALOGUE_BYTES: Final = 400_000_000
"""Memory of a build of 22,792 images, Python and tippecanoe together: docs/performance.md."""

_CGROUPS: Final = Path("/sys/fs/cgroup")


def examine_tippecanoe(program: Path | None) -> Finding:
    """Start it and ask for its version."""
    try:
        found = Tippecanoe(program)
        return Finding("tippecanoe", State.OK, f"{found.version()}, {found.program}")
    except MosaicError as error:
        return Finding.of("tippecanoe", error)


def examine_machine() -> Finding:
    """How much memory and how many processors there are, for this process's group too."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit()
    memory = physical if limit is None else min(physical, limit)
    processors = len(os.sched_getaffinity(0))
    limited = " (the limit of its cgroup)" if memory < physical else ""
    text = (
        f"{in_words(memory)} of memory{limited}, {processors} processor{'s' if processors > 1 else ''}; "
        f"the whole catalogue takes {in_words(WHOLE_CATALOGUE_BYTES)}"
    )
    if memory >= WHOLE_CATALOGUE_BYTES:
        return Finding("machine", State.OK, text)
    return Finding("machine", State.WARNING, text, "Give it more memory: the kernel kills what needs more.")


def memory_limit(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least memory limit of this process's control groups, in bytes; None where there is none."""
    limits = []
    try:
        entries = membership.read_text().splitlines()
    except OSError:
        return None
    for entry in entries:
        _, controllers, name = entry.split(":", 2)
        if controllers == "":
            base, file = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # in a container the name may be the host's, and what is mounted the container's own group
        group = base / name.lstrip("/")
        stated = (_number_in(each / file) for each in (group, *group.parents) if each.is_relative_to(base))
        limits += [each for each in stated if each is not None]
    return min(limits, default=None)


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group; "max"
        return None
