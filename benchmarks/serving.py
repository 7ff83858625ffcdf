"""How fast the tile server answers: `wrk` on random tiles of a real archive, through nginx and Martin.

    python -m benchmarks.serving global-mosaic.pmtiles [--seconds 20] [--connections 64]

Needs Martin (scripts/install-martin), nginx and wrk (Debian's) on the PATH. Three runs: tiles not
requested before, the same again from nginx's cache, and random addresses at z12, most of which have no tile.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import deserialize_directory, tileid_to_zxy

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets_tests.servers.tiles import release, serving

BUILD = "20260115T030000Z-3f9c2a7d41be"

ASK = """
local paths = {}
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = line end
local at = 0
function setup(thread) thread:set("first", at); at = at + 7919 end
function init() at = first end
function request()
  at = at % #paths + 1
  return wrk.format("GET", paths[at], {["Accept-Encoding"] = "gzip"})
end
"""


def places_of(archive: Path, count: int) -> list[tuple[int, int, int]]:
    """Up to `count` random tiles of the archive."""
    with archive.open("rb") as file:
        source = MmapSource(file)
        header = Reader(source).header()
        ids, leaves = [], [(header["root_offset"], header["root_length"])]
        while leaves:
            for entry in deserialize_directory(source(*leaves.pop())):
                if entry.run_length:
                    ids += range(entry.tile_id, entry.tile_id + entry.run_length)
                else:
                    leaves.append((header["leaf_directory_offset"] + entry.offset, entry.length))
    chosen = random.Random(1).sample(ids, min(count, len(ids)))  # noqa: S311
    return [tileid_to_zxy(each) for each in chosen]


def run(name: str, address: str, paths: list[str], seconds: int, connections: int, folder: Path) -> None:
    (folder / "paths").write_text("\n".join(paths) + "\n")
    (folder / "ask.lua").write_text(ASK)
    said = subprocess.run(
        ["wrk", "--latency", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", folder / "ask.lua", address],
        env={"PATHS": str(folder / "paths"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    shares = dict(re.findall(r"^\s+(\d+)%\s+(\S+)$", said, re.MULTILINE))
    rate = re.search(r"Requests/sec:\s+(\S+)", said)
    errors = re.findall(r"(Non-2xx.*|Socket errors.*)", said)
    print(
        f"{name:<10} {rate[1] if rate else '?':>10}/s  "
        + "  ".join(f"p{share} {time}" for share, time in shares.items())
        + f"  {'; '.join(errors) or 'no error'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=64)
    stated = parser.parse_args()
    inside = [f"/globalcoverage/{z}/{x}/{y}" for z, x, y in places_of(stated.archive, 50_000)]
    chance = np.random.default_rng(2)
    outside = [f"/globalcoverage/12/{x}/{y}" for x, y in chance.integers(0, 4096, (20_000, 2))]
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        release(FolderStore(folder / "store"), BUILD, stated.archive.absolute())
        store = {"MOSAIC_STORE": str(folder / "store")}
        with serving(folder / "serve", store, SERVE_POLL_SECONDS="10") as server:
            server.serves(BUILD)
            address = f"http://127.0.0.1:{server.ports[0]}"
            for title, paths in (("first", inside), ("again", inside), ("outside", outside)):
                run(title, address, paths, stated.seconds, stated.connections, folder)


if __name__ == "__main__":
    main()
