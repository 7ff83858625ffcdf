"""How a command is stopped: SIGINT, SIGTERM and SIGHUP all end it the same way; the exit code says which."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stoppable() -> Iterator[Callable[[], signal.Signals | None]]:
    """Make each of the signals raise `KeyboardInterrupt`; yields a function that says once which came first.

    Dagster replaces our handlers with its own during a run. So each signal's number is also written to a
    pipe, which Python does whoever handles it. Dagster does not handle SIGHUP, which a terminal sends when it
    is closed: that one is passed on as SIGTERM, unless `nohup` had it ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in no other
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
