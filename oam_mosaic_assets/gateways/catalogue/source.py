"""The interface of every source of STAC items. The sources themselves live beside it, one module each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

BATCH: Final = 500
"""Items read per batch."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of the source that is not a STAC item at all, such as a line that is not JSON.

    Attributes:
        row: its position in the source, counted from 1.
        text: the beginning of its content, for the list of rows set aside.
        id: the image's, if the source has it beside the content; None if not.
    """

    row: int
    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a whole catalogue holds, only one collection of which is read.

    Attributes:
        collections: how many there are.
        items: how many in all of them; None if the source does not say.
    """

    collections: int
    items: int | None


Item = Mapping[str, Any]
"""A whole STAC item (hydrated), as parsed from JSON. Anything may be wrong with its content."""


class Snapshot(Protocol):
    """The catalogue at one moment.

    Attributes:
        taken_at: the moment, UTC. Nothing committed to the source later is in it.
        expected: how many items the source says there are; None if it does not say.
        is_exact: whether the snapshot holds exactly that many. If the source cannot be read at a single
            moment, more may have arrived meanwhile; with fewer, some are missing.
    """

    @property
    def taken_at(self) -> datetime: ...

    @property
    def expected(self) -> int | None: ...

    @property
    def is_exact(self) -> bool: ...

    def watermark(self) -> str | None:
        """A text that changes as soon as anything in any item does; None if that is not cheap to tell.

        Raises: as `items`.
        """
        ...

    def holdings(self) -> Holdings:
        """What there is, other collections included. Raises: as `items`."""
        ...

    def items(self) -> Iterator[Item | Unreadable]:
        """Stream every item once, in no particular order, never holding all of them.

        Raises:
            CatalogueUnavailable: the source stopped answering half-way; what was read is incomplete.
            CatalogueRefused: the source answers with something that is not a catalogue.
        """
        ...


class Batch(Protocol):
    """Some items, in the form in which their source stores them.

    Attributes:
        first: position of the first one among all items, counted from 1.
    """

    @property
    def first(self) -> int: ...

    def items(self) -> Iterator[Item | Unreadable]:
        """The items themselves."""
        ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """Some items of a source that gives them already parsed; see `Batch`."""

    first: int
    parsed: Sequence[Item | Unreadable]

    def items(self) -> Iterator[Item | Unreadable]:
        return iter(self.parsed)


def in_batches(items: Iterator[Item | Unreadable]) -> Iterator[Parsed]:
    """All items, in batches."""
    return (Parsed(first, some) for first, some in numbered(items))


def numbered(values: Iterator[_Value]) -> Iterator[tuple[int, list[_Value]]]:
    """All values in batches, each with the position of its first value, counted from 1."""
    first = 1
    while some := list(islice(values, BATCH)):
        yield first, some
        first += len(some)


@runtime_checkable
class HashedSnapshot(Snapshot, Protocol):
    """A snapshot that can tell cheaply which items are unchanged, and gives them as they are stored."""

    def hashes(self) -> Iterator[tuple[str, int]]:
        """Stream id and hash of every item: 64 bits, signed, and different as soon as anything in it changes.

        Raises: as `items`.
        """
        ...

    def batches(self, ids: Collection[str] | None = None) -> Iterator[Batch]:
        """Stream every item, or those with these ids, as `items` does, but in batches.

        Raises: as `items`.
        """
        ...


class Catalogue(Protocol):
    """A source of STAC items.

    Attributes:
        origin: what to call it in logs and manifests, such as `pgSTAC db.example.org:5432/eoapi,
            collection openaerialmap`. Never holds a password.
        kind: `pgstac`, `stac_api`, `items_file` or `sample`.
    """

    @property
    def origin(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open the catalogue for one consistent read.

        Raises:
            CatalogueUnavailable: it cannot be reached.
            CatalogueRefused: wrong password, no such collection, a version of pgSTAC not known here.
        """
        ...

    def count(self) -> int | None:
        """How many items there are now; cheap, for freshness checks and `status`. None is unknown.

        Raises: as `snapshot`.
        """
        ...

    def ids(self) -> Iterator[object] | None:
        """Stream the id of every item there is now, valid or not; None if that is not cheap.

        Raises: as `snapshot` and its `items`, once it is read.
        """
        ...


def ids_in(snapshot: Snapshot) -> Iterator[object]:
    """The id of every item, valid or not; None for rows that are not items."""
    for item in snapshot.items():
        yield None if isinstance(item, Unreadable) else item.get("id")
