"""Keeps Martin and nginx running, and switches them to each new release.

For a new release, a second Martin is started beside the first. Once it answers, nginx reads a new
configuration; its old workers finish their requests against the old Martin, which is stopped after them. So
every answer is from one release, and none fails. Whatever goes wrong, the last good release stays in service.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Final, Self

from oam_mosaic_assets.core.product import EXACT, IMAGERY
from oam_mosaic_assets.core.release import NewerFormat, Pointer, is_build_name
from oam_mosaic_assets.errors import DiskFull, MosaicError, ServerFailed, ServerMissing, StoreRefused
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.scratch_folder import UNUSABLE, not_usable
from oam_mosaic_assets.gateways.whole_file import NO_ROOM
from oam_mosaic_assets.serving.documents import Addresses
from oam_mosaic_assets.serving.front import FrontServer
from oam_mosaic_assets.serving.generation import Generation, start_generation
from oam_mosaic_assets.serving.martin import Sources
from oam_mosaic_assets.serving.nginx import SHUTDOWN_SECONDS
from oam_mosaic_assets.serving.programs import find_program
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets.settings.values import in_brackets

RETIRING_SECONDS: Final = SHUTDOWN_SECONDS + 5.0
"""How long the old Martin stays: longer than nginx's old workers."""

LONGEST_PAUSE: Final = 30.0
"""The most seconds between two attempts to restart what died."""

STEADY_SECONDS: Final = 30.0
"""How long what was restarted must run until the restarts before are forgotten."""

MOST_SILENCES: Final = 3
"""How often in a row Martin may answer nothing, five seconds each, before it is restarted."""

TICK: Final = 0.2
"""Seconds between two checks of the child processes."""


class Supervisor:
    """Serves what a store's pointer names. A context manager: on exit it stops everything it started."""

    def __init__(self, settings: Settings, store: ObjectStore, log: logging.Logger) -> None:
        """Find the programs; nothing is started yet.

        Raises:
            ServerMissing: one of them is missing.
        """
        self._settings = settings
        self._store = store
        self._log = log
        self._martin = find_program("martin", settings.martin)
        self._folder = (settings.mosaic_scratch / "serve").absolute()
        self._addresses = Addresses.of(settings)
        self._number = 0
        self._front = FrontServer(settings, store, self._folder, log)
        self._current: Generation | None = None
        self._retiring: list[tuple[float, Generation]] = []
        self._trouble = ""
        self._attempts = 0
        self._restarts = 0
        self._silences = 0
        self._not_before = 0.0
        self._steady_at = 0.0
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Start to serve, with nothing so far.

        Raises:
            SettingsError: `MOSAIC_SCRATCH` is no place for this user's files.
            DiskFull: there is no room in it.
            ServerMissing: nginx does not serve, or another tile server uses the folder.
        """
        try:
            self._claim_folder()
            try:
                self._front.open(self._health_of(None, ""))
            except BaseException:
                self._stop()
                raise
        except OSError as fault:
            place = self._folder.parent
            if fault.errno in NO_ROOM:
                hint = "Free some space, or set MOSAIC_SCRATCH to a folder on a larger disk."
                raise DiskFull(f"{place} cannot be written to: {fault.strerror}.", hint=hint) from None
            if fault.errno in UNUSABLE:
                raise not_usable(place, f"{fault.strerror}: {fault.filename}") from None
            raise
        vector, raster, viewer = self._settings.serve_ports
        if os.geteuid() == 0:
            self._log.warning("running as root, and so are nginx and Martin; use another user instead")
        self._log.info(
            "vector tiles at http://%s, raster tiles at http://%s, the page with the map at http://%s/; "
            "polling %s in %s",
            *(f"{in_brackets(self._settings.serve_address)}:{port}" for port in (vector, raster, viewer)),
            self._settings.keys.pointer,
            self._store.origin,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self) -> None:
        """Serve until an exception such as `KeyboardInterrupt` ends it."""
        look_at = 0.0
        while True:
            self.watch()  # first, as to look may take long
            if time.monotonic() >= look_at:
                self.look()
                look_at = time.monotonic() + self._settings.serve_poll_seconds
            time.sleep(TICK)

    def look(self) -> None:
        """Ask the store what is public, switch to it if it is another release, and check what is served."""
        troubles = self._troubles_of(self._follow)
        if self._is_running:  # whatever became of the pointer
            troubles += self._troubles_of(self._see_a_tile)
        troubles += self._troubles_of(self._see_whether_it_lasts)
        if troubles or self._is_running:  # else `watch` has a word to say
            self._say_trouble("\n".join(troubles))
        self._tell()

    def _troubles_of(self, step: Callable[[], None]) -> list[str]:
        """Take a step; returns what went wrong, if anything did. Nothing that goes wrong ends the server."""
        try:
            step()
        except (MosaicError, OSError) as error:  # such as a full disk
            return [str(error)]
        except Exception as error:  # noqa: BLE001  # such as one that a broken archive causes in a library
            trouble = f"An unexpected {type(error).__name__}; the log says where."
            if trouble not in self._trouble:
                self._log.exception("unexpected")
            return [trouble]
        return []

    def _follow(self) -> None:
        """Switch to what the pointer names, if it is another release.

        Whatever it raises, what is served stays.
        """
        pointer = self._public()
        current = self._current
        if pointer is None and current:
            raise StoreRefused(
                "The store no longer says what is public.", hint="Check what happened to the pointer."
            )
        if pointer is None:
            raise StoreRefused(
                f"{self._settings.keys.pointer} in {self._store.origin} is not there, "
                "or the public may not read it.",
                hint="If a build was published, check that anyone may read what is public.",
            )
        if current is None or pointer.build != current.pointer.build:
            self._turn(pointer)

    def _see_a_tile(self) -> None:
        """Check that Martin gives tiles; stop one that has said nothing for long, so that it is restarted.

        Raises:
            ServerFailed: they are not.
        """
        current = self._current
        if current is None:
            return
        if not current.is_answering:
            self._silences += 1
            if self._silences >= MOST_SILENCES:
                self._silences = 0
                current.martin.stop()
            raise ServerFailed("Martin does not answer.", hint="If that goes on, it is restarted.")
        self._silences = 0
        if unread := current.unread():
            raise ServerFailed(
                f"Martin cannot read tiles of {unread}.",
                hint="Check whether the archive can be read at its public address; it is tried again.",
            )

    def _see_whether_it_lasts(self) -> None:
        """Check that what was restarted does not end again soon, whatever it answers until then.

        Raises:
            ServerFailed: it does.
        """
        if self._restarts > 1:
            raise ServerFailed(
                f"Martin or nginx ends again and again; {self._restarts} restarts so far.",
                hint="The log says which, and its last words.",
            )

    def _tell(self) -> None:
        """Update what `/health` answers, if it can be written; nothing else depends on it."""
        told = self._health_of(self._current, self._trouble)
        for trouble in self._troubles_of(lambda: self._front.tell(told)):
            self._say_trouble(f"The health status cannot be written: {trouble}")

    def watch(self) -> None:
        """Restart what died, with growing pauses, and end the generations whose time is up."""
        now = time.monotonic()
        for due, generation in [each for each in self._retiring if each[0] <= now]:
            generation.end()
            self._retiring.remove((due, generation))
        if self._is_running and now >= self._steady_at:
            self._attempts = self._restarts = 0
        if self._is_running or now < self._not_before:
            return
        self._attempts += 1
        self._not_before = now + min(LONGEST_PAUSE, 0.5 * 2 ** min(self._attempts, 10))
        if troubles := self._troubles_of(self._restart):
            self._say_trouble("\n".join(troubles))
            self._tell()
        else:
            self._restarts += 1
            self._steady_at = time.monotonic() + STEADY_SECONDS

    def _restart(self) -> None:
        """Restart what died. Whatever it raises, it may be tried again."""
        front, current = self._front, self._current
        if not front.is_running:
            self._log.error("%s; restarting it", front.end)
            front.start()
        if current and not current.martin.is_running:
            self._log.error("%s; restarting it", current.martin.end)
            self._turn(current.pointer)

    @property
    def _is_running(self) -> bool:
        current = self._current
        return self._front.is_running and (current is None or current.martin.is_running)

    def _public(self) -> Pointer | None:
        """The pointer as any outsider reads it; None if nothing is public."""
        key = self._settings.keys.pointer
        content = self._store.read_publicly(key)
        if content is None:
            return None
        try:
            pointer = Pointer.from_json(content)
            if not is_build_name(pointer.build):
                raise ValueError(f"{pointer.build!r} is not a build name")  # noqa: TRY301
        except ValueError as error:
            raise StoreRefused(
                f"The pointer {key} in {self._store.origin} cannot be read: {error}.",
                hint="A newer version published it: upgrade this tile server."
                if isinstance(error, NewerFormat)
                else "Find out who wrote it; `oam-mosaic status` says more.",
            ) from None
        return pointer

    def _sources(self, pointer: Pointer) -> Sources:
        imagery = pointer.released.get(IMAGERY.name) if self._settings.serve_raster == "imagery" else None
        raster = imagery or pointer.released.get(EXACT.name)  # as after a rollback to a build without it
        return Sources(
            build=pointer.build,
            vector=self._store.public_address(pointer.archive),
            raster=self._store.public_address(raster) if raster else None,
            is_imagery=imagery is not None,
        )

    def _turn(self, pointer: Pointer) -> None:
        """Switch to this release. Whatever it raises, everything then stays as it was.

        Its archives may take long to open. If what is served dies meanwhile, that comes first.
        """
        started, was_running = time.monotonic(), self._is_running
        self._number += 1
        new = start_generation(
            self._number, self._folder, pointer, self._sources(pointer),
            store=self._store, martin=self._martin, addresses=self._addresses, log=self._log,
            may_wait=lambda: self._is_running or not was_running,
        )  # fmt: skip
        is_again = self._current is not None and pointer.build == self._current.pointer.build
        trouble = self._trouble if is_again else ""  # of another release none is known yet
        try:
            self._front.turn_to(new, self._health_of(new, trouble))
        except BaseException:
            new.end()
            raise
        if self._current:
            self._retiring.append((time.monotonic() + RETIRING_SECONDS, self._current))
        self._current = new
        self._log.info("serving %s after %.1f s", pointer.build, time.monotonic() - started)

    def _health_of(self, generation: Generation | None, trouble: str) -> dict[str, Any]:
        pointer = generation.pointer if generation else None
        return {
            "status": ("ok" if not trouble else "degraded") if pointer else "nothing can be served yet",
            "pointer": f"{self._settings.keys.pointer} in {self._store.origin}",
            "build": pointer.build if pointer else None,
            "snapshot_taken_at": pointer.snapshot_taken_at if pointer else None,
            "published_at": pointer.published_at if pointer else None,
            "images": pointer.images if pointer else None,
            "raster_coverage": bool(generation and generation.raster),
            "trouble": trouble or None,
            "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _say_trouble(self, trouble: str) -> None:
        """Log a problem once, and once that it is over."""
        if trouble != self._trouble:
            if trouble:
                served = self._current.pointer.build if self._current else "nothing"
                self._log.error("%s (still serving: %s)", trouble, served)
            else:
                self._log.info("all is well again")
        self._trouble = trouble

    def _claim_folder(self) -> None:
        """Claim the folder for this process alone, and clear what a killed one left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder.parent / "serve.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ServerMissing(
                f"Another `oam-mosaic serve` is running in {self._folder}.",
                hint="Stop it, or set another MOSAIC_SCRATCH for this one.",
            ) from None
        shutil.rmtree(self._folder)
        self._folder.mkdir()

    def _stop(self) -> None:
        try:
            with ExitStack() as last_first:  # all of it, even if a second Ctrl-C hurries it
                if self._lock:
                    last_first.callback(self._lock.close)
                last_first.callback(shutil.rmtree, self._folder, ignore_errors=True)
                for generation in [each for _, each in self._retiring] + (
                    [self._current] if self._current else []
                ):
                    last_first.callback(generation.end)
                last_first.callback(self._front.stop)
        finally:
            self._front.kill()  # or the workers of a killed nginx may stay, if that came before it was listed
