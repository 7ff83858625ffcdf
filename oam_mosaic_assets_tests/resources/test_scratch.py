"""Scratch space: each process has its own folder, and what a dead one left is swept up."""

from __future__ import annotations

import fcntl
from pathlib import Path

import dagster as dg
import pytest

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
    (left / "in-use.lock").touch()
    a_folder_in(tmp_path)
    assert not left.exists()


def test_a_folder_that_is_being_made_is_not_swept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may look at any moment, even just before the folder is locked."""
    lock, being_made = fcntl.flock, set[Path]()

    def lock_after_another_process(descriptor: int, operation: int) -> None:
        if not being_made:
            being_made.update(tmp_path.iterdir())
            a_folder_in(tmp_path)
            assert being_made == {*tmp_path.iterdir()}
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_another_process)
    a_folder_in(tmp_path)
    assert being_made
