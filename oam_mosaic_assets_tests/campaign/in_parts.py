"""The command `oam-mosaic` with parts of 64 KiB, so that a small mosaic travels in as many as a large one."""

from __future__ import annotations

import sys

from oam_mosaic_assets.cli import main
from oam_mosaic_assets.gateways.s3_store import S3Store

PART = 64 * 1024

S3Store.__init__.__kwdefaults__.update(part_size=PART, largest_copy=PART)
sys.exit(main(sys.argv[1:]))
