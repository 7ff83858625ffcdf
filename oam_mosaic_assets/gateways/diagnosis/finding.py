"""What an examination found out about one subject, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from oam_mosaic_assets.errors import CatalogueUnavailable, MosaicError, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import PreconditionFailed


class State(StrEnum):
    """What a finding means for a build."""

    OK = "ok"
    WARNING = "warning"
    """A build would publish, but somebody should look at this."""
    WRONG = "wrong"
    """A build would fail, or do only half its job, until somebody changes something."""
    UNREACHABLE = "unreachable"
    """A build would fail now; later it may succeed without any change."""
    UNTRIED = "untried"
    """Not checked, because something else is in the way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report.

    Attributes:
        subject: what was checked, in a few words that never change.
        state: what it means for a build.
        text: what was found. Never holds a secret.
        hint: what to do about it; empty where nothing needs to be done.
    """

    subject: str
    state: State
    text: str
    hint: str = ""

    @classmethod
    def of(cls, subject: str, error: MosaicError) -> Self:
        """The finding that an error about a subject leads to."""
        is_away = isinstance(error, CatalogueUnavailable | StoreUnavailable)
        state = State.UNREACHABLE if is_away else State.WRONG
        return cls(subject, state, error.message.rstrip("."), error.hint)

    @property
    def is_in_the_way(self) -> bool:
        """Whether a build would fail, or do only half its job."""
        return self.state in {State.WRONG, State.UNREACHABLE}


def tried(subject: str, text: str, call: Callable[[], object]) -> Finding:
    """Make a call; the finding says that it succeeded, or why it failed."""
    try:
        call()
    except MosaicError as error:
        return Finding.of(subject, error)
    except PreconditionFailed as error:
        return Finding(subject, State.WRONG, str(error), "Check who else writes to this place; try again.")
    return Finding(subject, State.OK, text)


def exit_code(findings: Iterable[Finding]) -> int:
    """2 if somebody must change something, else 1 if something is unreachable, else 0."""
    states = {each.state for each in findings}
    if State.WRONG in states:
        return 2
    return 1 if State.UNREACHABLE in states else 0
