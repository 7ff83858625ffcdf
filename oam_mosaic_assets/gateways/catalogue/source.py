"""The interface of every source of STAC items. The sources themselves live beside it, one module each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

BATCH: Final = 500
"""Items that are read together."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of the source that is no STAC item at all, such as a line that is no JSON.

    Attributes:
        row: where it stands in its source, counted from 1.
        text: the beginning of what stands there, for the list of those set aside.
    """

    row: int
    text: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a whole catalogue holds, of which one collection is read.

    Attributes:
        collections: how many.
        items: of all of them; None where the source does not say.
    """

    collections: int
    items: int | None


Item = Mapping[str, Any]
"""A whole STAC item (hydrated), as parsed from JSON. Anything may be wrong with what it holds."""


class Snapshot(Protocol):
    """The catalogue at one moment.

    Attributes:
        taken_at: the moment, UTC. Nothing committed to the source later is in it.
        expected: how many items the source says there are, or None where it does not say.
        is_exact: whether exactly so many belong to the snapshot. Where the source cannot be read at one
            moment, more may have come meanwhile; fewer are never the whole.
    """

    @property
    def taken_at(self) -> datetime: ...

    @property
    def expected(self) -> int | None: ...

    @property
    def is_exact(self) -> bool: ...

    def watermark(self) -> str | None:
        """Another text as soon as anything of any item is another; None where that is not cheap to say.

        Raises: as `items`.
        """
        ...

    def holdings(self) -> Holdings:
        """What there is, other collections included. Raises: as `items`."""
        ...

    def items(self) -> Iterator[Item | Unreadable]:
        """Stream every item once, in no particular order, never holding all of them.

        Raises:
            CatalogueUnavailable: the source stopped answering half-way; what was read is not the whole.
            CatalogueRefused: the source answers with something that is not a catalogue.
        """
        ...


class Batch(Protocol):
    """Some items as their source has them.

    Attributes:
        first: where the first of them stands among all, counted from 1.
    """

    @property
    def first(self) -> int: ...

    def items(self) -> Iterator[Item | Unreadable]:
        """What they are."""
        ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """Some items of a source that gives them ready; see `Batch`."""

    first: int
    parsed: Sequence[Item | Unreadable]

    def items(self) -> Iterator[Item | Unreadable]:
        return iter(self.parsed)


def in_batches(items: Iterator[Item | Unreadable]) -> Iterator[Parsed]:
    """All items, some at a time."""
    return (Parsed(first, some) for first, some in numbered(items))


def numbered(values: Iterator[_Value]) -> Iterator[tuple[int, list[_Value]]]:
    """All values, some at a time, and where the first of them stands, counted from 1."""
    first = 1
    while some := list(islice(values, BATCH)):
        yield first, some
        first += len(some)


@runtime_checkable
class HashedSnapshot(Snapshot, Protocol):
    """A catalogue that tells cheaply which of its items are as they were, and gives them as it has them."""

    def hashes(self) -> Iterator[tuple[str, int]]:
        """Stream id and hash of every item: 64 bits, signed, others as soon as anything of the item is.

        Raises: as `items`.
        """
        ...

    def batches(self, ids: Collection[str] | None = None) -> Iterator[Batch]:
        """Stream every item, or those of these ids, as `items` does, some at a time.

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
        """Stream what stands as the id of every item there is now; None where that is not cheap.

        Raises: as `snapshot` and its `items`, once it is read.
        """
        ...


def ids_in(snapshot: Snapshot) -> Iterator[object]:
    """What stands as the id of every item; None for what is no item."""
    for item in snapshot.items():
        yield None if isinstance(item, Unreadable) else item.get("id")
