"""Whether another process of this machine is still there, even if its number was given to a later one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_ENDED: Final = frozenset("ZX")
"""States of a process that has ended, but was not yet waited for; see proc_pid_stat(5)."""


def this_process() -> str:
    """What identifies this process among all that there ever were; empty where the kernel does not tell."""
    try:
        pid = (_PROCESSES / "self").readlink().name
        return " ".join([*_place(), pid, _state_and_start(pid)[1]])
    except OSError:
        return ""


def has_ended(stated: str) -> bool:
    """Whether the process that `this_process` identified so has ended.

    False also if that cannot be known from here, as of one in another container or on another machine.
    """
    try:
        *place, pid, start = stated.split()
        if not pid.isdecimal() or place != _place():
            return False
    except (ValueError, OSError):
        return False
    try:
        state, started = _state_and_start(pid)
    except OSError:  # where `hidepid` is set, other users' processes seem not to be there
        return _is_unknown(int(pid))
    return state in _ENDED or started != start


def _is_unknown(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _place() -> list[str]:
    """The boot of this machine, and the namespace in which process numbers count."""
    boot = (_PROCESSES / "sys/kernel/random/boot_id").read_text().strip()
    return [boot, str((_PROCESSES / "self/ns/pid").readlink())]


def _state_and_start(pid: str) -> tuple[str, str]:
    """The state of a process, and when it started, in clock ticks since the machine did."""
    # the name before them is in brackets, and may hold spaces and brackets
    state, *rest = (_PROCESSES / pid / "stat").read_text().rpartition(")")[2].split()
    return state, rest[18]
