"""The command `oam-mosaic` for libfaketime, which fails where Python sleeps until a monotonic moment."""

from __future__ import annotations

import select
import sys
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep

from oam_mosaic_assets.cli import main  # noqa: E402  # what it imports may keep the other sleep

sys.exit(main(sys.argv[1:]))
