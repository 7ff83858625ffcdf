"""Malicious images: each costs its own place on the map, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

from oam_mosaic_assets.core.imagery.blocks import blocks_of
from oam_mosaic_assets.core.imagery.chip import Chip
from oam_mosaic_assets.core.imagery.outcome import WORDS, Reason
from oam_mosaic_assets.gateways.imagery.addresses import AMAZON, Rules
from oam_mosaic_assets.gateways.imagery.cog import ENVIRONMENT
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers
from oam_mosaic_assets_tests.gate import leave_out
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost

PLACE = utm(33, 500_000, 5_000_000, 4.0, (300, 250))
SEED = 11

TILES_INSIDE = """<GDAL_WMS><Service name="TMS"><ServerUrl>http://{host}/inside/${{z}}</ServerUrl></Service>
<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>256</LowerRightX>
<LowerRightY>-256</LowerRightY><SizeX>256</SizeX><SizeY>256</SizeY><TileLevel>0</TileLevel></DataWindow>
<BandsCount>1</BandsCount><DataType>UInt16</DataType></GDAL_WMS>"""
"""What GDAL takes for an image: tiles that it requests by itself."""


def outcomes(
    host: Nginx | ScriptedHost, folder: Path, names: list[str], memory: int = 512 * 2**20
) -> dict[str, str]:
    """Read images as a build does: why each could not be read, or an empty reason if it was."""
    footprint = PLACE.footprint()
    block = blocks_of(np.array([footprint], dtype=object))[1][0].tolist()
    jobs = [
        Job(
            {
                "do": "chip",
                "blocks": [block],
                "address": host.address(name),
                "render": None,
                "footprint": shapely.to_wkb(footprint, hex=True),
                "feather": 0,
                "targets": [str(folder / f"{name}.chip")],
            },
            tag=name,
        )
        for name in names
    ]
    rules = Rules(private_hosts=frozenset({host.host}))
    with Workers(rules, {"seconds": 15.0, "wait": 0.0}, count=2, memory=memory) as workers:
        return {
            job.tag: str(answer["reason"])
            for job, answer in workers.run(lambda _: jobs.pop() if jobs else None)
        }


def tiff(entries: list[tuple[int, int, int, int]], body: bytes = b"") -> bytes:
    """A TIFF with one directory of entries (tag, type, count, value), which follows the body."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *each) for each in sorted(entries)) + bytes(4)
    return b"II*\x00" + struct.pack("<I", 8 + len(body)) + body + directory


def test_a_bomb_fills_no_memory(nginx: Nginx, tmp_path: Path) -> None:
    """A tile that inflates a thousandfold, in an image of that size; and a strip in one that claims less."""
    packed = zlib.compress(bytes(900 * 2**20), 1)
    side = 30_000 // 16 * 16  # of a tile
    geokeys = struct.pack("<4H4H4H4H", 1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    scale = struct.pack("<3d", 4.0, 4.0, 0.0)
    tie = struct.pack("<6d", 0, 0, 0, 500_000, 5_000_000, 0)
    body = packed + bytes(-len(packed) % 8) + geokeys + scale + tie
    at = 8 + len(packed) + (-len(packed) % 8)
    common = [
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (33550, 12, 3, at + len(geokeys)),
        (33922, 12, 6, at + len(geokeys) + len(scale)),
        (34735, 3, 16, at),
    ]
    tile = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(packed))]
    honest = [(256, 4, 1, side), (257, 4, 1, side), *tile]
    strip = [(273, 4, 1, 8), (278, 4, 1, 250), (279, 4, 1, len(packed))]
    lying = [(256, 4, 1, 300), (257, 4, 1, 250), *strip]
    (nginx.root / "bomb.tif").write_bytes(tiff(common + honest, body))
    (nginx.root / "liar.tif").write_bytes(tiff(common + lying, body))
    found = outcomes(nginx, tmp_path, ["bomb.tif", "liar.tif"])
    assert found["bomb.tif"] == Reason.TOO_LARGE
    # black without a mask shows nothing; what exceeds its 250 rows is not inflated
    assert found["liar.tif"] in {Reason.ELSEWHERE, Reason.DAMAGED}


@pytest.mark.parametrize("side", [2**31 - 1, 2**20])
def test_an_absurd_size_is_told(nginx: Nginx, tmp_path: Path, side: int) -> None:
    entries = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, side),
        (279, 4, 1, 100),
    ]
    (nginx.root / "absurd.tif").write_bytes(tiff(entries, bytes(100)))
    (reason,) = outcomes(nginx, tmp_path, ["absurd.tif"]).values()
    assert reason in {Reason.TOO_LARGE, Reason.DAMAGED, Reason.NO_GEOREFERENCE}


def test_an_image_too_large_for_the_worker_costs_no_more_than_itself(nginx: Nginx, tmp_path: Path) -> None:
    """The kernel refuses memory beyond the limit; the next image is read."""
    with rasterio.open(
        nginx.root / "wide.tif",
        "w",
        driver="GTiff",
        width=4096,
        height=4096,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_000_000, 0.3, 0.3),
        TILED="YES",
        BLOCKXSIZE=4096,
        BLOCKYSIZE=4096,
        COMPRESS="DEFLATE",
        INTERLEAVE="PIXEL",
    ) as made:
        made.write(np.full((3, 4096, 4096), 90, np.uint8))
    write_image(nginx.root / "plain.tif", PLACE, Writing(bands=PLACE.colours()))
    found = outcomes(nginx, tmp_path, ["plain.tif", "wide.tif", "plain.tif"], memory=130 * 2**20)
    assert found["plain.tif"] == ""
    assert found["wide.tif"] in {Reason.TOO_LARGE, Reason.CRASHED}


def test_whatever_is_cut_or_flipped_has_a_reason_or_is_read(nginx: Nginx, tmp_path: Path) -> None:
    """No worker may crash, and none may hang the run."""
    rng = random.Random(SEED)
    wholes = []
    for profile in ("deflate", "jpeg", "lzw", None):
        path = write_image(
            nginx.root / f"whole-{profile}.tif", PLACE, Writing(bands=PLACE.colours(), profile=profile)
        )
        wholes.append(path.read_bytes())
    names = []
    for number in range(120):
        content = bytearray(rng.choice(wholes))
        if number % 3 == 0:
            del content[rng.randrange(len(content)) :]
        else:  # most of what can go wrong is in the first bytes
            reach = rng.choice([512, 4096, len(content)])
            for _ in range(rng.choice([1, 8, 64])):
                content[rng.randrange(min(reach, len(content)))] ^= 1 << rng.randrange(8)
        names.append(f"fuzzed-{number}.tif")
        (nginx.root / names[-1]).write_bytes(content)
    found = outcomes(nginx, tmp_path, names)
    assert set(found) == set(names)
    assert set(found.values()) <= {"", *map(str, WORDS)}
    assert len([reason for reason in found.values() if reason]) > 40
    assert Reason.CRASHED not in found.values()


@pytest.mark.parametrize("place", ["/vsicurl/{address}", "{path}", "<VRTDataset>{path}</VRTDataset>"])
def test_overviews_are_taken_from_no_other_place(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, place: str
) -> None:
    """GDAL would open what a TIFF's own metadata names: an address inside, a file, a VRT of either."""
    secret = write_image(tmp_path / "secret.tif", PLACE, Writing(bands=PLACE.colours(), profile=None))
    path = write_image(nginx.root / "led.tif", PLACE, Writing(bands=PLACE.colours(), profile=None))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=place.format(address=host.address(), path=secret))
    assert outcomes(nginx, tmp_path, ["led.tif"]) == {"led.tif": Reason.UNSUPPORTED}
    assert not host.asked


@pytest.mark.parametrize("place", ["{path}", TILES_INSIDE], ids=["a file", "an address"])
def test_a_header_that_turns_hostile_once_it_was_checked_leads_nowhere(
    host: ScriptedHost, tmp_path: Path, place: str
) -> None:
    """GDAL reads it again for each overview, after its first bytes made room for those of another one."""
    own, secret = (
        Writing(bands=np.full((1, *size), value, np.uint16), profile=None, options={"COMPRESS": "DEFLATE"})
        for size, value in (((8400, 8400), 100), ((250, 300), 777))
    )
    inside = write_image(tmp_path / "secret.tif", PLACE, secret)
    path = write_image(tmp_path / "turning.tif", utm(33, 490_000, 5_010_000, 2.7, (8400, 8400)), own)
    with (
        rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE="64", COMPRESS_OVERVIEW="NONE"),
        rasterio.open(path, "r+") as file,
    ):
        file.update_tags(ns="OVERVIEWX", OVERVIEW_FILE=place.format(path=inside, host=host.host))
        file.build_overviews([2, 3], Resampling.nearest)
    honest = path.read_bytes()
    (directory,) = struct.unpack_from("<I", honest, 4)
    (entries,) = struct.unpack_from("<H", honest, directory)
    hostile = bytearray(honest.replace(b"OVERVIEWX", b"OVERVIEWS"))
    struct.pack_into("<I", hostile, directory + 2 + 12 * entries, 0)  # no overviews of its own

    def turn(request: Request) -> None:
        begun = [each for each in host.asked if each.range[0] == 0]
        request.give(honest if len(begun) == 1 else bytes(hostile))

    host.script = turn
    found = outcomes(host, tmp_path, ["turning.tif"])
    assert {each.path for each in host.asked} == {"/turning.tif"}
    assert found == {"turning.tif": ""}
    shown = Chip.from_bytes((tmp_path / "turning.tif.chip").read_bytes()).pixels
    assert shown[..., :3].max() == 0, "white is what lies above the values of the image itself"


def test_gdal_reads_nothing_but_tiffs(tmp_path: Path) -> None:
    """Drivers such as those for VRT and WMS open what a file names."""
    program = (
        "import json, pathlib, sys, rasterio; from oam_mosaic_assets.gateways.imagery.worker import serve\n"
        "serve(json.loads(sys.argv[1]))\n"
        "with rasterio.Env() as gdal: pathlib.Path(sys.argv[2]).write_text(','.join(gdal.drivers()))"
    )
    settings = {"private_hosts": [], "s3_endpoint": AMAZON, "limits": {}, "memory": 512 * 2**20}
    told = tmp_path / "drivers"
    subprocess.run(
        [sys.executable, "-c", program, json.dumps(settings), told], stdin=subprocess.DEVNULL, check=True
    )
    assert told.read_text() == "GTiff"


def test_gdal_itself_asks_no_host(host: ScriptedHost) -> None:
    with rasterio.Env(**ENVIRONMENT), pytest.raises(RasterioIOError):
        rasterio.open(f"/vsicurl/{host.address()}")
    assert not host.asked


def test_nothing_of_this_machine_is_opened_for_an_image(nginx: Nginx, tmp_path: Path) -> None:
    """Its metadata may point to this machine, and its address may be a path or in GDAL's own syntax."""
    if shutil.which("strace") is None:
        leave_out("strace, which tells which files are opened, is not in PATH")
    path = write_image(nginx.root / "pointing.tif", PLACE, Writing(bands=PLACE.colours()))
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(
            **{"XML:ESRI": '<a href="file:///etc/passwd"/>', "SRC": "/vsicurl/http://127.0.0.1:1/"}
        )
    secret = tmp_path / "secret.tif"
    secret.write_bytes(path.read_bytes())
    program = (
        "import sys; from oam_mosaic_assets.gateways.imagery.worker import Reader\n"
        "from oam_mosaic_assets.gateways.imagery.addresses import Rules\n"
        "from oam_mosaic_assets.gateways.imagery.source import Limits\n"
        f"reader = Reader(Rules(frozenset({{{nginx.host!r}}})), Limits(wait=0.0))\n"
        f"for address in [{nginx.address('pointing.tif')!r}, {str(secret)!r}, 'file://{secret}', "
        f"'/vsigzip/{secret}', 'GTIFF_DIR:1:{secret}']:\n"
        "    print('READ', file=sys.stderr); reader.look({'address': address, 'render': None})\n"
    )
    log = tmp_path / "trace"
    told = subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            "trace=open,openat,stat,access,connect",
            "-o",
            log,
            sys.executable,
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert told.stderr.count("READ") == 5
    trace = log.read_text()
    assert nginx.host.rpartition(":")[2] in trace  # requests to nginx are traced
    for never in (str(secret), "pointing.tif", "image.tif.aux", "etc/passwd", "htons(1)"):
        assert never not in trace
