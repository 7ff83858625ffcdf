"""A hold: while it is in the store, no build becomes public. Every publisher checks for it under the lock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from oam_mosaic_assets.core import reasons
from oam_mosaic_assets.core.moments import minute
from oam_mosaic_assets.core.release import Keys, as_json
from oam_mosaic_assets.errors import PublicationHeld
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore

_HEADERS: Final = Headers("application/json")
_BETWEEN: Final = "; "


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no build becomes public.

    Attributes:
        since: UTC, ISO 8601.
        reason: given by a person; all reasons, if several holds were placed.
    """

    since: str
    reason: str

    def __str__(self) -> str:
        return f"publication has been held since {minute(self.since)}: {self.reason}"


class Holds:
    """The hold in a store, if there is one."""

    def __init__(self, store: ObjectStore, keys: Keys) -> None:
        self._store = store
        self._key = keys.hold

    def present(self) -> Hold | None:
        """The hold; None if there is none. An unreadable one counts all the same."""
        found = self._store.get_bytes(self._key)
        if found is None:
            return None
        try:
            stated = json.loads(found[0])
            return Hold(datetime.fromisoformat(stated["since"]).isoformat(), str(stated["reason"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return Hold(found[1].written_at.isoformat(), f"{self._key} does not state the reason")

    def gives(self, reason: str) -> bool:
        """Whether there is a hold with this reason, alone or among others."""
        hold = self.present()
        return hold is not None and reasons.states(hold.reason, reason, between=_BETWEEN)

    def refuse(self) -> None:
        """Raise `PublicationHeld` if there is a hold."""
        hold = self.present()
        if hold is not None:
            raise PublicationHeld(
                f"P{str(hold)[1:]}.",
                hint="Nothing public has changed. Once the cause is gone: oam-mosaic resume, then build or "
                "publish again.",
            )

    def place(self, reason: str) -> Hold:
        """Place a hold; an existing one gets the reason added, so that none is lost.

        Call this under the lock, so that no publisher has checked for a hold already.
        """
        hold = self.present()
        if hold is None:
            hold = Hold(datetime.now(UTC).isoformat(), reason)
        hold = Hold(hold.since, reasons.added(hold.reason, reason, between=_BETWEEN))
        self.put_back(hold)
        return hold

    def put_back(self, hold: Hold | None) -> None:
        """Restore the hold as it was; None removes it."""
        if hold is None:
            self._store.delete([self._key])
        else:
            self._store.put_bytes(self._key, as_json(asdict(hold)), _HEADERS)
