"""Reading STAC items from a file: one JSON object per line, plain or gzipped, or stac-geoparquet."""

from __future__ import annotations

import gzip
import io
import re
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from oam_mosaic_assets.core.shortened import shortened
from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue.geoparquet import StacGeoparquet
from oam_mosaic_assets.gateways.catalogue.json_rows import SHOWN_CHARACTERS, object_in
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Item, Unreadable, ids_in

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes. A line is held in memory as a whole; no item is this long, but a catalogue on one line is."""

NAMED: Final = 10
"""How many collections a message names."""

_GZIP: Final = b"\x1f\x8b"
_PARQUET: Final = b"PAR1"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ALL_IN_ONE: Final = re.compile(rb'\s*(\[|\{\s*$|\{\s*"features"|\{.{,500}"FeatureCollection")')
"""How a document that holds all items at once may begin, on one line or on several."""

_ANEW: Final = "Fetch or write it again."

_ONE_A_LINE: Final = 'if type == "array" then .[] elif .features then .features[] else . end'


class ItemsFile:
    """A file of STAC items. Its first bytes tell the format, whatever its name.

    Args:
        path: path of the file.
        collection: if named, items that say they belong to another one are left out.
    """

    kind = "items_file"

    def __init__(self, path: Path | str, collection: str | None = None) -> None:
        self._path = Path(path)
        self._collection = collection

    @property
    def origin(self) -> str:
        return f"file {self._path}" + (f", collection {self._collection}" if self._collection else "")

    @contextmanager
    def snapshot(self) -> Iterator[ItemsFileSnapshot]:
        # The file's own timestamp says when somebody wrote or copied it. Freshness is about when the source
        # was last read: a file that has not changed for a month is what the catalogue holds today.
        taken_at = datetime.now(UTC)
        with self._opened() as file:
            before = self._state()
            expected: int | None = None
            items: Callable[[], Iterator[Item | Unreadable]] = partial(self._items, file)
            if self._begins_with(file, _PARQUET):
                table = StacGeoparquet(self._path)
                expected, items = table.count(self._collection), table.items
            yield ItemsFileSnapshot(taken_at, expected, lambda: self._ours(items(), before))

    def count(self) -> int:
        """How many rows there are, unreadable ones included. Lines have to be read to be counted."""
        with self.snapshot() as snapshot:
            return sum(1 for _ in snapshot.items()) if snapshot.expected is None else snapshot.expected

    def ids(self) -> Iterator[object]:
        with self.snapshot() as snapshot:
            yield from ids_in(snapshot)

    def _opened(self) -> io.BufferedReader:
        hint = "Check the path of the file and the permission to read it."
        try:
            if self._path.is_file() or not self._path.exists():
                return self._path.open("rb")
        except OSError as error:
            raise CatalogueRefused(f"{self._path} cannot be opened: {error.strerror}", hint=hint) from error
        raise CatalogueRefused(f"{self._path} is not a file", hint=hint)

    def _items(self, file: io.BufferedReader) -> Iterator[Item | Unreadable]:
        first = True
        for row, line, has_end in self._lines(file):
            try:
                item = object_in(row, line.decode())
            except UnicodeDecodeError:
                item = Unreadable(row, line.decode(errors="replace")[:SHOWN_CHARACTERS])
            # a whole item may match as well, as its texts may say anything
            if first and _ALL_IN_ONE.match(line) and (isinstance(item, Unreadable) or "features" in item):
                raise self._all_in_one()
            first = False
            if isinstance(item, Unreadable) and not has_end and line.startswith(b"{"):
                raise CatalogueRefused(
                    f"{self._path} is incomplete: it ends in the middle of line {row}", hint=_ANEW
                )
            yield item

    def _lines(self, file: io.BufferedReader) -> Iterator[tuple[int, bytes, bool]]:
        """Number the lines from 1, skip blank ones, strip the rest, and say which end with a newline."""
        file.seek(0)
        packed = self._begins_with(file, _GZIP)
        row = 0
        try:
            lines = gzip.GzipFile(fileobj=file) if packed else file
            while line := lines.readline(LONGEST_LINE):
                row += 1
                if len(line) == LONGEST_LINE:
                    raise self._all_in_one()
                if text := (line.removeprefix(_BYTE_ORDER_MARK) if row == 1 else line).strip():
                    yield row, text, line.endswith(b"\n")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CatalogueRefused(
                f"{self._path} is incomplete: its compressed data ends, or is damaged, after line {row}",
                hint=_ANEW,
            ) from error
        except OSError as error:
            raise self._failing(error, row) from error

    def _begins_with(self, file: io.BufferedReader, mark: bytes) -> bool:
        try:
            return file.peek(len(mark)).startswith(mark)
        except OSError as error:
            raise self._failing(error, 0) from error

    def _failing(self, error: OSError, row: int) -> CatalogueUnavailable:
        return CatalogueUnavailable(
            f"{self._path} cannot be read{f' beyond line {row}' if row else ''}: {error.strerror}",
            hint="Check the disk or network share, then run again.",
        )

    def _all_in_one(self) -> CatalogueRefused:
        source = shlex.quote(str(self._path))
        # not the source itself, as a shell empties the target first
        target = shlex.quote(f"{self._path.stem}-lines.ndjson")
        return CatalogueRefused(
            f"{self._path} does not hold one item per line, but all in one document",
            hint="Convert it, and set STAC_ITEMS to the new file: "
            f"gzip -cdf < {source} | jq -c '{_ONE_A_LINE}' > {target}",
        )

    def _ours(
        self, items: Iterator[Item | Unreadable], before: tuple[int, ...]
    ) -> Iterator[Item | Unreadable]:
        """Leave out other collections' items, and check at the end that the file is still the same.

        Raises:
            CatalogueRefused: all items belong to other collections.
            CatalogueUnavailable: the file was changed meanwhile.
        """
        ours, any_is_ours = (None, self._collection), False
        others: dict[str, None] = {}
        for item in items:
            if isinstance(item, Unreadable):
                yield item
            elif self._collection is None or item.get("collection") in ours:
                any_is_ours = True
                yield item
            elif len(others) <= NAMED:
                others[shortened(item["collection"])] = None
        if others and not any_is_ours:
            named = ", ".join(list(others)[:NAMED]) + (", …" if len(others) > NAMED else "")
            raise CatalogueRefused(
                f"{self._path} holds no items of the collection {self._collection}, only of: {named}",
                hint="Set COLLECTION to the one you want.",
            )
        if self._state() != before:
            raise CatalogueUnavailable(
                f"{self._path} changed while it was being read",
                hint="Write it under another name and rename it once it is complete, then run again.",
            )

    def _state(self) -> tuple[int, ...]:
        """What changes when the file is written or replaced; empty if it is gone."""
        try:
            state = self._path.stat()
        except OSError:
            return ()
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


@dataclass(frozen=True, slots=True)
class ItemsFileSnapshot:
    """The file as it was opened; see `source.Snapshot`."""

    is_exact: ClassVar[bool] = True

    taken_at: datetime
    expected: int | None
    _items: Callable[[], Iterator[Item | Unreadable]]

    def watermark(self) -> None:
        return None

    def holdings(self) -> Holdings:
        return Holdings(collections=1, items=None)

    def items(self) -> Iterator[Item | Unreadable]:
        return self._items()
