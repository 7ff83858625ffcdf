"""A run that is told to stop does stop, even where Python loses the interrupt."""

from __future__ import annotations

import os
import signal
import time
import weakref
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets.resources.scratch import Scratch


class Collected:
    """An object whose collection triggers a weakref callback."""


def test_an_interrupt_that_is_lost_in_a_callback_of_the_garbage_collection_comes_again(
    tmp_path: Path,
) -> None:
    reached = []

    def interrupted(_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # the interrupt is raised here, where nothing can catch it
        raise AssertionError("it was not interrupted")

    @dg.op(required_resource_keys={"scratch"})
    def collects() -> None:
        held = Collected()
        told = weakref.ref(held, interrupted)
        del held
        reached.append(told() is None)
        time.sleep(5)
        reached.append(False)

    @dg.job(resource_defs={"scratch": Scratch(root=str(tmp_path))})
    def collecting() -> None:
        collects()

    with pytest.raises(dg.DagsterExecutionInterruptedError):
        collecting.execute_in_process()

    assert reached == [True]
