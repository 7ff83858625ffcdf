"""The nginx process: starts it, switches it from one release to the next, and checks that it has switched."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from oam_mosaic_assets.core.release import as_json
from oam_mosaic_assets.errors import ServerFailed, ServerMissing
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.viewer import INDEX
from oam_mosaic_assets.serving.asking import answer_of
from oam_mosaic_assets.serving.documents import Addresses
from oam_mosaic_assets.serving.generation import Generation
from oam_mosaic_assets.serving.nginx import (
    COVERAGE_ZOOM,
    SHUTDOWN_SECONDS,
    Front,
    nginx_configuration,
)
from oam_mosaic_assets.serving.programs import GRACE_SECONDS, Program, find_njs, find_program, until
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets.settings.values import in_brackets

TURN_SECONDS: Final = 20.0
"""How long nginx may take to switch to a configuration."""


class FrontServer:
    """nginx in front of one generation; before the first, it answers that nothing can be served."""

    def __init__(self, settings: Settings, store: ObjectStore, folder: Path, log: logging.Logger) -> None:
        """Find the program; nothing is started yet.

        Args:
            settings: where it listens, among others.
            store: holds the published page.
            folder: for its files; must be empty when it is started.
            log: receives its output.

        Raises:
            ServerMissing: nginx or its JavaScript module is missing.
        """
        self._settings = settings
        self._store = store
        self._folder = folder
        self._log = log
        self._nginx = find_program("nginx", settings.nginx)
        self._njs = find_njs(self._nginx)
        self._program: Program | None = None
        self._served: Generation | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._program is not None and self._program.is_running

    @property
    def end(self) -> str:
        """How it ended, in words."""
        return self._program.end if self._program else "nginx was not started"

    def open(self, health: Mapping[str, Any]) -> None:
        """Start it with nothing to serve.

        Raises:
            ServerMissing: it does not serve, for example because its ports are taken.
        """
        self._see_whether_ports_are_free()
        self._documents.mkdir(parents=True)
        self.tell(health)
        self._write_configuration()
        self.start()

    def _see_whether_ports_are_free(self) -> None:
        """Check this first: nginx itself would report a taken port thirty times."""
        address = self._settings.serve_address
        for port in self._settings.serve_ports:
            try:
                _listen(address, port).close()
            except OSError as error:
                fault = os.strerror(error.errno or 0)
                raise ServerMissing(
                    f"Cannot listen on port {port} of {in_brackets(address)}: {fault}.",
                    hint="Check whether another program listens there; SERVE_VECTOR_PORT etc. set the ports.",
                ) from None

    def start(self) -> None:
        """Start it, for the first time or again, with the configuration it last had.

        Raises:
            ServerMissing: it does not serve.
        """
        self.kill()  # the workers of one that was killed while a release turned would keep the ports
        program = self._program = Program(
            "nginx",
            [self._nginx, "-e", "stderr", "-p", self._folder, "-c", self._configuration],
            log=self._log,
        )
        if not until(lambda: self._has_turned() or not program.is_running, seconds=TURN_SECONDS) or (
            not program.is_running
        ):
            said = program.end
            program.stop()
            raise ServerMissing(
                f"nginx did not come up. {said}",
                hint="Check whether another program uses its ports; SERVE_VECTOR_PORT etc. set them."
                if "bind()" in said
                else "nginx's own output says why; check the settings that it names.",
            )

    def turn_to(self, generation: Generation, health: Mapping[str, Any]) -> None:
        """Switch to a generation. If that fails, everything stays as it was.

        Raises:
            ServerFailed: nginx did not take the configuration in time.
            ServerMissing: it was not running, and cannot be started.
        """
        served, before = self._served, self._configuration.read_bytes()
        try:
            self._served = generation
            self.tell(health)
            self._write_configuration()
            self._take_configuration()
        except BaseException:
            self._served = served
            _replace(self._configuration, before)
            if self._program and self._program.is_running:
                self._program.send(signal.SIGHUP)  # it may have switched after all, only too late
            raise

    def tell(self, health: Mapping[str, Any]) -> None:
        """Set what `/health` answers from now on; the configuration's number is added."""
        _replace(self._documents / "health.json", as_json({**health, "configuration": self._number}))

    def stop(self) -> None:
        """Let it finish the requests in progress, and end it."""
        if self._program:
            self._program.stop(sign=signal.SIGQUIT, grace=SHUTDOWN_SECONDS + GRACE_SECONDS)

    def kill(self) -> None:
        """Kill what `stop`, or a master that was killed, has left."""
        if self._program:
            self._program.kill()

    def _take_configuration(self) -> None:
        if self._program is None or not self._program.is_running:
            self.start()
            return
        self._program.send(signal.SIGHUP)
        if not until(self._has_turned, seconds=TURN_SECONDS):
            raise ServerFailed(
                f"nginx did not switch to its new configuration. {self._program.end}",
                hint="See its output above; the last good release is still being served.",
            )

    def _has_turned(self) -> bool:
        address = self._settings.serve_address
        host = "127.0.0.1" if ip_address(address).is_unspecified else address
        said = answer_of(self._settings.serve_vector_port, "/health", host=host, any_status=True)
        with suppress(ValueError, TypeError):
            return bool(said and json.loads(said).get("configuration") == self._number)
        return False

    @property
    def _number(self) -> int:
        return self._served.number if self._served else 0

    @property
    def _documents(self) -> Path:
        return self._served.documents if self._served else self._folder / "0" / "documents"

    @property
    def _configuration(self) -> Path:
        return self._folder / "nginx.conf"

    def _write_configuration(self) -> None:
        _replace(self._configuration, nginx_configuration(self._front()).encode())

    def _front(self) -> Front:
        settings, served = self._settings, self._served
        vector: Any = served.vector if served else {"minzoom": 0, "maxzoom": COVERAGE_ZOOM}
        raster = served.raster if served else None
        page = f"{settings.keys.viewer}{INDEX}"
        local = (settings.mosaic_store.absolute(), _public_files(settings))
        return Front(
            folder=self._folder,
            documents=self._documents,
            number=self._number,
            build=served.pointer.build if served else "",
            martin_port=served.port if served else 9,
            zooms=(vector["minzoom"], vector["maxzoom"]),
            raster_zooms=(raster["minzoom"], raster["maxzoom"]) if raster else None,
            titiler=settings.titiler_url,
            address=settings.serve_address,
            ports=settings.serve_ports,
            viewer=Addresses.of(settings).viewer,
            page=self._store.public_address(page) if settings.publishes_to_s3 else page,
            public_files=None if settings.publishes_to_s3 else local,
            njs=self._njs,
            script=Path(__file__).with_name("tiles.js"),
            cache_mb=settings.serve_cache_mb,
            as_root=os.geteuid() == 0,
        )


def _listen(address: str, port: int) -> socket.socket:
    """Listen as nginx will: on `::` for IPv4 as well, if the machine has both."""
    if ":" not in address:
        return socket.create_server((address, port))
    both = socket.has_dualstack_ipv6()
    return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=both)


def _public_files(settings: Settings) -> str:
    """A regular expression for the public keys of a local store, which no other server serves."""
    keys = settings.keys
    fixed = "|".join(map(re.escape, (*keys.all_fixed(), keys.pointer)))
    page = f"{re.escape(keys.viewer)}(?:assets/)?[^/]+"
    return f"{fixed}|{page}|{re.escape(keys.releases_root)}\\d{{8}}T\\d{{6}}Z-[0-9a-f]{{12}}/[^/]+"


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
