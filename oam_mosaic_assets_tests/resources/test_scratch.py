"""Scratch space: each process has its own folder, and what a dead one left is swept up."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use
from oam_mosaic_assets.resources.scratch import Scratch


def a_folder_in(root: Path) -> Path:
    """Create a folder as an asset does, for the duration of a run; returns where it was."""
    with Scratch(root=str(root)).yield_for_execution(dg.build_init_resource_context()) as scratch:
        folder = scratch.folder("footprints")
        assert folder.is_dir()
        return folder


def test_a_folder_is_gone_when_its_run_ends(tmp_path: Path) -> None:
    assert not a_folder_in(tmp_path).exists()
    assert not list(tmp_path.iterdir())


def test_what_a_dead_process_left_is_swept_up_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "run-left"
    left.mkdir()
    (tmp_path / "run-left.lock").touch()
    a_folder_in(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_being_made_is_not_swept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may look at any moment, even just before the folder's lock is held."""
    root, dead = tmp_path / "root", tmp_path / "dead"
    lock, being_made = fcntl.flock, set[Path]()

    def lock_after_another_process(descriptor: int, operation: int) -> None:
        if not being_made:
            being_made.update(root.iterdir())
            a_folder_in(root)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_another_process)
    with folder_in_use(root) as folder:
        assert being_made
        assert a_folder_in(root) != folder
        assert folder.is_dir()
        a_folder_in(Path(shutil.copytree(root, dead)))  # as if killed now
    assert not [*root.iterdir(), *dead.iterdir()]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("/sys", "MOSAIC_SCRATCH, /sys, cannot be used: .+[.]"),
        ("/sys/none", "MOSAIC_SCRATCH, /sys/none, cannot be used: .+[.]"),
        ("/proc/none", "MOSAIC_SCRATCH, /proc/none, cannot be used: No such file or directory"),
        (__file__, "cannot be used: it is a file, not a folder"),
    ],
    ids=["nothing may be put there", "it may not be made", "it cannot be made", "a file"],
)
def test_a_place_that_cannot_be_used_is_named_with_the_setting(root: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused, folder_in_use(Path(root)):
        pass
    assert "Set MOSAIC_SCRATCH to a folder that this user may write to" in str(refused.value.hint)


def test_a_folder_that_may_not_be_entered_is_named_too(tmp_path: Path) -> None:
    """As another user's home is; root may enter any."""
    (tmp_path / "of-another").mkdir(0)
    root = tmp_path / "of-another" / "scratch"
    call = f"""
import os
from pathlib import Path
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use
if os.getuid() == 0:
    os.setuid(65534)
with folder_in_use(Path({str(root)!r})):
    pass
"""
    refused = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert f"SettingsError: MOSAIC_SCRATCH, {root}, cannot be used: Permission denied" in refused.stderr


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOSPC])
def test_a_fault_that_may_pass_is_not_one_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(tempfile, "mkstemp", failing)
    with pytest.raises(OSError, match=os.strerror(fault)), folder_in_use(tmp_path):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock"}
left = int(sys.argv[2])

def count(event, _):
    global left
    if event in STEPS and not (left := left - 1):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
with folder_in_use(Path(sys.argv[1])) as folder:
    (folder / "footprints").mkdir()
    (folder / "footprints" / "a").touch()
"""


def test_nothing_stays_for_good_whenever_a_process_is_killed(tmp_path: Path) -> None:
    """Before each of its steps: as it sweeps up what another left, makes its folder, uses it, removes it."""

    def is_killed(root: Path, before: int) -> bool:
        child = subprocess.run([sys.executable, "-c", KILLED, str(root), str(before)], check=False)
        assert child.returncode in (0, -signal.SIGKILL)
        return child.returncode != 0

    dead = tmp_path / "dead"
    with folder_in_use(dead) as folder:
        (folder / "archive").touch()
        shutil.copytree(dead, tmp_path / "left")  # as if killed now
    step = 1
    while is_killed(root := Path(shutil.copytree(tmp_path / "left", tmp_path / f"{step}")), before=step):
        a_folder_in(root)
        assert not list(root.iterdir()), f"killed before step {step}"
        step += 1
    assert step > 10
    assert not list(root.iterdir())
