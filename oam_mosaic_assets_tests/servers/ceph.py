"""A Ceph Object Gateway for the tests: configuring and starting it, creating users, and stopping it.

Only what concerns running Ceph belongs here. What tests expect of an S3 server belongs in the tests, and what
they need to reach one is `S3Server`.

The cluster is the smallest that the gateway accepts: one monitor, one OSD that keeps its objects in memory,
and the gateway. It needs no root, no disk image and no manager, and only this machine can reach it. Of
Ceph's programs, `ceph-mon`, `ceph-osd`, `monmaptool`, `osdmaptool`, `radosgw` and `radosgw-admin` must be in
`PATH`.

Any Ceph from 16 on starts, but versions differ in the conditions they honour. 16 ignores those on the source
of a CopyObject. 18 takes a quoted ETag, as clients send it, for a different one in the `If-Match` of a
PutObject, and ignores the conditions of CompleteMultipartUpload and DeleteObject. 20 gets these right, but
still ignores those on the source of an UploadPartCopy.

Unlike AWS, none of them requires `s3:PutObjectAcl` to write an object together with its ACL.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.s3 import S3Server

_HOST: Final = "127.0.0.1"

# On an idle machine, each step takes well under a second; these are for a busy one.
_COMMAND_SECONDS: Final = 60
_READY_SECONDS: Final = 60

_LOG_LINES: Final = 15

_CONFIG: Final = """\
[global]
fsid = {fsid}
mon host = v2:{host}:{mon_port}
public addr = {host}
cluster addr = {host}
ms bind msgr1 = false

# Keys would cost a step per daemon, and protect test data from whoever is on this machine already. The
# gateway insists on an encrypted connection to the monitor unless told otherwise; that takes a key.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc

# Nothing outside the folder. (Sockets would be in it, but for a path that can be longer than theirs may be.)
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
crash dir = {folder}/crash
keyring = {folder}/keyring
admin socket =
log file =
log to stderr = true
mon cluster log to file = false

# The monitor ends itself when the disk is nearly full, but the few megabytes it writes are no danger to it.
mon data avail crit = 1

# The size is a limit, not a reservation.
osd objectstore = memstore
memstore device bytes = 4G

# One copy of everything, and as few placement groups as possible, since those make a pool slow to create.
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw rados pool pg num min = 1

# By default the monitor collects changes for a second before it records them.
paxos propose interval = 0.01
paxos min wait = 0.01

# How long a client waits before it looks again for an OSD that was not there when it first asked.
objecter tick interval = 0.5

# What the gateway has for the sake of many clients costs it threads and, when it starts, requests to the OSD.
rgw thread pool size = 32
rgw num control oids = 1
rgw gc max objs = 1
rgw lc max objs = 1
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw run sync thread = false

rgw frontends = beast endpoint={host}:{gateway_port} tcp_nodelay=1
"""


class CephError(RuntimeError):
    """Ceph did not start, or did not do what it was asked to; the message quotes its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CephServer(S3Server):
    """A running gateway, and a user who may create buckets."""

    folder: Path

    def create_user(self, name: str) -> S3Server:
        """Adds a user who owns nothing, and may do only what bucket policies allow.

        In these, `principal(name)` denotes the user.
        """
        # A negative number forbids buckets; zero would mean no limit.
        access_key, secret_key = _create_user(self.folder, name, max_buckets=-1)
        return S3Server(self.endpoint, access_key, secret_key, self.region)


def principal(name: str) -> str:
    """How a bucket policy names a user: the `...` in `{"Principal": {"AWS": ...}}`."""
    return f"arn:aws:iam:::user/{name}"


@contextmanager
def running_ceph(*settings: str) -> Iterator[CephServer]:
    """A gateway to an empty cluster of its own; both end with the block.

    Args:
        settings: further lines for its configuration, such as `rgw multipart min part size = 1024`.

    If this process is killed instead, the kernel kills the daemons. It also does so when the thread that
    entered the block ends, so that thread must stay alive.

    Raises:
        CephError: A program is missing or failed, or the gateway did not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="ceph-") as name, ExitStack() as daemons:
        folder = Path(name)
        mon_port, gateway_port = free_port(), free_port()
        fsid = str(uuid.uuid4())
        _config(folder).write_text(
            _CONFIG.format(fsid=fsid, folder=folder, host=_HOST, mon_port=mon_port, gateway_port=gateway_port)
            + "\n".join([*settings, ""]),
            encoding="utf-8",
        )
        (folder / "mon").mkdir()
        (folder / "osd").mkdir()

        # With the OSD in its first map, the monitor need not be asked to add it. That would take the `ceph`
        # command, and thus a Python with Ceph's modules.
        monmap, osdmap = str(folder / "monmap"), str(folder / "osdmap")
        mon_address = f"[v2:{_HOST}:{mon_port}]"
        _run(folder, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", mon_address, monmap)
        _run(folder, "osdmaptool", "--createsimple", "1", osdmap)
        _run(folder, "ceph-mon", "--id=a", "--mkfs", f"--monmap={monmap}", f"--osdmap={osdmap}")
        daemons.enter_context(_daemon(folder, "ceph-mon", "--id=a"))
        _run(folder, "ceph-osd", "--id=0", "--mkfs", f"--osd-uuid={uuid.uuid4()}")
        daemons.enter_context(_daemon(folder, "ceph-osd", "--id=0"))

        # This waits for the OSD, and creates pools that the gateway would otherwise create itself; doing so
        # while the gateway starts would be a race.
        access_key, secret_key = _create_user(folder, "owner")
        gateway = daemons.enter_context(_daemon(folder, "radosgw", "--name=client.rgw"))
        _wait_until_ready(folder, gateway, gateway_port)

        yield CephServer(f"http://{_HOST}:{gateway_port}", access_key, secret_key, folder=folder)


def _create_user(folder: Path, name: str, *, max_buckets: int = 1000) -> tuple[str, str]:
    """Adds a user, and returns their access key and secret key."""
    answer = _run(
        folder,
        "radosgw-admin",
        "user",
        "create",
        f"--uid={name}",
        f"--display-name={name}",
        f"--max-buckets={max_buckets}",
    )
    (key,) = json.loads(answer)["keys"]
    return key["access_key"], key["secret_key"]


def _run(folder: Path, program: str, *arguments: str) -> str:
    """Runs one of Ceph's tools to completion, and returns its standard output."""
    try:
        done = subprocess.run(
            _command(folder, program, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failure(folder, f"{program} did not end within {_COMMAND_SECONDS} s") from error
    if done.returncode != 0:
        said = _last_lines(done.stdout + done.stderr)
        raise _failure(folder, f"{program} ended with status {done.returncode}:{said}")
    return done.stdout


@contextmanager
def _daemon(folder: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs one of Ceph's daemons in a process group of its own, and kills the group at the end."""
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, program, "-f", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # There is no reason to shut down cleanly, which would make the OSD write its memory to disk. Once
        # poll() has seen the process end, its id may belong to another process.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _command(folder: Path, program: str, *arguments: str) -> list[str]:
    # Python could request the signal too, but only in the child before it runs the program (`preexec_fn`),
    # which is not safe in the presence of threads.
    return ["setpriv", "--pdeathsig", "KILL", "--", program, f"--conf={_config(folder)}", *arguments]


def _config(folder: Path) -> Path:
    return folder / "ceph.conf"


def _environment() -> dict[str, str]:
    # CEPH_ARGS and the like would add to the configuration.
    return {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}


def _wait_until_ready(folder: Path, gateway: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _answers(port):
        if gateway.poll() is not None:
            raise _failure(folder, f"radosgw ended with status {gateway.returncode}")
        if time.monotonic() > deadline:
            raise _failure(folder, f"radosgw did not answer within {_READY_SECONDS} s")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=5)
    try:
        # Anyone may list their own buckets, even anonymously.
        connection.request("GET", "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _failure(folder: Path, problem: str) -> CephError:
    """The error for a problem, with the end of each daemon's log."""
    logs = sorted(folder.glob("*.log"))
    said = [f"{log.name}:{_last_lines(log.read_text(encoding='utf-8', errors='replace'))}" for log in logs]
    return CephError("\n".join([problem, *said]))


def _last_lines(text: str) -> str:
    """The last non-blank lines of a text, each after a line break."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
