"""The command `oam-mosaic` with 64 KiB parts, so that a small mosaic is uploaded and copied in many parts."""

from __future__ import annotations

import sys

from oam_mosaic_assets.cli import main
from oam_mosaic_assets.gateways.s3_store import S3Store

PART = 64 * 1024

S3Store.__init__.__kwdefaults__.update(part_size=PART, largest_copy=PART)
sys.exit(main(sys.argv[1:]))
