"""Production on one machine: the processes of `compose.yaml`, with the files in `deploy/`, on real servers.

PostgreSQL holds the catalogue and Dagster's storage, Ceph the store and the runs' logs. The code
server, the webservers and the daemon are started as in the image.
"""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import (
    LiveDagster,
    environment_of,
    running_program,
    running_webserver,
    until,
)
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase
from oam_mosaic_assets_tests.servers.s3 import S3Server

DEPLOY: Final = REPOSITORY / "deploy"
WORKSPACE: Final = DEPLOY / "workspace.yaml"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICE_OF_CODE: Final = "code-server"


def command_of(service: str) -> list[str]:
    """The command with which the compose file starts a service."""
    command = COMPOSE["services"][service]["command"]
    return list(command) if isinstance(command, list) else shlex.split(command)


class Production:
    """The processes, with their folders, servers and settings.

    Attributes:
        home: `DAGSTER_HOME`, which contains only the configuration.
        dagster: the webserver.
    """

    def __init__(
        self, folder: Path, catalogue: PgstacDatabase, storage: PgstacDatabase, s3: Bucket, **settings: str
    ) -> None:
        self.folder = folder
        self._catalogue = catalogue
        self._port = str(free_port())
        self.environment = environment_of(
            folder,
            **catalogue.environment,
            S3_BUCKET=s3.name,
            S3_ENDPOINT=s3.server.endpoint,
            S3_ACCESS_KEY=s3.server.access_key,
            S3_SECRET_KEY=s3.server.secret_key,
            AWS_ACCESS_KEY_ID=s3.server.access_key,
            AWS_SECRET_ACCESS_KEY=s3.server.secret_key,
            AWS_DEFAULT_REGION=s3.server.region,
            AWS_ENDPOINT_URL_S3=s3.server.endpoint,
            DAGSTER_PG_HOST=storage.host,
            DAGSTER_PG_PORT=str(storage.port),
            DAGSTER_PG_USER=storage.user,
            DAGSTER_PG_PASSWORD=storage.password,
            DAGSTER_PG_DATABASE=storage.name,
            CODE_SERVER_HOST="127.0.0.1",
            CODE_SERVER_PORT=self._port,
            **settings,
        )
        self.home = Path(self.environment["DAGSTER_HOME"])
        (self.home / "dagster.yaml").write_bytes((DEPLOY / "dagster.yaml").read_bytes())
        self._ends = ExitStack()

    @property
    def settings(self) -> Settings:
        return Settings.read(self.environment)

    @property
    def store(self) -> ObjectStore:
        return store_of(self.settings)

    @property
    def keys(self) -> Keys:
        return self.settings.keys

    @contextmanager
    def running(self) -> Iterator[Production]:
        """Run everything until the block ends."""
        with self._ends as ends:
            self.start_code_server()
            self.dagster: LiveDagster = ends.enter_context(self.webserver())
            daemon = ["dagster-daemon", "run", "-w", str(WORKSPACE)]
            self.daemon = ends.enter_context(running_program(daemon, self.folder, self.environment))
            yield self

    def webserver(self, *options: str) -> AbstractContextManager[LiveDagster]:
        """Run a webserver, with further options, until the block ends."""
        return running_webserver(self.folder, self.environment, *options, workspace=WORKSPACE)

    def image_moves(self) -> None:
        """Move an image in the catalogue, since nothing is built unless something changed."""
        with self._catalogue.connect() as connection:
            connection.execute(
                "UPDATE items SET geometry = ST_Translate(geometry, 0.001, 0)"
                " WHERE id = (SELECT min(id) FROM items WHERE ST_Dimension(geometry) = 2)"
            )

    def start_code_server(self) -> None:
        """Start the code server, replacing any previous one, and wait until it is healthy."""
        command = [
            {"0.0.0.0": "127.0.0.1", "4000": self._port}.get(word, word)  # noqa: S104
            for word in command_of(SERVICE_OF_CODE)
        ]
        self.code_server = self._ends.enter_context(running_program(command, self.folder, self.environment))
        check = ["dagster", "api", "grpc-health-check", "-p", self._port]
        until(self._code_server_listens, self.said)  # cheap, while the check imports Dagster each time
        until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, self.said)

    def _code_server_listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(self._port)), timeout=5):
            return True
        return False

    def process_of_the_run(self) -> psutil.Process:
        """The process in which the code server executes its only active run."""
        server = psutil.Process(self.code_server.pid)
        (process,) = (child for child in server.children() if "spawn_main" in " ".join(child.cmdline()))
        return process

    def slots(self) -> list[str]:
        """The runs that hold a slot of the pool `publication`."""
        pool = self.dagster.ask(
            """
            { instance { concurrencyLimit(concurrencyKey: "publication") { claimedSlots { runId } } } }
            """
        )["instance"]["concurrencyLimit"]
        return [slot["runId"] for slot in pool["claimedSlots"]]

    def retry_of(self, run: str) -> str:
        """Wait until the daemon retries a run, and return the new run's id."""
        found: list[str] = []
        until(lambda: bool(found.extend(self.dagster.runs(parent_run_id=run)) or found), self.said)
        return found[0]

    def kill_everything_of_the_code_server(self) -> None:
        """Kill server and run at once, as the death of a container does."""
        for process in (*psutil.Process(self.code_server.pid).children(recursive=True),):
            process.kill()
        self.code_server.send_signal(signal.SIGKILL)
        self.code_server.wait()

    def said(self) -> str:
        return self.dagster.said()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and its server."""

    server: S3Server
    name: str
