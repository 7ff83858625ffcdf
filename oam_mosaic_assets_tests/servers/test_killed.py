"""Tests that are killed leave no server running, which would keep its port and the machine's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

IMAGES = """
from oam_mosaic_assets_tests.servers.image_hosts import running_nginx
server = running_nginx(folder / "nginx", folder)
"""
TILES = """
from oam_mosaic_assets_tests.servers.tiles import serving
server = serving(folder / "serve", {"MOSAIC_STORE": str(folder / "store")})
"""


@pytest.mark.parametrize("server", [IMAGES, TILES], ids=["images", "tiles"])
def test_a_server_ends_with_the_tests_that_started_it(tmp_path: Path, server: str) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])"
        + server
        + "with server:\n    print('at work', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        assert tests.stdout.readline() == "at work\n"
        family = psutil.Process(tests.pid).children(recursive=True)
        tests.kill()
    assert family
    _, alive = psutil.wait_procs(family, timeout=20)
    for each in alive:
        each.kill()
    assert not alive
