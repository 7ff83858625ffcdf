"""How a command is stopped: SIGINT, SIGTERM and SIGHUP end it alike, and its exit code says which it was."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stoppable() -> Iterator[Callable[[], signal.Signals | None]]:
    """Let each of the signals raise `KeyboardInterrupt`; yields what tells, once, which one came first.

    Dagster puts handlers of its own in place of ours while a run is at work. So the number of each signal is
    also written into a pipe, which Python does whoever handles it. It knows no SIGHUP, which a terminal sends
    that is closed: that one is handed on as SIGTERM, unless `nohup` has it ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # Python hears signals in no other
        yield lambda: None
        return
    ours, pythons = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    told_before = signal.set_wakeup_fd(pythons, warn_on_full_buffer=False)
    handlers = dict.fromkeys(STOPPING, signal.default_int_handler) | {signal.SIGHUP: _hand_on}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    handled_before = {each: signal.signal(each, handler) for each, handler in handlers.items()}

    def first() -> signal.Signals | None:
        try:
            numbers = os.read(ours, 64)
        except BlockingIOError:
            numbers = b""
        return next((sign for sign in map(signal.Signals, numbers) if sign in STOPPING), None)

    try:
        yield first
    finally:
        for each, handler in handled_before.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(told_before)
        os.close(ours)
        os.close(pythons)


def _hand_on(*_: object) -> None:
    signal.raise_signal(signal.SIGTERM)
