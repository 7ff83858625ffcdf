"""Sizes of an archive's tiles as they are stored, by zoom.

python benchmarks/tile_sizes.py ARCHIVE.pmtiles
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.merging import Source

LARGE = 200_000
"""Bytes that 99 % of the tiles stay below."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    with open_archive(parser.parse_args().archive) as archive:
        entries, last = Source.of_archive(archive).entries, archive.header["max_zoom"]
    # an entry that stands for a run of tiles counts once for each
    tile_id, length = (np.repeat(each, entries.run_length) for each in (entries.tile_id, entries.length))
    bounds = np.searchsorted(tile_id, [first_tile_id(zoom) for zoom in range(last + 2)])
    print(f"{'':<5}{'tiles':>10}{'largest':>10}{'99 %':>10}{'all':>12}  bytes")
    for zoom in range(last + 1):
        of_zoom = length[bounds[zoom] : bounds[zoom + 1]]
        if len(of_zoom):
            print(f"z{zoom:<4}{_sizes(of_zoom)}")
    print(f"{'all':<5}{_sizes(length)}")
    print(f"{int((length > LARGE).sum())} of {len(length):,} tiles are larger than {LARGE:,} bytes")


def _sizes(length: np.ndarray) -> str:
    most = np.percentile(length, 99, method="higher")
    return f"{len(length):>10,}{length.max():>10,}{most:>10,}{length.sum():>12,}"


if __name__ == "__main__":
    sys.exit(main())
