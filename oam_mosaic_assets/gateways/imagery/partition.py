"""A partition in the store: an object for its state, and two archives.

The state is written last, so that it never names anything that is missing, and only if no other machine has
written it meanwhile. While blocks are made, each is stored as soon as it is finished, for the next run to
pick up if this one is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.core.imagery.recipe import Recipe
from oam_mosaic_assets.core.imagery.state import State
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed

STATE: Final = "state.json"

UNJOINED: Final = "work/"
"""Below a partition's prefix in the store: blocks that are finished but not yet packed into its archives."""

LEFT_BEHIND: Final = timedelta(hours=1)
"""How old an archive must be that no state names, to be a killed build's: others name theirs at once."""


@dataclass(slots=True)
class Budget:
    """What may still be spent. None means no limit.

    Attributes:
        bytes: how many may still be received.
        until: deadline by `time.monotonic`.
    """

    bytes: int | None = None
    until: float | None = None

    def spend(self, received: int) -> None:
        """Deduct received bytes."""
        if self.bytes is not None:
            self.bytes -= received

    @property
    def is_spent(self) -> bool:
        """Whether no more images may be read; those that are being read are finished."""
        return (self.bytes is not None and self.bytes <= 0) or (
            self.until is not None and time.monotonic() >= self.until
        )

    def tenth(self) -> Callable[[], bool]:
        """Set a tenth of what is left apart; the function that it returns says whether that much is spent."""
        now = time.monotonic()
        until = None if self.until is None else now + (self.until - now) / 10
        kept = (self.bytes or 0) * 9 // 10
        return lambda: Budget(None if self.bytes is None else self.bytes - kept, until).is_spent


class Overtaken(Exception):
    """Another machine has built the partition meanwhile, or an image of it was taken down."""


def read_state(store: ObjectStore, at: str) -> tuple[State, str]:
    """A partition's state, empty if there is none or it cannot be read; and the ETag of its object, if any.

    Args:
        store: where the partition is kept.
        at: prefix of its keys.
    """
    found = store.get_bytes(f"{at}{STATE}")
    if found is None:
        return State(), ""
    with suppress(ValueError):
        return State.from_json(found[0]), found[1].etag
    return State(), found[1].etag


class Kept:
    """One partition as it is kept in a store."""

    def __init__(
        self,
        store: ObjectStore,
        root: str,
        tile: Tile,
        recipe: Recipe,
        rules: Rules,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is read yet.

        Args:
            store: where it is kept.
            root: prefix of all partitions' keys; ends in a slash.
            tile: its tile at `PARTITION_ZOOM`.
            recipe: how its blocks are made.
            rules: which addresses may be requested.
            now: the clock.
        """
        self.store = store
        self.at = f"{root}{tile.partition}/"
        self.tile = tile
        self.recipe = recipe
        self.rules = rules
        self.now = now

    def state(self) -> State:
        """Its state in the store; an empty one if there is none or it cannot be read."""
        return read_state(self.store, self.at)[0]

    def archives(self, folder: Path) -> tuple[Path, Path, State] | None:
        """Copy its archives into a folder: that of its tiles, and the lossless one. None if it holds nothing.

        The state that names them comes with them. If another machine replaces them meanwhile, the new ones
        are copied.

        Raises:
            StoreUnavailable: see `lose`.
        """
        while (state := self.state()).tiles and state.lossless:
            tiles, lossless = (self.fetch(each, folder) for each in (state.tiles, state.lossless))
            if tiles and lossless:
                return tiles, lossless, state
            with suppress(Overtaken):
                self.lose(state)
        return None

    def fetch(self, name: str, folder: Path) -> Path | None:
        """Copy one of its archives into a folder; returns its path, None if it is not there."""
        path = folder / f"{self.tile.x}-{self.tile.y}-{name}"
        return path if name and self.store.get_file(self.at + name, path) else None

    def lose(self, state: State) -> NoReturn:
        """Give up archives that a state names and that are not there.

        The state is emptied, so that the next build reads the partition again; finished blocks that are not
        packed yet are kept. An archive that is left of the two goes as a killed build's do.

        Raises:
            Overtaken: another machine has written the state meanwhile; it stays.
            StoreUnavailable: it does not.
        """
        now, etag = read_state(self.store, self.at)
        if (now.tiles, now.lossless) != (state.tiles, state.lossless):
            raise Overtaken
        try:
            empty = State().to_json()
            self.store.put_bytes(f"{self.at}{STATE}", empty, Headers("application/json"), if_match=etag)
        except PreconditionFailed:
            raise Overtaken from None
        raise StoreUnavailable(
            f"An archive of the partition {self.tile.partition} is gone: {self.at}{state.tiles} or "
            f"{state.lossless} in {self.store.origin}.",
            hint="Build again: the partition is read again. If this recurs, check who else deletes there.",
        )
