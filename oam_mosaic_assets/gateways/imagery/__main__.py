"""A worker process: see `worker` for what it does, and `workers` for how it is started."""

from __future__ import annotations

import contextlib
import json
import sys

# rasterio imports boto3 if installed, which takes longer than all the rest; a worker has no keys to use
sys.modules["boto3"] = None  # type: ignore[assignment]

from oam_mosaic_assets.gateways.allocator import collect_seldom  # noqa: E402
from oam_mosaic_assets.gateways.imagery.worker import serve  # noqa: E402

if __name__ == "__main__":
    collect_seldom()
    with contextlib.suppress(KeyboardInterrupt):  # the parent, if interrupted, ends this process as well
        serve(json.loads(sys.argv[1]))
