"""The command `oam-mosaic` under libfaketime, which breaks Python's sleep until a monotonic deadline."""

from __future__ import annotations

import select
import sys
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep

from oam_mosaic_assets.cli import main  # noqa: E402  # its imports might keep the original sleep

sys.exit(main(sys.argv[1:]))
