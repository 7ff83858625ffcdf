"""What is known about a partition between runs: which blocks it has, and the state of each COG."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from oam_mosaic_assets.core.imagery.outcome import BEYOND_ITS_END, NO_MEMORY, OF_FILES, Reason
from oam_mosaic_assets.core.imagery.recipe import Image

FORMAT: Final = 1

CHECKED_AGAIN: Final = timedelta(days=7)
"""How long until a COG that was read is checked for changes."""

TRIED_AGAIN: Final = timedelta(hours=20)
"""How long until one that could not be read may be tried again: the next day."""

FORGIVEN: Final = timedelta(days=30)
"""How long an image that was read counts as readable though it fails for reasons that may pass."""

_FORMERLY: Final = {"crashed": "failing"}
"""Fields of `Looked` that had another name in earlier versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found at an address.

    Attributes:
        etag: of the version that was read or could not be read; empty if unknown.
        reason: why it could not be read; empty where it was.
        detail: more about the reason.
        host: the host that was asked.
        at: when it was asked, UTC, ISO 8601.
        tried: when it was last asked since, in vain for a reason that may pass; empty if it was not.
        since: since when its state has been the same, UTC, ISO 8601.
        is_seen: whether a chip of this version showed something; None if none was cut yet.
        failing: when cutting it first failed for a reason that may pass, though all was well before; empty
            if it has not since the last chip.
    """

    etag: str = ""
    reason: str = ""
    detail: str = ""
    host: str = ""
    at: str = ""
    tried: str = ""
    since: str = ""
    is_seen: bool | None = None
    failing: str = ""

    @property
    def state(self) -> str:
        """The state as it goes into a block's key."""
        return f"!{self.reason}" if self.reason else f"={self.etag}"

    @property
    def looked_at(self) -> datetime:
        """When it was asked, UTC."""
        return datetime.fromisoformat(self.at)

    @property
    def failed_at(self) -> str:
        """When it was last asked in vain, UTC, ISO 8601; empty if the last answer was good."""
        return self.tried or (self.at if self.reason else "")

    @property
    def lies_in_file(self) -> bool:
        """Whether it could not be read for a reason that does not pass until the file changes."""
        is_of_file = self.reason in OF_FILES and self.detail != NO_MEMORY
        return is_of_file or self.detail == BEYOND_ITS_END

    def is_forgiven(self, now: datetime, *, looked_only: bool) -> bool:
        """Whether it still counts as readable after another failure that may pass.

        Until `FORGIVEN` after cutting first failed, as looks may succeed all the while and tiles of a TiTiler
        are not looked at while all is well; if only looks fail, until `FORGIVEN` after the last good one. Nor
        does it if that moment lies as far ahead, as a machine whose clock was wrong may have recorded it.
        """
        since = self.failing or (self.at if looked_only else "")
        return not self.reason and (not since or abs(now - datetime.fromisoformat(since)) < FORGIVEN)

    def is_due(self, now: datetime) -> bool:
        """Whether it should be asked again, be it that it was asked long ago or by a clock far ahead."""
        return abs(now - self.looked_at) > (TRIED_AGAIN if self.reason else CHECKED_AGAIN)

    def after(self, before: Looked | None) -> Looked:
        """This result after a previous one: an unchanged state keeps its `since` and what chips showed.

        Only a chip ends that cutting fails: neither a look does so, nor another version, nor a reason.
        """
        if before is None:
            return self
        is_cut = self.is_seen is not None and not self.reason
        failing = "" if is_cut else before.failing
        if before.state != self.state:
            return replace(self, failing=failing)
        found = [each for each in (self.is_seen, before.is_seen) if each is not None]
        return replace(self, since=before.since, is_seen=any(found) if found else None, failing=failing)


@dataclass(slots=True, kw_only=True)
class State:
    """The state of a partition, as it is kept in the store.

    Attributes:
        recipe: digest of the recipe that its blocks were made by.
        blocks: for each block, by name, its key, then the ids of its images for a takedown to find.
        looked: what was found, by `Image.reading`.
        tiles: name of the archive of its tiles; empty where there is none.
        lossless: name of the archive that the zooms above are made from; empty where there is none.
    """

    recipe: str = ""
    blocks: dict[str, list[str]] = field(default_factory=dict)
    looked: dict[str, Looked] = field(default_factory=dict)
    tiles: str = ""
    lossless: str = ""
    format: int = FORMAT

    def key_of(self, block: str) -> str | None:
        """The key of a block; None where there is no such block."""
        return self.blocks[block][0] if block in self.blocks else None

    @property
    def images(self) -> set[str]:
        """The ids of all images that its blocks were made of."""
        return {each for _, *ids in self.blocks.values() for each in ids}

    def state_of(self, image: Image) -> str | None:
        """The last known state of an image's COG; None if unknown."""
        if image.reading is None:
            return f"!{Reason.NO_ASSET}"
        looked = self.looked.get(image.reading)
        return looked.state if looked else None

    def to_json(self) -> bytes:
        """Its content in the store."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read it back. Raises ValueError if the content is not a state in this format."""
        try:
            told = json.loads(content)
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']!r}")
            return cls(**{**told, "looked": looked_of(told["looked"])})
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None


def looked_of(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Looked]:
    """What was found, by `Image.reading`, from JSON."""
    return {
        reading: Looked(**{_FORMERLY.get(name, name): each[name] for name in each})
        for reading, each in told.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An image that is not shown, and why."""

    id: str
    reason: str
    detail: str
    host: str
    since: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What an imagery build did; the tallies of partitions add up.

    Attributes:
        images: how many in all.
        read: how many of them some block shows.
        skipped: those that are not, and why.
        shown: their ids; not part of a report.
        partitions: ids of the images that are shown in each that holds anything, by its name; not part of a
            report.
        waiting: ids of those that no block shows yet: the budget was spent, or a host was down.
        unfinished: ids of the tiles at `BLOCK_ZOOM` whose blocks are not up to date.
        begun: how many builds have begun each of those blocks in vain, as the budget was spent; only those
            that any has.
        grey: ids of those whose blocks an image that could not be read would touch.
        blocks: how many in all.
        made: how many of them this run made.
        uncomposed: which could not be composed, of images or in grey, as zoom/column/row, and why.
        left: how many are left for the next run: the budget was spent, a host was down, making it failed, or
            one of its images became another or failed after it was made.
        requests: sent, including failed ones.
        bytes: received.
        seconds: spent by workers on images.
        hosts: requests, bytes and seconds by host.
    """

    images: int = 0
    read: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    partitions: dict[str, list[str]] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    begun: dict[int, int] = field(default_factory=dict)
    grey: list[int] = field(default_factory=list)
    blocks: int = 0
    made: int = 0
    uncomposed: list[str] = field(default_factory=list)
    left: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    hosts: dict[str, dict[str, float]] = field(default_factory=dict)

    def add_cost(self, host: str, answer: Mapping[str, Any]) -> None:
        """Add what an image cost."""
        requests, received = int(answer.get("requests", 0)), int(answer.get("bytes", 0))
        seconds = float(answer.get("seconds", 0.0))
        self.requests += requests
        self.bytes += received
        self.seconds += seconds
        of_host = self.hosts.setdefault(host, {"requests": 0, "bytes": 0, "seconds": 0.0})
        of_host["requests"] += requests
        of_host["bytes"] += received
        of_host["seconds"] = round(of_host["seconds"] + seconds, 3)

    def charge(self, other: Tally) -> None:
        """Add what another attempt at the same blocks cost."""
        for host, spent in other.hosts.items():
            self.add_cost(host, spent)

    @classmethod
    def total(cls, parts: Iterable[Tally]) -> Tally:
        """The sum over several partitions; an image in two of them counts twice until `of_images`."""
        whole = cls()
        for part in parts:
            whole.images += part.images
            whole.read += part.read
            whole.skipped += part.skipped
            whole.shown += part.shown
            whole.partitions |= part.partitions
            whole.waiting += part.waiting
            whole.unfinished += part.unfinished
            whole.begun |= part.begun
            whole.grey += part.grey
            whole.blocks += part.blocks
            whole.made += part.made
            whole.uncomposed += part.uncomposed
            whole.left += part.left
            whole.requests += part.requests
            whole.bytes += part.bytes
            whole.seconds += part.seconds
            for host, spent in part.hosts.items():
                of_host = whole.hosts.setdefault(host, {"requests": 0, "bytes": 0, "seconds": 0.0})
                for name, value in spent.items():
                    of_host[name] = round(of_host[name] + value, 3)
        return whole

    def of_images(self, count: int) -> Tally:
        """The same, with each image counted once: as read only if no partition has skipped it or awaits it.

        One that shows nothing in a partition is skipped for that only if it is neither shown nor awaited in
        another.

        Args:
            count: how many images all partitions have together.
        """
        others = {*self.shown, *self.waiting}
        skipped = {
            each.id: each for each in self.skipped if each.reason != Reason.ELSEWHERE or each.id not in others
        }
        waiting = set(self.waiting) - skipped.keys()
        return replace(
            self,
            images=count,
            read=count - len(skipped) - len(waiting),
            skipped=[*skipped.values()],
            waiting=sorted(waiting),
        )
