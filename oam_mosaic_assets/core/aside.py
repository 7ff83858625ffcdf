"""Calls that are begun and asked for their result later: somebody else may make them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Result = Callable[[], T]
"""Waits for what comes of a call; raises what it raises."""


class Aside(Protocol):
    """Begins a call of a function that is a module's."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
        """What will come of it."""
        ...


def here(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
    """Make the call in this process, when its result is asked for."""
    return partial(function, *args, **kwargs)
