"""What an injection is, and the words that the table of them is written in."""

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
        where: the stage, or the call.
        what: happens there.
        ends: how the build may end: exit codes of the command, or statuses of Dagster's run.
        inject: starts a build, does it, and waits for the end.
        leaves: whether the build may leave things for the next one to take away: it was killed, or the store
            was gone. Otherwise it takes all away itself.
        uploads: whether it may leave an unfinished upload that nobody knows of, which outlives even the next
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
        """As it is chosen."""
        return f"{self.where}: {self.what}"


def ends(*how: int | str) -> frozenset[str]:
    """Spell how a build may end."""
    return frozenset(map(str, how))


# what is done to a build


def sign(number: signal.Signals) -> Callable[[Lane, Build], None]:
    """Send the process at work a signal."""
    return lambda _, build: os.kill(build.pid, number)


def cancel(_: Lane, build: Build) -> None:
    """Press the UI's button."""
    assert isinstance(build, DagsterBuild)
    build.stop()


def met(stage: Stage, does: Callable[[Lane, Build], object]) -> Inject:
    """Do something to a build that is met at a stage."""

    def inject(lane: Lane) -> Ended:
        with stage(lane) as there:
            build = lane.start()
            there.wait(build)
            does(lane, build)
            there.let_go(build)
            return build.wait()

    return inject


def started(**settings: str) -> Inject:
    """Start a build with other settings; `{folder}` is the lane's."""

    def inject(lane: Lane) -> Ended:
        stated = {name: value.format(folder=lane.folder) for name, value in settings.items()}
        return lane.command(**stated).wait()

    return inject


def spoiled(operation: str, key: str, fault: Spoiled, *, skip: int = 0, in_parts: bool = False) -> Inject:
    """Spoil calls of a build; see `S3Proxy.spoil`."""

    def inject(lane: Lane) -> Ended:
        lane.proxy.spoil(operation, key, fault, skip=skip)
        module = "oam_mosaic_assets_tests.campaign.in_parts" if in_parts else None
        ended = lane.command(module=module).wait()
        if not lane.proxy.spoiled:
            raise NotMet(f"no {operation} of {key or 'anything'} came by: {ended}")
        return ended

    return inject


def tippecanoe(script: str) -> Inject:
    """Let tippecanoe do something else; `$real` is the real one."""

    def inject(lane: Lane) -> Ended:
        lane.let_tippecanoe(script)
        return lane.start().wait()

    return inject


def on_a_disk_of(kib: int, *, setting: str) -> Inject:
    """Give a build a disk for its scratch, or for Dagster's home, that is soon full; only root can."""

    def inject(lane: Lane) -> Ended:
        with a_disk(lane.folder / "disk", kib) as disk:
            return lane.command(**{setting: str(disk / "used")}).wait()

    return inject


@contextmanager
def a_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def in_memory_of(mib: int) -> Inject:
    """Let the kernel kill the build, all its processes counted, where it takes more memory."""

    def inject(lane: Lane) -> Ended:
        with a_control_group(mib) as group:
            join = f"echo $$ >'{group}/cgroup.procs' && exec \"$@\""
            return lane.command(before=["sh", "-c", join, "sh"]).wait()

    return inject


MEMORY_GROUPS: Final = Path("/sys/fs/cgroup")


@contextmanager
def a_control_group(mib: int) -> Iterator[Path]:
    """A control group that may take so much memory, of whichever version this machine has."""
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
                time.sleep(0.1)  # the kernel is not done with who died in it
            else:
                break
