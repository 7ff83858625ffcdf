"""Calls that are started now and asked for their result later, so another process can make them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Result = Callable[[], T]
"""Waits for the call and returns its result; raises what the call raises."""


class Aside(Protocol):
    """Starts a call of a module-level function."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
        """Start the call; its result is asked for later."""
        ...


def here(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
    """Make the call in this process, once its result is asked for."""
    return partial(function, *args, **kwargs)
