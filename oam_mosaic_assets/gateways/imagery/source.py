"""An image's bytes, wherever it is hosted: requested in ranges, retried after a wait, limited, and counted.

GDAL reads through this as through a file. Nothing is raised into GDAL, as it could not pass exceptions on:
a failure is kept, and the caller of GDAL checks for it afterwards.
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar, TypeVarTuple

from rasterio.abc import MultiByteRangeResourceContainer

from oam_mosaic_assets.core.imagery.outcome import BEYOND_ITS_END, NO_MEMORY, PASSING, Reason, Unreadable
from oam_mosaic_assets.gateways.imagery.addresses import target_of
from oam_mosaic_assets.gateways.imagery.hosts import Answer, Hosts

PAGE: Final = 32 * 1024
"""Bytes of a page; small reads are rounded to whole pages."""

FIRST: Final = 3 * PAGE
"""Bytes of the first request: the headers of most COGs and, behind them, the smallest overview."""

LONGEST_FIRST: Final = 32 * PAGE
"""The most bytes of the first request, if larger overviews behind the smallest are expected to be read."""

PAGES: Final = 128
"""How many are cached, besides those that are pinned. As many may be pinned."""

FURTHEST_AHEAD: Final = 32
"""The most pages of one request where they are read one after the other, as GDAL reads wide strips."""

GAP: Final = 2 * PAGE
"""Ranges that are at most this many bytes apart are requested as one."""

LONGEST: Final = 8 * 2**20
"""Bytes up to which ranges are merged into one request."""

TRAILER: Final = 4
"""Bytes that follow each tile in the layout of a COG. GDAL also reads them after tiles that were added later
and lack them; after the last one of all, they are beyond the end."""

_Read = TypeVar("_Read")
_Asked = TypeVarTuple("_Asked")

_SIGNATURE: Final = 4

TIFF: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""The first bytes of a TIFF or a BigTIFF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one image may take.

    Attributes:
        bytes: to be received in each use of it; see `Source.allow`.
        whole: bytes of an image whose host does not support ranges.
        seconds: for each use of it.
        attempts: per request, including the first.
        wait: seconds before the second attempt, doubled before each further one.
    """

    bytes: int = 256 * 2**20
    whole: int = 32 * 2**20
    seconds: float = 90.0
    attempts: int = 3
    wait: float = 0.5


class Source:
    """The bytes at one address.

    Attributes:
        failure: what went wrong while GDAL read; None where nothing did.
        requests: sent so far, including those that failed.
        bytes: received so far, including those of requests that failed.
    """

    def __init__(
        self,
        address: str,
        hosts: Hosts,
        limits: Limits = Limits(),
        *,
        expected: int = 0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """No request is made yet. Raises `Unreadable` if the address is not allowed.

        Args:
            expected: a guess at how many bytes beyond `FIRST` will be read from its beginning.
        """
        self.failure: Unreadable | None = None
        self.requests = 0
        self.bytes = 0
        self._first = self._target = target_of(address, hosts.rules)
        self._hosts = hosts
        self._limits = limits
        self._first_pages = min(FIRST + expected, LONGEST_FIRST) // PAGE
        self._wait = wait
        self._deadline = time.monotonic() + limits.seconds
        self._bytes_before = 0
        self._known: Answer | None = None
        self._pages: dict[int, bytes] = {}
        self._passing = deque[int]()  # those that make room for others, the oldest first
        self._is_pinning = False
        self._ahead = 1

    def opened(self) -> None:
        """Request the first bytes, and check that they are a TIFF's.

        Raises:
            Unreadable: for any reason.
        """
        head = self.read(0, _SIGNATURE)
        if not head.startswith(TIFF):
            raise Unreadable(Reason.NOT_TIFF, f"{self._answer.content_type or 'no type'}, starts {head!r}")

    def version(self) -> str:
        """Its `etag`, for a few bytes where nothing is known yet.

        Raises:
            Unreadable: for any reason.
        """
        if self._known is None:
            self._asked(0, _SIGNATURE)
        return self.etag

    def allow(self) -> None:
        """Start another use: its time and its bytes count from now on."""
        self._deadline = time.monotonic() + self._limits.seconds
        self._bytes_before = self.bytes

    @contextmanager
    def pinning(self) -> Iterator[None]:
        """Keep what is read meanwhile for good, so that it stays as it was checked.

        A host may answer a second request for the same bytes differently, whatever its ETag says.
        """
        self._is_pinning = True
        yield
        self._is_pinning = False
        self._passing.clear()

    @property
    def is_known(self) -> bool:
        """Whether a host has answered, so that its `etag` costs no request."""
        return self._known is not None

    @property
    def etag(self) -> str:
        """What distinguishes this version of it from others: its size if its host states nothing better."""
        answer = self._answer
        return answer.etag or (f"{answer.size} bytes" if answer.size is not None else "")

    @property
    def size(self) -> int:
        """Bytes in all."""
        size = self._answer.size
        if size is None:
            raise Unreadable(Reason.SERVER_FAULT, "its host does not say how large it is")
        return size

    @property
    def _answer(self) -> Answer:
        if self._known is None:
            self._page(0)
        assert self._known is not None  # noqa: S101  # `_page` has set it
        return self._known

    def read(self, start: int, length: int) -> bytes:
        """Bytes from `start` on; fewer at the end of the image.

        Raises:
            Unreadable: for any reason.
        """
        number, at = divmod(start, PAGE)
        page = self._pages.get(number, b"")
        if at + length <= len(page):  # as GDAL reads headers: a few bytes, a hundred times per image
            return page[at : at + length]
        end = min(start + length, self.size)
        if end <= start:
            return b""
        first, last = start // PAGE, (end - 1) // PAGE
        if last - first > 1 and not self._is_pinning:  # a tile: it is read only once, so it is not cached
            return self._unkept(start, end)
        content = b"".join(self._page(each) for each in range(first, last + 1))
        return content[start - first * PAGE : end - first * PAGE]

    def read_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several ranges in few requests, each of its full length; `TRAILER` bytes after the end are zeros.

        Raises:
            Unreadable: for any reason; `TRUNCATED` if one extends further beyond the end.
        """
        ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
        if max(ends, default=0) > self.size + TRAILER:
            raise Unreadable(Reason.TRUNCATED, BEYOND_ITS_END)
        if sum(sizes) > self._limits.bytes:
            raise Unreadable(Reason.TOO_LARGE, f"{sum(sizes)} bytes at once")
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        found: list[bytes] = [b""] * len(offsets)
        while order:
            start, end = offsets[order[0]], ends[order[0]]
            together = []
            for each in order:
                if offsets[each] - end > GAP or max(end, ends[each]) - start > max(LONGEST, end - start):
                    break
                together.append(each)
                end = max(end, ends[each])
            content = self._unkept(start, min(end, self.size))
            for each in together:
                found[each] = content[offsets[each] - start : ends[each] - start].ljust(sizes[each], b"\0")
            del order[: len(together)]
        return found

    def _unkept(self, start: int, end: int) -> bytes:
        """A range, without caching it; its first bytes, or for a small image all, may be cached already."""
        content = b""
        while (at := start + len(content)) < end:
            page = self._pages.get(at // PAGE, b"")
            piece = page[at % PAGE :][: end - at]
            if not piece:
                return content + self._asked(at, end)
            content += piece
        return content

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            self._ahead = min(2 * self._ahead, FURTHEST_AHEAD) if number - 1 in self._pages else 1
            pages = self._ahead if self._pages else self._first_pages
            content = self._asked(number * PAGE, (number + pages) * PAGE)
            for start in range(0, max(len(content), 1), PAGE):
                each = number + start // PAGE
                if each not in self._pages:  # it may be pinned
                    self._pages[each] = content[start : start + PAGE]
                    self._passing.append(each)
            while len(self._passing) > PAGES:
                if self._is_pinning:
                    raise Unreadable(Reason.TOO_LARGE, f"a header of more than {PAGES * PAGE} bytes")
                del self._pages[self._passing.popleft()]
        return self._pages[number]

    def _asked(self, start: int, end: int) -> bytes:
        """One range, retried within the limits."""
        if self._known is not None and self._known.size is not None:
            end = min(end, self._known.size)
            if self._known.start == 0 and len(self._known.content) == self._known.size:
                return self._known.content[start:end]  # all of it came with the first answer
        attempt = 0
        while True:
            if self.bytes - self._bytes_before + end - start > self._limits.bytes:
                raise Unreadable(Reason.TOO_LARGE, f"more than {self._limits.bytes} bytes")
            try:
                return self._once(start, end)
            except Unreadable as failure:
                attempt += 1
                wait = self._limits.wait * 2.0 ** (attempt - 1) * random.uniform(1.0, 1.5)  # noqa: S311
                late = time.monotonic() + wait > self._deadline
                if failure.reason not in PASSING or attempt == self._limits.attempts or late:
                    raise
                self._wait(wait)

    def _once(self, start: int, end: int) -> bytes:
        self.requests += 1
        before = self._hosts.received
        answer: Answer | None = None
        try:
            answer = self._hosts.ask(
                self._target, start, end, deadline=self._deadline, whole_most=self._limits.whole
            )
        except Unreadable as failure:
            if self._target == self._first or failure.reason not in {Reason.FORBIDDEN, Reason.MISSING}:
                raise
        finally:
            self.bytes += self._hosts.received - before
        if answer is None:  # the redirect was valid only for a while
            self._target = self._first
            return self._once(start, end)
        known = self._known
        if known is None:
            self._known = answer
        elif (answer.etag, answer.size) != (known.etag, known.size):
            raise Unreadable(Reason.CHANGED)
        self._target = answer.target
        return answer.content[start - answer.start : end - answer.start]


class AsFile(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """A source as GDAL opens it: a file that is alone in its folder."""

    NAME: Final = "image.tif"

    def __init__(self, source: Source) -> None:
        self.source = source

    def open(self, path: str, mode: str = "r", **_: object) -> _Opened:
        if not self.isfile(path) or mode not in {"r", "rb"}:
            raise FileNotFoundError(path)
        return _Opened(self.source)

    def isfile(self, path: str) -> bool:
        return path.rpartition("/")[2] == self.NAME

    def isdir(self, path: str) -> bool:  # noqa: ARG002
        return False

    def ls(self, path: str) -> list[str]:  # noqa: ARG002
        return [self.NAME]

    def mtime(self, path: str) -> int:  # noqa: ARG002
        return 0

    def size(self, path: str) -> int:
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return self.source.size

    def rm(self, path: str) -> None:
        raise PermissionError(path)


class _Opened(io.RawIOBase):
    """A source while GDAL has it open. GDAL calls this from C, so nothing may be raised."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        content = self._guarded(self._source.read, self._at, size if size >= 0 else sys.maxsize, nothing=b"")
        self._at += len(content)
        return content

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        return self._guarded(self._source.read_ranges, offsets, sizes, nothing=[b""] * len(offsets))

    def _guarded(self, read: Callable[[*_Asked], _Read], *asked: *_Asked, nothing: _Read) -> _Read:
        if self._source.failure is not None:  # after a failure nothing more is requested
            return nothing
        try:
            return read(*asked)
        except Unreadable as failure:
            self._source.failure = failure
        except MemoryError:
            self._source.failure = Unreadable(Reason.TOO_LARGE, NO_MEMORY)
        except Exception as error:  # noqa: BLE001  # C cannot pass it on; `failure` does
            self._source.failure = Unreadable(Reason.DAMAGED, repr(error))
        return nothing
