"""A request to stop, by a signal or from the UI, that arrives even where Python would lose it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

INTERRUPTS: Final = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError)

AGAIN_SECONDS: Final = 0.1
"""After which a lost interrupt is sent again; what it was lost in has ended then."""


@contextmanager
def interrupts_arrive() -> Iterator[None]:
    """Send an interrupt again that was lost, for the block.

    A signal raises wherever the main thread is. In a finalizer or a callback of the garbage collection nobody
    can raise: Python prints the error and goes on, and a run would publish that was told to stop.
    """
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, INTERRUPTS):
            before(lost)
            return
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
