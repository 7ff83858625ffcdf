"""What an injection is, and the building blocks for the table of injections."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oam_mosaic_assets_tests.campaign.builds import Build, Ended
from oam_mosaic_assets_tests.campaign.dagster_runs import DagsterBuild
from oam_mosaic_assets_tests.campaign.lane import Lane
from oam_mosaic_assets_tests.campaign.stages import NotMet, Stage
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled

Inject = Callable[[Lane], Ended]


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault.

    Attributes:
        where: the stage or the call at which it strikes.
        what: what happens there.
        ends: how the build may end: exit codes of the command, or statuses of Dagster's run.
        inject: starts a build, injects the fault, and waits for the build to end.
        leaves: whether the build may leave things for the next one to clear: it was killed, or the store
            was gone. Otherwise it must clear everything itself.
        uploads: whether it may leave an unfinished upload that nobody knows of, which survives even the next
            build, until it is six hours old.
        by_dagster: the build is a run of Dagster's daemon.
        short: part of the short campaign.
    """

    where: str
    what: str
    ends: frozenset[str]
    inject: Inject
    leaves: bool = False
    uploads: bool = False
    by_dagster: bool = False
    short: bool = False

    @property
    def name(self) -> str:
        """The name by which `--only` selects it."""
        return f"{self.where}: {self.what}"


def ends(*how: int | str) -> frozenset[str]:
    """List how a build may end."""
    return frozenset(map(str, how))


# what can be done to a build


def sign(number: signal.Signals) -> Callable[[Lane, Build], None]:
    """Send a signal to the process that does the work."""
    return lambda _, build: os.kill(build.pid, number)


def cancel(_: Lane, build: Build) -> None:
    """Press the UI's button that terminates a run."""
    assert isinstance(build, DagsterBuild)
    build.stop()


def met(stage: Stage, does: Callable[[Lane, Build], object]) -> Inject:
    """Do something to a build that has reached a stage."""

    def inject(lane: Lane) -> Ended:
        with stage(lane) as there:
            build = lane.start()
            there.wait(build)
            does(lane, build)
            there.let_go(build)
            return build.wait()

    return inject


def started(**settings: str) -> Inject:
    """Start a build with further settings, in which `{folder}` is the lane's folder."""

    def inject(lane: Lane) -> Ended:
        stated = {name: value.format(folder=lane.folder) for name, value in settings.items()}
        return lane.command(**stated).wait()

    return inject


def spoiled(operation: str, key: str, fault: Spoiled, *, skip: int = 0, in_parts: bool = False) -> Inject:
    """Spoil some of a build's S3 calls; see `S3Proxy.spoil`."""

    def inject(lane: Lane) -> Ended:
        lane.proxy.spoil(operation, key, fault, skip=skip)
        module = "oam_mosaic_assets_tests.campaign.in_parts" if in_parts else None
        ended = lane.command(module=module).wait()
        if not lane.proxy.spoiled:
            raise NotMet(f"no {operation} of {key or 'anything'} came by: {ended}")
        return ended

    return inject


def tippecanoe(script: str) -> Inject:
    """Run a shell script in place of tippecanoe; `$real` is the real program."""

    def inject(lane: Lane) -> Ended:
        lane.let_tippecanoe(script)
        return lane.start().wait()

    return inject


def on_a_disk_of(kib: int, *, setting: str) -> Inject:
    """Give a build a small disk, soon full, for its scratch or for Dagster's home; needs root."""

    def inject(lane: Lane) -> Ended:
        with a_disk(lane.folder / "disk", kib) as disk:
            return lane.command(**{setting: str(disk / "used")}).wait()

    return inject


@contextmanager
def a_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A separate file system, in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def in_memory_of(mib: int) -> Inject:
    """Limit the memory of a build's processes taken together; beyond it, the kernel kills."""

    def inject(lane: Lane) -> Ended:
        with a_control_group(mib) as group:
            join = f"echo $$ >'{group}/cgroup.procs' && exec \"$@\""
            return lane.command(before=["sh", "-c", join, "sh"]).wait()

    return inject


MEMORY_GROUPS: Final = Path("/sys/fs/cgroup")


@contextmanager
def a_control_group(mib: int) -> Iterator[Path]:
    """A control group with this memory limit, of whichever cgroup version the machine has."""
    first = (MEMORY_GROUPS / "memory").is_dir()
    group = (MEMORY_GROUPS / "memory" if first else MEMORY_GROUPS) / f"mosaic-campaign-{uuid.uuid4()}"
    if not first:
        with suppress(OSError):
            (MEMORY_GROUPS / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        limit = "memory.limit_in_bytes" if first else "memory.max"
        (group / limit).write_text(str(mib << 20))
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.1)  # the kernel is not yet done with the processes that died in it
            else:
                break
