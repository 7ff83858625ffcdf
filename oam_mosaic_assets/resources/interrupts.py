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
"""Wait before a lost interrupt is sent again; the code that lost it has finished by then."""


@contextmanager
def interrupts_arrive() -> Iterator[None]:
    """For the duration of the block, send interrupts that were lost again.

    A signal raises wherever the main thread is. A finalizer or a garbage collection callback cannot raise:
    Python prints the error and carries on, and a run that was told to stop would publish.
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
