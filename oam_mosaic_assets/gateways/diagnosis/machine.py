"""Whether this machine has what a build needs: tippecanoe, memory, processors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.control_groups import memory_limit, processors
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

WHOLE_CATALOGUE_BYTES: Final = 400_000_000
"""Memory that a build of 22,792 images takes, Python and tippecanoe together: docs/performance.md."""


def examine_tippecanoe(program: Path | None) -> Finding:
    """Run tippecanoe and ask for its version."""
    try:
        found = Tippecanoe(program)
        return Finding("tippecanoe", State.OK, f"{found.version()}, {found.program}")
    except MosaicError as error:
        return Finding.of("tippecanoe", error)


def examine_machine() -> Finding:
    """How much memory and how many processors there are, within the limits of this process's cgroups."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit()
    memory = physical if limit is None else min(physical, limit)
    usable = processors()
    limited = " (the limit of its cgroup)" if memory < physical else ""
    text = (
        f"{size_in_words(memory)} of memory{limited}, {usable} processor{'s' if usable > 1 else ''}; "
        f"the whole catalogue needs {size_in_words(WHOLE_CATALOGUE_BYTES)}"
    )
    if memory >= WHOLE_CATALOGUE_BYTES:
        return Finding("machine", State.OK, text)
    return Finding("machine", State.WARNING, text, "Give it more memory: the kernel kills what exceeds it.")
