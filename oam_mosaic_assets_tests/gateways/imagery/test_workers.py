"""The processes that read images: how they start, what they hold, and what becomes of those that die."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
import shapely
from rasterio.windows import Window as BandWindow

from oam_mosaic_assets.core.imagery.outcome import COMPUTED
from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.from_settings import imagery_of
from oam_mosaic_assets.gateways.imagery.addresses import AMAZON, Rules
from oam_mosaic_assets.gateways.imagery.workers import Job, Workers
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.gateways.imagery.bench import LIMITS, ROOT, Bench, drone
from oam_mosaic_assets_tests.images import ImageOf, utm
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost

MODULE = "oam_mosaic_assets.gateways.imagery.workers._MODULE"
STARTING = "oam_mosaic_assets.gateways.imagery.workers.STARTING_SECONDS"
GRACE = "oam_mosaic_assets.gateways.imagery.workers.GRACE_SECONDS"
ALONE = "oam_mosaic_assets.gateways.imagery.workers.ALONE_SECONDS"


def test_a_worker_that_dies_costs_one_image(nginx: Nginx, host: ScriptedHost, tmp_path: Path) -> None:
    """As when a malformed file crashes the decoder: the process is gone, the run goes on."""
    good = drone(nginx, "survivor", 530_000, 5_420_000)[0]
    bad = Image(id="deadly", footprint=good.footprint, asset=host.address())
    bench = Bench(tmp_path, nginx.host, host.host, workers=1)
    with bench.workers() as workers:
        host.script = lambda _: os.kill(workers.pids[0], signal.SIGSEGV)
        tally = bench.build([bad, good], running=workers)
    assert tally.read == 1
    assert [(each.id, each.reason) for each in tally.skipped] == [("deadly", "crashed")]


def test_a_worker_that_dies_while_it_writes_a_block_costs_that_block(
    nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one makes it in grey, in the same folder."""
    (tmp_path / "dying_once.py").write_text(
        "import json, os, sys; from pathlib import Path\n"
        "from oam_mosaic_assets.core.imagery import fragment\n"
        "from oam_mosaic_assets.gateways.imagery import worker\n"
        "write = fragment.write_archive\n"
        "def write_or_die(*given, **stated):\n"
        f"    died = Path({str(tmp_path)!r}, 'died')\n"
        "    if not died.exists():\n"
        "        died.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    write(*given, **stated)\n"
        "fragment.write_archive = write_or_die; worker.serve(json.loads(sys.argv[1]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(MODULE, "dying_once")
    image = drone(nginx, "unwritten", 535_000, 5_436_000)[0]
    bench = Bench(tmp_path / "bench", nginx.host, workers=1)
    tally = bench.build([image])
    assert (len(tally.uncomposed), tally.made, tally.waiting) == (1, 0, [image.id])
    middle = np.array([image.footprint.centroid.coords[0]])
    assert 0 < bench.seen_at(middle)[0, 3] < 255
    assert bench.build([image]).read == 1


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("raise ImportError('libgdal.so.36: cannot open it')", "ended with code 1 .*libgdal.so.36: cannot"),
        ("import time; time.sleep(600)", "was stopped before it had started.\nIt printed nothing"),
    ],
    ids=["broken", "hangs"],
)
def test_workers_that_do_not_start_are_no_images_fault(
    host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, said: str
) -> None:
    (tmp_path / "rasterio.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(STARTING, 60.0 if "raise" in library else 1.0)
    image = Image(id="any", footprint=shapely.box(10, 10, 10.001, 10.001), asset=host.address())
    bench = Bench(tmp_path, host.host)
    with pytest.raises(TilingFailed, match=f"(?s){said}"):
        bench.build([image])
    assert not list(bench.store.keys(ROOT))


def test_a_worker_that_hangs_as_it_starts_is_stopped_in_time_whatever_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order may be larger than what a pipe holds, as that of a footprint with thousands of vertices."""
    (tmp_path / "rasterio.py").write_text("import time; time.sleep(20)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(STARTING, 1.0)
    footprint = shapely.to_wkb(shapely.Point(10, 10).buffer(0.001, quad_segs=1000), hex=True)
    given = iter([Job({"do": "look", "address": "file:///nothing", "render": None, "footprint": footprint})])
    with Workers(Rules(), LIMITS, count=1) as workers, pytest.raises(TilingFailed, match="was stopped"):
        list(workers.run(lambda _: next(given, None)))


def test_a_worker_ends_with_the_process_that_started_it(host: ScriptedHost) -> None:
    """Even if that is killed; else it would go on until its host answers, or has not for a while."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def answer_late(_: Request) -> None:
        is_asked.set()
        may_answer.wait(60)

    host.script = answer_late
    program = (
        "import sys; from oam_mosaic_assets.gateways.imagery.addresses import Rules\n"
        "from oam_mosaic_assets.gateways.imagery.workers import Job, Workers\n"
        "jobs = [Job({'do': 'look', 'address': sys.argv[2], 'render': None})]\n"
        "with Workers(Rules(frozenset({sys.argv[1]})), {'seconds': 60.0}, count=1) as workers:\n"
        "    list(workers.run(lambda _: jobs.pop() if jobs else None))"
    )
    with subprocess.Popen([sys.executable, "-c", program, host.host, host.address()]) as parent:
        assert is_asked.wait(60)
        family = psutil.Process(parent.pid).children()
        parent.kill()
    assert family
    _, alive = psutil.wait_procs(family, timeout=5)
    may_answer.set()
    for each in alive:
        each.kill()
    assert not alive


def test_a_block_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    target = str(tmp_path / "gone" / "1-2.pmtiles")
    order = {"do": "compose", "block": [1, 2], "chips": [], "is_feathered": False, "hints": [], "told": {}}
    given = iter([Job({**order, "target": target})])
    with Workers(Rules(), LIMITS, count=1) as workers, pytest.raises(FileNotFoundError) as refused:
        list(workers.run(lambda _: next(given, None)))
    assert refused.value.filename == target


def test_a_worker_that_hangs_is_ended(
    nginx: Nginx, host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers that trickle in keep a socket busy for ever; the parent process enforces the deadline."""
    monkeypatch.setattr(GRACE, 1.0)
    good = drone(nginx, "patient", 560_000, 5_420_000)[0]
    bad = Image(id="dripping", footprint=good.footprint, asset=host.address())

    def drip(request: object) -> None:
        request.connection.sendall(b"HTTP/1.1 206 Partial Content\r\n")  # type: ignore[attr-defined]
        while True:
            time.sleep(0.1)
            request.connection.sendall(b"X")  # type: ignore[attr-defined]

    host.script = drip
    bench = Bench(tmp_path, nginx.host, host.host, workers=1, limits={"seconds": 2.0, "wait": 0.0})
    with bench.workers() as workers:
        tally = bench.build([bad, good], running=workers)
    assert tally.read == 1
    assert [(each.id, each.reason) for each in tally.skipped] == [("dripping", "slow")]
    assert workers.faults[host.host] == 1


def test_an_image_that_takes_long_to_decode_is_no_fault_of_its_host(
    nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a few of them would leave all others of the host unread. Their process has no time to say it."""
    monkeypatch.setattr(GRACE, 1.0)
    of = utm(33, 560_000, 5_440_000, 0.1, (19_456, 19_456))
    image = Image(id="heavy", footprint=of.footprint(), asset=nginx.address("heavy.tif"))
    write_heavy(nginx.root / "heavy.tif", of)
    bench = Bench(tmp_path, nginx.host, workers=1, limits={"seconds": 2.0, "wait": 0.0})
    with bench.workers() as workers:
        tally = bench.build([image], running=workers)
    assert [(each.reason, each.detail) for each in tally.skipped] == [("slow", COMPUTED)]
    assert workers.faults[nginx.host] == 0


def write_heavy(path: Path, of: ImageOf) -> None:
    """An image with as many pixels as may be read, which are large too; all its tiles are stored as one."""
    width, height = of.size
    tile = {"TILED": "YES", "BLOCKXSIZE": 1024, "BLOCKYSIZE": 1024, "INTERLEAVE": "PIXEL"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=31,
        dtype="uint16",
        crs=of.crs,
        transform=of.transform,
        COMPRESS="DEFLATE",
        SPARSE_OK="YES",
        **tile,
    ) as made:
        made.write(np.full((31, 1024, 1024), 7, np.uint16), window=BandWindow(0, 0, 1024, 1024))
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, at)
    for tag, kind, count, where in struct.iter_unpack("<HHII", content[at + 2 :][: 12 * entries]):
        if tag in {324, 325}:  # where the tiles lie, and their sizes
            size = {3: 2, 4: 4}[kind]
            content[where : where + size * count] = content[where : where + size] * count
    path.write_bytes(content)


def test_an_answer_that_came_while_the_caller_was_busy_is_not_late(
    host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ALONE, 0.0)
    monkeypatch.setattr(GRACE, 0.0)
    seconds = 4.0
    is_busy = threading.Event()

    def answer_meanwhile(request: Request) -> None:
        is_busy.wait(60)
        request.answer("404 Not Found")

    host.script = answer_meanwhile
    first, second = (
        Job({"do": "look", "address": address, "render": None})
        for address in ("file:///nothing", host.address())
    )
    rules = Rules(private_hosts=frozenset({host.host}))
    with Workers(rules, {**LIMITS, "seconds": seconds}, count=2) as workers:
        given = iter([first, second])
        done = workers.run(lambda _: next(given, None))
        assert next(done)[0] is first
        is_busy.set()
        time.sleep(seconds)
        assert [(job, answer["reason"]) for job, answer in done] == [(second, "missing")]


def test_a_worker_holds_no_secret(monkeypatch: pytest.MonkeyPatch, nginx: Nginx) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("GDAL_HTTP_PROXY", "http://127.0.0.1:1")
    with Workers(Rules(), LIMITS, count=1) as workers:
        given = iter([Job({"do": "look", "address": "file:///nothing", "render": None}), None])
        list(workers.run(lambda _: next(given, None)))
        (pid,) = workers.pids
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"hunter2" not in environment
    assert b"GDAL" not in environment


@pytest.mark.parametrize(("alone", "started"), [(60.0, 1), (0.0, 2)])
def test_another_worker_starts_where_the_first_has_been_at_it_for_a_while(
    monkeypatch: pytest.MonkeyPatch, alone: float, started: int
) -> None:
    monkeypatch.setattr(ALONE, alone)
    with Workers(Rules(), LIMITS, count=2) as workers:
        given = iter([Job({"do": "look", "address": "file:///nothing", "render": None})] * 4)
        assert len(list(workers.run(lambda _: next(given, None)))) == 4
        assert len(workers.pids) == started


def test_another_worker_starts_though_the_first_waits_for_its_host(
    monkeypatch: pytest.MonkeyPatch, host: ScriptedHost
) -> None:
    monkeypatch.setattr(ALONE, 0.5)
    others_are_done = threading.Event()

    def answer_late(request: Request) -> None:
        others_are_done.wait(60)
        request.answer("404 Not Found")

    host.script = answer_late
    waiting, other = (
        Job({"do": "look", "address": address, "render": None})
        for address in (host.address(), "file:///nothing")
    )
    with Workers(Rules(private_hosts=frozenset({host.host})), LIMITS, count=2) as workers:
        given = iter([waiting, other])
        done = workers.run(lambda _: next(given, None))
        assert next(done)[0] is other
        others_are_done.set()
        assert [job for job, _ in done] == [waiting]


@pytest.mark.parametrize("per_host", [1, 2])
def test_no_more_images_of_a_host_are_read_at_a_time_than_is_set(
    monkeypatch: pytest.MonkeyPatch, host: ScriptedHost, tmp_path: Path, per_host: int
) -> None:
    monkeypatch.setattr(ALONE, 0.0)
    may_answer, counting = threading.Event(), threading.Lock()
    at_once: list[int] = [0]

    def answer_late(request: Request) -> None:
        with counting:
            at_once.append(at_once[-1] + 1)
        may_answer.wait(60)
        with counting:
            at_once.append(at_once[-1] - 1)
        request.answer("404 Not Found")

    host.script = answer_late
    *waiting, other = (
        Job({"do": "look", "address": address, "render": None}, host=of)
        for address, of in [(host.address(), host.host)] * (per_host + 1) + [("file:///nothing", "")]
    )
    jobs = [*waiting, other]

    def next_job(may_begin: Callable[[Job], bool]) -> Job | None:
        found = next(filter(may_begin, jobs), None)
        if found:
            jobs.remove(found)
        return found

    environment = {"IMAGERY_PROCESSES": str(per_host + 2), "IMAGERY_PER_HOST": str(per_host)}
    settings = Settings.read({**environment, "IMAGERY_PRIVATE_HOSTS": host.host})
    with imagery_of(settings, FolderStore(tmp_path)).workers() as workers:
        done = workers.run(next_job)
        assert next(done)[0] is other
        assert jobs == waiting[per_host:], "the host is busy, though a process is not"
        may_answer.set()
        assert [answer["reason"] for _, answer in done] == ["missing"] * len(waiting)
    assert max(at_once) <= per_host


def test_what_a_library_prints_is_no_answer() -> None:
    program = (
        "import json, os, sys; from oam_mosaic_assets.gateways.imagery import worker\n"
        "def look(self, job):\n"
        "    print('Printed by Python')\n"
        "    os.write(1, b'Printed by C\\n')\n"
        "    return {'reason': ''}\n"
        "worker.Reader.look = look; worker.serve(json.loads(sys.argv[1]))"
    )
    settings = {"private_hosts": [], "s3_endpoint": AMAZON, "limits": LIMITS, "memory": 512 * 2**20}
    told = subprocess.run(
        [sys.executable, "-c", program, json.dumps(settings)],
        input='{"do": "look"}\n' * 2,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "ready\n" + '{"reason": ""}\n' * 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise OSError('no plugins')", "OSError: no plugins"),
        ("os.kill(os.getpid(), 9)", ""),
        ("return {}", ""),
    ],
    ids=["raises", "dies", "lists nothing"],
)
def test_a_worker_does_not_start_with_all_drivers_of_gdal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """Those that are to be switched off are listed first; if that fails, none would be."""
    (tmp_path / "without_drivers.py").write_text(
        "import json, os, sys, rasterio; from oam_mosaic_assets.gateways.imagery import worker\n"
        "def drivers(self):\n"
        f"    {fault}\n"
        "rasterio.Env.drivers = drivers; worker.serve(json.loads(sys.argv[1]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(MODULE, "without_drivers")
    given = iter([Job({"do": "look", "address": "file:///nothing", "render": None})])
    with (
        Workers(Rules(), LIMITS, count=1) as workers,
        pytest.raises(TilingFailed, match="before it had started") as told,
    ):
        list(workers.run(lambda _: next(given, None)))
    assert said in str(told.value)


def test_a_worker_starts_with_what_it_needs_alone() -> None:
    """Workers that die are replaced, and updating one image costs little more than starting a worker."""
    program = "import sys, oam_mosaic_assets.gateways.imagery.__main__; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(told.stdout.split())
    assert "rasterio" in imported
    assert not imported & {"boto3.session", "botocore.session", "dagster", "polars", "pyarrow"}
