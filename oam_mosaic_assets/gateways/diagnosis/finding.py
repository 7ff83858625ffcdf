"""What an examination found out about one subject, for a person and for a program."""

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
    """A build would fail, or do half of what it should, until a person changes something."""
    UNREACHABLE = "unreachable"
    """A build would fail now; later it may not, with nothing changed."""
    UNTRIED = "untried"
    """Not looked at, for something else is in the way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report.

    Attributes:
        subject: what was looked at; a few words that stay the same.
        state: what it means.
        text: what was found. Never holds a secret.
        hint: what to do about it; empty where nothing needs to be done.
    """

    subject: str
    state: State
    text: str
    hint: str = ""

    @classmethod
    def of(cls, subject: str, error: MosaicError) -> Self:
        """What an error says of a subject."""
        is_away = isinstance(error, CatalogueUnavailable | StoreUnavailable)
        state = State.UNREACHABLE if is_away else State.WRONG
        return cls(subject, state, error.message.rstrip("."), error.hint)

    @property
    def is_in_the_way(self) -> bool:
        """Whether something must come first, before a build."""
        return self.state in {State.WRONG, State.UNREACHABLE}


def tried(subject: str, text: str, call: Callable[[], object]) -> Finding:
    """Do something, and find that it went well, or why it did not."""
    try:
        call()
    except MosaicError as error:
        return Finding.of(subject, error)
    except PreconditionFailed as error:
        return Finding(subject, State.WRONG, str(error), "See who else writes to this place, then try again.")
    return Finding(subject, State.OK, text)


def exit_code(findings: Iterable[Finding]) -> int:
    """2 where a person must change something, else 1 where something is unreachable, else 0."""
    states = {each.state for each in findings}
    if State.WRONG in states:
        return 2
    return 1 if State.UNREACHABLE in states else 0
