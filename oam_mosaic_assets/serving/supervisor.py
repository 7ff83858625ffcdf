"""Keeps Martin and nginx at work, and turns them to each new release.

A release is turned to by a second Martin beside the first. nginx reads a new configuration when that Martin
answers; its workers of before finish what they were asked, by the Martin of before, which ends after them. So
every answer is of one release, and none fails. Whatever goes wrong leaves the last good release as it is.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from oam_mosaic_assets.core.release import Pointer, as_json, is_build_name
from oam_mosaic_assets.errors import MosaicError, ServerFailed, ServerMissing, StoreRefused
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.viewer import INDEX
from oam_mosaic_assets.serving.asking import answer_of
from oam_mosaic_assets.serving.documents import Addresses
from oam_mosaic_assets.serving.generation import Generation, start_generation
from oam_mosaic_assets.serving.martin import RASTER_ARCHIVE, Sources
from oam_mosaic_assets.serving.nginx import COVERAGE_ZOOM, SHUTDOWN_SECONDS, Front, nginx_configuration
from oam_mosaic_assets.serving.programs import Program, find_njs, find_program, until
from oam_mosaic_assets.settings import Settings

RETIRING_SECONDS: Final = SHUTDOWN_SECONDS + 5.0
"""How long the Martin of before stays: longer than nginx's workers of before."""

TURN_SECONDS: Final = 20.0
"""How long nginx may take to read a configuration."""

LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to start what died."""

TICK: Final = 0.2
"""Seconds between two looks at the children."""

EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104


class Supervisor:
    """Serves what a store's pointer names. A context: on its way out it stops all that it started."""

    def __init__(self, settings: Settings, store: ObjectStore, log: logging.Logger) -> None:
        """Find the programs; nothing is started yet.

        Raises:
            ServerMissing: one of them is not there.
        """
        self._settings = settings
        self._store = store
        self._log = log
        self._martin = find_program("martin", settings.martin)
        self._nginx = find_program("nginx", settings.nginx)
        self._njs = find_njs(self._nginx)
        self._folder = (settings.mosaic_scratch / "serve").absolute()
        self._addresses = Addresses.of(settings)
        self._number = 0
        self._front: Program | None = None
        self._current: Generation | None = None
        self._retiring: list[tuple[float, Generation]] = []
        self._trouble = ""
        self._failures = 0
        self._not_before = 0.0
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._claim_folder()
        try:
            self._write_nothing()
            self._start_nginx()
        except BaseException:
            self._stop()
            raise
        vector, raster, viewer = self._settings.serve_ports
        self._log.info(
            "listening on %s: vector tiles %d, raster tiles %d, viewer %d; asking %s in %s",
            self._settings.serve_address,
            vector,
            raster,
            viewer,
            self._settings.keys.pointer,
            self._store.origin,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self) -> None:
        """Serve until something ends this thread, such as `KeyboardInterrupt`."""
        look_at = 0.0
        while True:
            if time.monotonic() >= look_at:
                self.look()
                look_at = time.monotonic() + self._settings.serve_poll_seconds
            self.watch()
            time.sleep(TICK)

    def look(self) -> None:
        """Ask the store what is public, and turn to it where that is another release."""
        try:
            pointer = self._public()
            current = self._current
            if pointer is None and current:
                raise StoreRefused(
                    "The store says no more what is public.", hint="See what became of the pointer."
                )
            if pointer and (current is None or pointer.build != current.pointer.build):
                self._turn(pointer)
            self._say_trouble("")
        except MosaicError as error:
            self._say_trouble(str(error))
        self._write_health()

    def watch(self) -> None:
        """Start again what died, with growing pauses, and end what has retired."""
        now = time.monotonic()
        for due, generation in [each for each in self._retiring if each[0] <= now]:
            generation.end()
            self._retiring.remove((due, generation))
        front, current = self._front, self._current
        well = front and front.is_running and (current is None or current.martin.is_running)
        if well or now < self._not_before:
            return
        self._failures += 1
        self._not_before = now + min(LONGEST_PAUSE, 0.5 * 2**self._failures)
        try:
            if front and not front.is_running:
                self._log.error("%s; starting it again", front.end)
                self._start_nginx()
            if current and not current.martin.is_running:
                self._log.error("%s; starting it again", current.martin.end)
                self._turn(current.pointer)
            self._failures = 0
        except MosaicError as error:
            self._say_trouble(str(error))
            self._write_health()

    def _public(self) -> Pointer | None:
        """What a stranger is told is public; None where nothing is."""
        key = self._settings.keys.pointer
        content = self._store.read_publicly(key)
        if content is None:
            return None
        try:
            pointer = Pointer.from_json(content)
            if not is_build_name(pointer.build):
                raise ValueError(f"{pointer.build!r} is no build's name")  # noqa: TRY301
        except ValueError as error:
            raise StoreRefused(
                f"The pointer {key} in {self._store.origin} cannot be read: {error}.",
                hint="See who wrote it; `oam-mosaic status` says more.",
            ) from None
        return pointer

    def _sources(self, pointer: Pointer) -> Sources:
        raster = f"{pointer.archive.rpartition('/')[0]}/{RASTER_ARCHIVE}"
        has_raster = self._store.head_publicly(raster) is not None
        return Sources(
            build=pointer.build,
            vector=self._store.public_address(pointer.archive),
            raster=self._store.public_address(raster) if has_raster else None,
        )

    def _turn(self, pointer: Pointer) -> None:
        """Serve this release. Raises `MosaicError` where that fails; all is then as before."""
        started = time.monotonic()
        self._number += 1
        new = start_generation(
            self._number, self._folder, pointer, self._sources(pointer),
            store=self._store, martin=self._martin, addresses=self._addresses, log=self._log,
        )  # fmt: skip
        before, old = self._configuration.read_bytes(), self._current
        try:
            self._current = new
            self._write_health()
            self._write_configuration(self._front_of(new))
            self._reload()
        except BaseException:
            self._current = old
            _replace(self._configuration, before)
            if self._front and self._front.is_running:
                self._front.send(signal.SIGHUP)  # it may have turned after all, only too late
            new.end()
            raise
        if old:
            self._retiring.append((time.monotonic() + RETIRING_SECONDS, old))
        self._log.info("serving %s after %.1f s", pointer.build, time.monotonic() - started)

    def _reload(self) -> None:
        if self._front is None or not self._front.is_running:
            self._start_nginx()
            return
        self._front.send(signal.SIGHUP)
        if not until(self._front_has_turned, seconds=TURN_SECONDS):
            raise ServerFailed(
                f"nginx did not take its new configuration. {self._front.end}",
                hint="What it says stands above; the last good release is still served.",
            )

    def _front_has_turned(self) -> bool:
        address = self._settings.serve_address
        said = answer_of(
            self._settings.serve_vector_port,
            "/health",
            host="127.0.0.1" if address == "0.0.0.0" else "::1" if address == "::" else address,  # noqa: S104
            any_status=True,
        )
        with suppress(ValueError, TypeError):
            return bool(said and json.loads(said).get("configuration") == self._served)
        return False

    def _start_nginx(self) -> None:
        self._front = Program(
            "nginx",
            [self._nginx, "-e", "stderr", "-p", self._folder, "-c", self._configuration],
            log=self._log,
        )
        front = self._front
        if not until(lambda: self._front_has_turned() or not front.is_running, seconds=TURN_SECONDS) or (
            not front.is_running
        ):
            said = front.end
            if front.is_running:
                front.stop()
            raise ServerMissing(
                f"nginx does not serve. {said}",
                hint="See whether another program listens there; SERVE_VECTOR_PORT and others set the ports.",
            )

    @property
    def _configuration(self) -> Path:
        return self._folder / "nginx.conf"

    def _write_nothing(self) -> None:
        documents = self._folder / "0" / "documents"
        documents.mkdir(parents=True)
        self._write_health()
        self._write_configuration(self._front_of(None))

    def _front_of(self, generation: Generation | None) -> Front:
        settings = self._settings
        vector: Any = generation.vector if generation else {"minzoom": 0, "maxzoom": COVERAGE_ZOOM}
        raster = generation.raster if generation else None
        page = f"{settings.keys.viewer}{INDEX}"
        return Front(
            folder=self._folder,
            documents=self._documents,
            number=self._served,
            build=generation.pointer.build if generation else "",
            martin_port=generation.port if generation else 9,
            zooms=(vector["minzoom"], vector["maxzoom"]),
            raster_zooms=(raster["minzoom"], raster["maxzoom"]) if raster else None,
            titiler=settings.titiler_url,
            address=settings.serve_address,
            ports=settings.serve_ports,
            viewer=self._addresses.viewer,
            page=self._store.public_address(page) if settings.publishes_to_s3 else page,
            public_files=None
            if settings.publishes_to_s3
            else (settings.mosaic_store.absolute(), _public_files(settings)),
            njs=self._njs,
            script=Path(__file__).with_name("tiles.js"),
            cache_mb=settings.serve_cache_mb,
            as_root=os.geteuid() == 0,
        )

    def _write_configuration(self, front: Front) -> None:
        _replace(self._configuration, nginx_configuration(front).encode())

    @property
    def _served(self) -> int:
        return self._current.number if self._current else 0

    @property
    def _documents(self) -> Path:
        return self._current.documents if self._current else self._folder / "0" / "documents"

    def _write_health(self) -> None:
        pointer = self._current.pointer if self._current else None
        told: dict[str, Any] = {
            "status": ("ok" if not self._trouble else "degraded") if pointer else "nothing published yet",
            "build": pointer.build if pointer else None,
            "snapshot_taken_at": pointer.snapshot_taken_at if pointer else None,
            "published_at": pointer.published_at if pointer else None,
            "images": pointer.images if pointer else None,
            "raster_coverage": bool(self._current and self._current.raster),
            "trouble": self._trouble or None,
            "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "configuration": self._served,
        }
        _replace(self._documents / "health.json", as_json(told))

    def _say_trouble(self, trouble: str) -> None:
        """Tell a trouble once, and once that it is over."""
        if trouble != self._trouble:
            if trouble:
                served = self._current.pointer.build if self._current else "nothing"
                self._log.error("%s (still serving: %s)", trouble, served)
            else:
                self._log.info("all is well again")
        self._trouble = trouble

    def _claim_folder(self) -> None:
        """Take the folder for this process alone, and empty it of what a killed one left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder.parent / "serve.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ServerMissing(
                f"Another `oam-mosaic serve` is at work in {self._folder}.",
                hint="Stop it, or give this one another MOSAIC_SCRATCH.",
            ) from None
        shutil.rmtree(self._folder)
        self._folder.mkdir()

    def _stop(self) -> None:
        if self._front and self._front.is_running:
            self._front.stop(sign=signal.SIGQUIT)
        for generation in [each for _, each in self._retiring] + ([self._current] if self._current else []):
            generation.end()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock:
            self._lock.close()


def _public_files(settings: Settings) -> str:
    """What of a local store anyone may read, as a regular expression: there is no other server for it."""
    keys = settings.keys
    fixed = "|".join(map(re.escape, (*keys.fixed_archives(), keys.tilejson, keys.pointer)))
    page = f"{re.escape(keys.viewer)}(?:assets/)?[^/]+"
    return f"{fixed}|{page}|{re.escape(keys.releases_root)}\\d{{8}}T\\d{{6}}Z-[0-9a-f]{{12}}/[^/]+"


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
