"""What can go wrong, sorted by what helps: another run, other settings, or a person's decision.

    MosaicError
    ├── Passing             a rerun may help (exit code 1)
    │   ├── CatalogueUnavailable    the source cannot be reached, or stopped answering half-way
    │   ├── StoreUnavailable        the object store cannot be reached, or stopped answering half-way
    │   ├── TilingFailed            tippecanoe, or another process of a build, failed or was killed
    │   ├── DiskFull                no room for scratch files or for the store
    │   ├── PublicationLost         another publisher is at work, or was faster
    │   ├── NotAsPublished          the public address does not return what was written
    │   ├── AlertNotSent            an alert channel did not take a message
    │   └── ServerFailed            Martin or nginx does not serve a release
    ├── Standing            a person must change something first (exit code 2)
    │   ├── SettingsError           the environment is wrong; names every problem at once
    │   ├── CatalogueRefused        wrong password, unknown collection, unknown pgSTAC, unreadable file
    │   ├── StoreRefused            no such bucket, or no permission
    │   ├── RollbackRefused         the build to roll back to is not there, is public, or is not whole
    │   ├── TippecanoeMissing       the program is missing, or is not tippecanoe
    │   ├── ServerMissing           Martin or nginx is missing, or cannot listen
    │   └── ArchiveUnreadable       a file that cannot be read, or is not a PMTiles archive
    └── Refused             the audit or a guard said no; a person must decide (exit code 3)
        ├── EmptyCatalogue          an empty catalogue never replaces a mosaic
        ├── AuditFailed             the archive does not show what the catalogue holds
        ├── PublicationHeld         a person has put publication on hold
        └── HeldBack                whole and audited, but a guard wants a person to confirm it

Each error's message says what happened, its hint what to do. Neither ever contains a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class MosaicError(Exception):
    """What happened (the message) and what to do about it (the hint).

    Attributes:
        message: what happened, naming the things concerned.
        hint: what to do about it; one sentence.
        exit_code: what the command line exits with.
        rerun_may_help: whether the same call may succeed later, with nothing changed by a person.
    """

    exit_code: ClassVar[int] = 1
    rerun_may_help: ClassVar[bool] = True

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # unpickled from another process: the arguments that it was created with are no longer known
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[MosaicError], args: tuple[Any, ...], state: dict[str, Any]) -> MosaicError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class Passing(MosaicError):
    """A rerun may help."""


class CatalogueUnavailable(Passing):
    """The catalogue cannot be reached, or stopped answering half-way.

    Attributes:
        is_out_of_time: whether it is there, but did not answer in the time that it was given.
    """

    is_out_of_time: bool = False


class StoreUnavailable(Passing):
    """The object store cannot be reached, or stopped answering half-way."""


class TilingFailed(Passing):
    """Tippecanoe, or another process of a build, failed or was killed; the message quotes its last output."""


class DiskFull(Passing):
    """No room is left for scratch files, or in a local store."""


class PublicationLost(Passing):
    """Another publisher holds the lock or was faster, or an image of the build was taken down meanwhile."""


class NotAsPublished(Passing):
    """The public address does not return what was just written there."""


class AlertNotSent(Passing):
    """A webhook or a mail server did not take an alert; it is retried a minute later."""


class ServerFailed(Passing):
    """Martin or nginx does not serve a release; the last good one stays in service while it is retried."""


class Standing(MosaicError):
    """A person must change something before a rerun can help."""

    exit_code = 2
    rerun_may_help = False


class SettingsError(Standing):
    """The environment is wrong; the message names every problem at once.

    Attributes:
        problems: the ones that the message lists; empty if it has no list.
    """

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *(f"  - {each}" for each in problems)]), hint=hint)
        self.problems = problems


class CatalogueRefused(Standing):
    """The catalogue answers, but cannot be used: wrong password, collection, version or format."""


class StoreRefused(Standing):
    """The object store answers, but refuses: no such bucket, or no permission."""


class RollbackRefused(Standing):
    """The build to roll back to is not there, is public and intact already, or is not whole."""


class TippecanoeMissing(Standing):
    """The program tippecanoe is missing, cannot be started, or is not tippecanoe."""


class ServerMissing(Standing):
    """Martin or nginx is missing, cannot be started, or cannot listen where it should."""


class ArchiveUnreadable(Standing):
    """A file that cannot be read, or is not a PMTiles archive."""


class Refused(MosaicError):
    """The audit or a guard said no; a person must decide."""

    exit_code = 3
    rerun_may_help = False


class EmptyCatalogue(Refused):
    """There is nothing to draw; the public mosaic stays."""


class AuditFailed(Refused):
    """The staged archive does not show what the catalogue holds; it is not published."""


class PublicationHeld(Refused):
    """A person has put a hold on publication; it lasts until somebody ends it."""


class HeldBack(Refused):
    """The build is whole, but a person must confirm it.

    It set aside or lost more images than a guard allows, or would replace a foreign object under a fixed key.
    """
