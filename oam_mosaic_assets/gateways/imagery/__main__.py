"""A worker: see `worker` for what it does, and `workers` for who starts it."""

from __future__ import annotations

import contextlib
import gc
import json
import sys

# rasterio imports it where it is there: that takes longer than all the rest, and a worker has no keys to use
sys.modules["boto3"] = None  # type: ignore[assignment]

from oam_mosaic_assets.gateways.imagery.worker import serve  # noqa: E402

if __name__ == "__main__":
    gc.freeze()  # what is imported stays, and need not be looked through again and again
    with contextlib.suppress(KeyboardInterrupt):  # whoever is interrupted ends this as well
        serve(json.loads(sys.argv[1]))
