"""What is known of a partition from run to run: which blocks it has, and in which state each COG was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from oam_mosaic_assets.core.imagery.outcome import Reason
from oam_mosaic_assets.core.imagery.recipe import Image

FORMAT: Final = 1

CHECKED_AGAIN: Final = timedelta(days=7)
"""After which a COG that was read is asked whether it is still the same."""

TRIED_AGAIN: Final = timedelta(hours=20)
"""After which one that could not be read is tried again: on the next day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found at an address.

    Attributes:
        etag: of the state that was read; empty where it could not be read.
        reason: why not; empty where it was read.
        detail: the same in other words.
        host: who was asked.
        at: when, UTC, ISO 8601.
        since: since when it has been so.
        is_seen: whether anything of it was seen in any block.
    """

    etag: str = ""
    reason: str = ""
    detail: str = ""
    host: str = ""
    at: str = ""
    since: str = ""
    is_seen: bool = False

    @property
    def state(self) -> str:
        """For a block's key."""
        return f"!{self.reason}" if self.reason else f"={self.etag}"

    @property
    def looked_at(self) -> datetime:
        """When, UTC."""
        return datetime.fromisoformat(self.at)

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be asked again."""
        return now - self.looked_at > (TRIED_AGAIN if self.reason else CHECKED_AGAIN)

    def after(self, before: Looked | None) -> Looked:
        """What is known now, if that is what was known before."""
        if before is None or before.state != self.state:
            return self
        return replace(self, since=before.since, is_seen=self.is_seen or before.is_seen)


@dataclass(slots=True, kw_only=True)
class State:
    """A partition as it lies in the store.

    Attributes:
        recipe: digest of how its blocks were made.
        blocks: by its name the key of each block, and after it the ids of its images, for a takedown to find.
        looked: by address.
        tiles: name of the archive of its tiles; empty where there is none.
        lossless: name of the archive of what zooms above are made of.
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

    def state_of(self, image: Image) -> str | None:
        """In which state its COG is as far as is known; None where that is not known."""
        if image.asset is None:
            return f"!{Reason.NO_ASSET}"
        looked = self.looked.get(image.asset)
        return looked.state if looked else None

    def to_json(self) -> bytes:
        """As it stands in the store."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read it back. Raises ValueError where it is none of this format."""
        try:
            told = json.loads(content)
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']!r}")
            return cls(**{**told, "looked": looked_of(told["looked"])})
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None


FORGIVEN: Final = timedelta(days=30)
"""For which the host of an image that was read once may be away before it counts as gone."""


def looked_of(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Looked]:
    """What was found, by address, from JSON."""
    return {address: Looked(**each) for address, each in told.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An image that is not seen, and why."""

    id: str
    reason: str
    detail: str
    host: str
    since: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a build of imagery did; those of partitions add up.

    Attributes:
        images: in all.
        read: whose pixels are in it.
        skipped: whose are not.
        waiting: ids of those that nothing is known of yet, since the budget was spent.
        blocks: in all.
        made: anew.
        left: for the next run, since the budget was spent.
        requests: sent or tried.
        bytes: received.
        seconds: that workers spent on images.
        hosts: requests, bytes and seconds by host.
    """

    images: int = 0
    read: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    blocks: int = 0
    made: int = 0
    left: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    hosts: dict[str, dict[str, float]] = field(default_factory=dict)

    def add_cost(self, host: str, answer: Mapping[str, Any]) -> None:
        """Count what an image cost."""
        requests, received = int(answer.get("requests", 0)), int(answer.get("bytes", 0))
        seconds = float(answer.get("seconds", 0.0))
        self.requests += requests
        self.bytes += received
        self.seconds += seconds
        of_host = self.hosts.setdefault(host, {"requests": 0, "bytes": 0, "seconds": 0.0})
        of_host["requests"] += requests
        of_host["bytes"] += received
        of_host["seconds"] = round(of_host["seconds"] + seconds, 3)

    @classmethod
    def total(cls, parts: Iterable[Tally]) -> Tally:
        """Of several partitions; an image that lies in two is counted in each, until `of_images`."""
        whole = cls()
        for part in parts:
            whole.images += part.images
            whole.read += part.read
            whole.skipped += part.skipped
            whole.waiting += part.waiting
            whole.blocks += part.blocks
            whole.made += part.made
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
        """The same, with each image counted once: as not read where a partition has not read it.

        Args:
            count: of images in all partitions.
        """
        skipped = {each.id: each for each in self.skipped}
        waiting = set(self.waiting) - skipped.keys()
        return replace(
            self,
            images=count,
            read=count - len(skipped) - len(waiting),
            skipped=[*skipped.values()],
            waiting=sorted(waiting),
        )
