"""A private PostgreSQL cluster with pgSTAC databases in it, run with the installed server programs.

- `running_postgres()`: a context manager; the cluster is always stopped and removed.
- `PostgresServer.create_pgstac(name, version)`: a database migrated to that version of pgSTAC.

`pgstac_items.load_items(database, items)` fills it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from oam_mosaic_assets_tests.servers.ports import free_port

PRODUCTION_PGSTAC = "0.9.6"
NEWEST_PGSTAC = "0.10.0"
PGSTAC_VERSIONS = (PRODUCTION_PGSTAC, NEWEST_PGSTAC)

START_SECONDS = 60
STOP_SECONDS = 20
WHAT_TO_INSTALL = (
    "the tests need a PostgreSQL server with PostGIS, on Debian and Ubuntu: "
    "apt-get install postgresql postgresql-15-postgis-3 (or the number of the PostgreSQL there is)"
)


@dataclass(frozen=True, slots=True)
class PgstacDatabase:
    """A database with pgSTAC in it, and a user with all rights to it.

    Attributes:
        version: of pgSTAC, such as `0.9.6`.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    name: str
    version: str

    @property
    def dsn(self) -> str:
        """The address with the password, as in `PG_DSN`."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """The same as libpq's environment variables."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.name,
        }

    def connect(self) -> psycopg.Connection:
        """Open a connection that commits each statement and finds pgSTAC's tables without their schema."""
        return psycopg.connect(self.dsn, autocommit=True, options="-c search_path=pgstac,public")


@dataclass
class PostgresServer:
    """A cluster on the loopback interface with one superuser.

    Attributes:
        folder: the cluster's files.
        account: the system account that the server runs as; None for the current one.
    """

    folder: Path
    account: str | None
    port: int = 0
    host: str = "127.0.0.1"
    user: str = "keeper"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    _process: subprocess.Popen[bytes] | None = None

    def create_pgstac(self, name: str, version: str = PRODUCTION_PGSTAC) -> PgstacDatabase:
        """Create a database with an empty pgSTAC of that version.

        The first one of a version takes seconds; all others are copied from it.

        Args:
            name: of the database.
            version: one that pypgstac's wheel carries; see `PGSTAC_VERSIONS`.
        """
        template = self.database(f"template_pgstac_{version.replace('.', '_')}", version)
        with self._maintenance() as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template.name])
            if exists.fetchone() is None:
                unfinished = self.database(f"{template.name}_unfinished", version)
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(unfinished.name)))
                _migrate(unfinished)
                connection.execute(
                    SQL("ALTER DATABASE {} RENAME TO {}").format(
                        Identifier(unfinished.name), Identifier(template.name)
                    )
                )
            connection.execute(
                SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template.name))
            )
        return self.database(name, version)

    def create_empty(self, name: str) -> PgstacDatabase:
        """Create a database without pgSTAC, for somebody else's tables."""
        with self._maintenance() as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.database(name, "none")

    def drop(self, name: str) -> None:
        """Remove a database, even while others are connected to it."""
        with self._maintenance() as connection:
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def database(self, name: str, version: str) -> PgstacDatabase:
        """Say how to reach a database of this cluster."""
        return PgstacDatabase(self.host, self.port, self.user, self.password, name, version)

    def start(self) -> None:
        """Start the server on a free port and wait until it answers.

        Raises:
            RuntimeError: it ended or does not answer; the message has the end of its log.
        """
        self.port = self.port or free_port()
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "jit": "off",
            "max_connections": "60",
            "shared_buffers": "128MB",
            "timezone": "UTC",
        }
        # The kernel ends the server when the tests die, even by SIGKILL.
        command = ["setpriv", "--pdeathsig", "QUIT", "--"]
        command += [server_program("postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.account,
                group=_group_of(self.account),
                extra_groups=[] if self.account else None,
            )
        self._wait_until_it_answers()

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server. `at_once` cuts every connection as a crash does; `start` brings it back."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._maintenance().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")[-2000:]
                    self.stop(at_once=True)
                    raise RuntimeError(f"PostgreSQL did not start:\n{log}") from None
                time.sleep(0.05)
            else:
                return

    def _maintenance(self) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a private cluster for as long as the block lasts.

    Raises:
        RuntimeError: PostgreSQL or PostGIS is not installed; the message says what to install.
    """
    folder = Path(tempfile.mkdtemp(prefix="mosaic-postgres-"))
    server = PostgresServer(folder, _account())
    try:
        _create_cluster(server)
        server.start()
        yield server
    finally:
        server.stop(at_once=True)
        shutil.rmtree(folder)


def _create_cluster(server: PostgresServer) -> None:
    account = server.account
    if account:
        shutil.chown(server.folder, account)
    password_file = server.folder / "password"
    password_file.write_text(server.password)
    if account:
        shutil.chown(password_file, account)
    made = subprocess.run(
        [
            server_program("initdb"),
            f"--pgdata={server.folder / 'data'}",
            f"--username={server.user}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=False,
        user=account,
        group=_group_of(account),
        extra_groups=[] if account else None,
    )
    if made.returncode:
        raise RuntimeError(f"initdb failed:\n{made.stderr}")


def _migrate(database: PgstacDatabase) -> None:
    # In another process, since importing pypgstac replaces psycopg's JSON loader for the whole process.
    migrated = subprocess.run(
        [sys.executable, "-m", "pypgstac.pypgstac", "migrate", "--toversion", database.version],
        env=os.environ | database.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if migrated.returncode:
        missing = "postgis" in migrated.stderr
        raise RuntimeError(f"{WHAT_TO_INSTALL}\n{migrated.stderr}" if missing else migrated.stderr)


def server_program(name: str) -> str:
    """Find one of the server's programs, which Debian keeps off the PATH; the newest if there are several."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    search = os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")])
    found = shutil.which(name, path=search)
    if found is None:
        raise RuntimeError(f"the program {name} is not installed; {WHAT_TO_INSTALL}")
    return found


def _account() -> str | None:
    """The account for PostgreSQL, which refuses to run as root; None for the current one."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _group_of(account: str | None) -> int | None:
    return pwd.getpwnam(account).pw_gid if account else None
