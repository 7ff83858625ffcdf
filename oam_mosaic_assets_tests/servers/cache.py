"""Where `scripts/install-test-servers` keeps what it unpacked; the tests keep their files there too."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """The folder, found in the same way as in the script."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OAM_MOSAIC_CACHE") or Path(caches, "oam-mosaic"))
