"""Staged builds: those that are not public, each under a unique name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from oam_mosaic_assets.core.release import ARCHIVE, AUDIT, CLAIM, HELD, Keys, as_json, build_name
from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject


class StagedBuilds:
    """The private side of a store."""

    def __init__(self, store: ObjectStore, keys: Keys) -> None:
        self.store = store
        self.keys = keys

    def name_build(self, started: datetime, digest: str, *, run: str, public: str = "") -> str:
        """Give a build a name that no other in this store has.

        The name is claimed by a staged object. If two builds of one snapshot start in the same second, one of
        them is named after the next second.

        Args:
            started: UTC.
            digest: of its snapshot.
            run: the run that claims the name.
            public: the public build, if any; a build started in the same second is named after the next one,
                so that names tell which is newer.
        """
        if build_name(started, digest).partition("-")[0] == public.partition("-")[0]:
            started += timedelta(seconds=1)
        claim = as_json({"run": run})
        while True:
            build = build_name(started, digest)
            started += timedelta(seconds=1)
            key = self.keys.staging(build, CLAIM)
            try:
                self.store.put_bytes(key, claim, Headers("application/json"), if_absent=True)
            except PreconditionFailed:
                continue
            # the claim of a public build was deleted when it became public
            if self.store.head(self.keys.release(build, ARCHIVE)) is None:
                return build
            with suppress(MosaicError):  # the next publication sweeps it up
                self.store.delete([key])

    def named_by(self, run: str) -> list[str]:
        """The staged builds whose names this run claimed."""
        return [
            build
            for build, each in self.objects()
            if each.key == self.keys.staging(build, CLAIM)
            and (found := self.store.get_bytes(each.key)) is not None
            and _claims(found[0], run)
        ]

    def waiting(self) -> list[str]:
        """The staged and audited builds, oldest first; some may be under way, or left by a killed run."""
        return [build for build, each in self.objects() if each.key == self.keys.staging(build, AUDIT)]

    def held(self) -> list[str]:
        """Those of them that are held back, oldest first: only a person's word can make them public."""
        return [each for each in self.waiting() if self._is_held(each)]

    def mark_held(self, build: str, why: str) -> None:
        """Record that a build is held back for a reason that its audit does not tell."""
        self.store.put_bytes(
            self.keys.staging(build, HELD), as_json({"because": why}), Headers("application/json")
        )

    def why_held(self, build: str) -> str:
        """What was recorded so; empty if its audit tells."""
        found = self.store.get_bytes(self.keys.staging(build, HELD))
        with suppress(ValueError, TypeError, KeyError):  # of another version
            return str(json.loads(found[0])["because"]) if found else ""
        return "the reason cannot be read"

    def _is_held(self, build: str) -> bool:
        if self.store.head(self.keys.staging(build, HELD)) is not None:
            return True
        from oam_mosaic_assets.core.audit import GUARDS  # noqa: PLC0415  # slow to import, seldom needed

        found = self.store.get_bytes(self.keys.staging(build, AUDIT))
        with suppress(ValueError, TypeError, KeyError):  # of another version
            verdicts = json.loads(found[0])["verdicts"] if found else []
            failed = {each["name"] for each in verdicts if not each["passed"]}
            return bool(failed) and failed <= GUARDS
        return False

    def objects(self) -> Iterator[tuple[str, StoredObject]]:
        """All staged objects, each with its build."""
        for each in self.store.keys(self.keys.staging_root):
            yield each.key.removeprefix(self.keys.staging_root).split("/", 1)[0], each

    def discard(self, build: str) -> None:
        """Delete all staged objects of a build."""
        self.store.delete([each.key for each in self.store.keys(self.keys.staging(build))])


def _claims(claim: bytes, run: str) -> bool:
    """Whether a claim is this run's; an unreadable one is nobody's."""
    with suppress(ValueError, TypeError, KeyError):
        return bool(json.loads(claim)["run"] == run)
    return False
