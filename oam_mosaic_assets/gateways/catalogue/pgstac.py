"""Reading a collection from pgSTAC's tables. All of the project's PostgreSQL queries are here.

Everything is read in one transaction that sees a single state of the database, and needs no more rights than
SELECT on pgSTAC's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, ClassVar, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from oam_mosaic_assets.core.shortened import shortened
from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable, MosaicError
from oam_mosaic_assets.gateways.catalogue.pgstac_rows import Rows, Templates
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Item, Unreadable, numbered

KNOWN_VERSIONS: Final = ("0.9.", "0.10.")
"""Prefixes of the pgSTAC versions whose tables are known here."""

ROWS_AT_A_TIME: Final = 1000
"""Rows held in memory; an item is about 2 kB."""

COLLECTIONS_NAMED: Final = 10

_Answer = TypeVar("_Answer")

_CONNECTION: Final = {
    "connect_timeout": 10,
    "fallback_application_name": "oam-mosaic",
    # A host that vanished is noticed within a minute, even while waiting for the server to answer; the last,
    # if it vanished before it confirmed the question: Linux would send it again for a quarter of an hour.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""Seconds and names for libpq, unless the connection's settings say otherwise."""

# This statement fixes the transaction's view of the database, and only then reads the clock: nothing that is
# committed later than `taken_at` is in that view. (`now()` is older than the view.)
_LOOK_AROUND: Final = """
    SELECT clock_timestamp(),
           set_config('statement_timeout', %(timeout)s, true),
           -- between two statements, what was read is sorted and written
           set_config('idle_in_transaction_session_timeout', '0', true),
           to_regclass('pgstac.migrations') IS NOT NULL,
           to_regclass('pgstac.base_items') IS NOT NULL,
           EXISTS (
               SELECT FROM pg_attribute
               WHERE attrelid = to_regclass('pgstac.items') AND attname = 'content' AND NOT attisdropped
           )
"""
_LIMIT: Final = "SELECT set_config('statement_timeout', %(timeout)s, true)"
_VERSION: Final = "SELECT version FROM pgstac.migrations ORDER BY datetime DESC, version DESC LIMIT 1"
_COLLECTIONS: Final = "SELECT id FROM pgstac.collections ORDER BY id LIMIT %(limit)s"
_COUNT: Final = "SELECT count(*) FROM pgstac.items WHERE collection = %(collection)s"
_ITEMS: Final = "SELECT id, geometry, content::text FROM pgstac.items WHERE collection = %(collection)s"
_SOME_ITEMS: Final = f"{_ITEMS} AND id = ANY(%(ids)s)"
# No pgSTAC table says when a row last changed, so all rows are hashed, together with the templates that
# complete them. The watermark sums these 64-bit hashes, as rows have no order. 22,792 items take 0.1 s.
_HASH: Final = """hashtextextended(content::text, hashtextextended(
    coalesce(geometry::text, ''), hashtextextended(id, %(templates)s)
))"""
_HASHES: Final = f"SELECT id, {_HASH} FROM pgstac.items WHERE collection = %(collection)s"  # noqa: S608
_WATERMARK: Final = f"""
    SELECT count(*)::text || '-' || coalesce(sum({_HASH}), %(templates)s)::text
    FROM pgstac.items WHERE collection = %(collection)s
"""  # noqa: S608
_IDS: Final = "SELECT id FROM pgstac.items WHERE collection = %(collection)s"
_HOLDINGS: Final = "SELECT (SELECT count(*) FROM pgstac.collections), (SELECT count(*) FROM pgstac.items)"
_TEMPLATE: Final = "SELECT base_item FROM pgstac.collections WHERE id = %(collection)s"
# Since 0.10 an item names the template it was stored with; one that names none was stored with the first.
_TEMPLATES: Final = (
    "SELECT id::text, base_item FROM pgstac.base_items WHERE collection = %(collection)s ORDER BY id"
)

_ACCESS: Final = """
    SELECT quote_ident(current_user), rolsuper, 'pgstac.' || relname,
           has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT'),
           has_table_privilege(pg_class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
    FROM pg_roles LEFT JOIN pg_class ON relnamespace = to_regnamespace('pgstac')
         AND relname IN ('migrations', 'collections', 'items', 'base_items')
    WHERE rolname = current_user ORDER BY relname
"""

_SHORTEST_MASKED: Final = 4  # shorter ones occur in any text, and masking would give them away

# For a refused connection, libpq gives no SQLSTATE, only the server's message. If that is not in English, the
# refusal is taken for an outage; the message is shown either way.
_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "permission denied",
    "is not permitted to log in",
    "pg_hba.conf",
    "SSL was required",
    "certificate",
    "invalid ",
)
_CANCELLED: Final = "57014"
_OUTPACED: Final = "40001"
"""Of a standby: it had to apply a change of the primary that removes what was being read."""
_REFUSING_CLASSES: Final = ("0A", "28", "3D", "3F", "42")
"""SQLSTATE classes: not supported, authorisation, no such database or schema, access and names."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who reads a database, and with which rights.

    Attributes:
        user: the name of the role, as SQL has it: in quotes where it needs them.
        is_superuser: whether it may do everything.
        unreadable: tables that a build reads but the user may not.
        writable: tables that a build reads and the user may change.
        postgres: version of the server.
        pgstac: version of pgSTAC; None if it cannot be read.
    """

    user: str
    is_superuser: bool
    unreadable: tuple[str, ...]
    writable: tuple[str, ...]
    postgres: str
    pgstac: str | None


class PgstacCatalogue:
    """One collection of a pgSTAC database.

    Args:
        connection: a libpq connection string or address, or its parts under libpq's names (`host`, `port`,
            `user`, `password`, `dbname`). What it leaves out, libpq fills in as it does for psql.
        collection: the collection's id.
        statement_timeout_seconds: how long the server may take for the count, or for the next thousand items.
        can_be_raised: whether it would be longer if PG_STATEMENT_TIMEOUT were.

    Attributes:
        database: HOST:PORT/DATABASE.

    Raises:
        CatalogueRefused: the connection string cannot be parsed.
    """

    kind = "pgstac"

    def __init__(
        self,
        connection: str | Mapping[str, str | int | None],
        collection: str,
        *,
        statement_timeout_seconds: float = 600,
        can_be_raised: bool = True,
    ) -> None:
        parts = _parts(connection) if isinstance(connection, str) else dict(connection)
        self._parts: dict[str, Any] = _CONNECTION | parts
        self._collection = collection
        self._timeout = f"{round(statement_timeout_seconds * 1000)}ms"
        self._can_be_raised = can_be_raised
        self.database = _place(parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"

    @property
    def origin(self) -> str:
        return f"pgSTAC {self.database}, collection {self._collection}"

    @contextmanager
    def snapshot(self) -> Iterator[PgstacSnapshot]:
        with self._connected() as connection:
            yield self._open(connection)

    def access(self) -> Access:
        """Find out what the user may do, whether or not it can read the collection. Raises as `snapshot`."""
        with self._connected() as connection:
            self._guarded(lambda: connection.execute(_LIMIT, {"timeout": self._timeout}))
            rows = self._guarded(lambda: connection.execute(_ACCESS).fetchall())
            is_known = any(table == "pgstac.migrations" and may_read for *_, table, may_read, _ in rows)
            versions = self._guarded(lambda: connection.execute(_VERSION).fetchall()) if is_known else []
            return Access(
                user=rows[0][0],
                is_superuser=rows[0][1],
                unreadable=tuple(table for *_, table, may_read, _ in rows if table and not may_read),
                writable=tuple(table for *_, table, _, may_write in rows if may_write),
                postgres=str(connection.info.parameter_status("server_version")).split()[0],
                pgstac=next((name for (name,) in versions), None),
            )

    def count(self) -> int:
        with self.snapshot() as snapshot:
            return snapshot.expected

    def ids(self) -> Iterator[object]:
        with self.snapshot() as snapshot:
            yield from snapshot.ids()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[TupleRow]]:
        connection = self._guarded(lambda: psycopg.connect(**self._parts))
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
        finally:
            connection.close()

    def _open(self, connection: psycopg.Connection[TupleRow]) -> PgstacSnapshot:
        def ask(question: str, **values: object) -> list[TupleRow]:
            return self._guarded(lambda: connection.execute(question, values).fetchall())

        ((taken_at, _, _, is_pgstac, has_templates, has_content),) = ask(_LOOK_AROUND, timeout=self._timeout)
        if not is_pgstac:
            raise CatalogueRefused(
                f"there is no pgSTAC in {self.database}",
                hint="Use the database that the STAC API reads; its tables are in the schema pgstac.",
            )
        version = next((name for (name,) in ask(_VERSION)), "unknown")
        if not has_content or not version.startswith(KNOWN_VERSIONS):
            raise CatalogueRefused(
                f"{self.database} holds pgSTAC {version}, which is not supported",
                hint="Read the catalogue through its STAC API until this version is supported.",
            )
        found = ask(_TEMPLATE, collection=self._collection)
        if not found:
            others = ", ".join(shortened(name) for (name,) in ask(_COLLECTIONS, limit=COLLECTIONS_NAMED))
            raise CatalogueRefused(
                f"{self.database} has no collection {self._collection!r}; available: {others or 'none'}",
                hint="Set COLLECTION to one of these.",
            )
        current = found[0][0]
        tagged = ask(_TEMPLATES, collection=self._collection) if has_templates else []
        first = tagged[0][1] if tagged else current
        ((count,),) = ask(_COUNT, collection=self._collection)
        return PgstacSnapshot(
            taken_at=taken_at.astimezone(UTC),
            expected=count,
            _templates=Templates(dict(tagged), first=first, current=current),
            _rows=lambda question, **values: self._rows(connection, question, values),
        )

    def _rows(
        self, connection: psycopg.Connection[TupleRow], question: str, values: Mapping[str, object]
    ) -> Iterator[TupleRow]:
        with connection.cursor("items", binary=True) as cursor:
            stated = {"collection": self._collection, **values}
            self._guarded(lambda: cursor.execute(question, stated))
            while rows := self._guarded(lambda: cursor.fetchmany(ROWS_AT_A_TIME)):
                yield from rows

    def _guarded(self, call: Callable[[], _Answer]) -> _Answer:
        """Call the driver, and turn its errors into this project's."""
        try:
            return call()
        except psycopg.Error as error:
            failure = self._failure(error)
        # Raised outside the handler, so without the driver's error as context, which holds the password.
        raise failure

    def _failure(self, error: psycopg.Error) -> MosaicError:
        # when a connection fails the driver says a lot; the cause is at the end of its first line
        wrong = error.diag.message_primary or str(error).partition("\n")[0].rpartition(" failed: ")[2]
        told = shown = " ".join(wrong.split())
        if len(password := str(self._parts.get("password") or "")) >= _SHORTEST_MASKED:
            shown = told.replace(password, "***")
        message = f"PostgreSQL at {self.database}: {shown}"
        if error.sqlstate is None:
            refused = any(words in told for words in _REFUSALS)
            hint = "Check the user, the password and the database name."
        else:
            refused = error.sqlstate.startswith(_REFUSING_CLASSES)
            hint = "Give the user the role pgstac_read, or SELECT on all tables of the schema pgstac."
        if refused:
            return CatalogueRefused(message, hint=hint)
        where = "Check its host in PGHOST or PG_DSN, and check" if "resolve host" in told else "Check"
        hint = f"{where} that the database is up and reachable, then run again."
        if error.sqlstate == _CANCELLED:
            more_time = ", or raise PG_STATEMENT_TIMEOUT" if self._can_be_raised else ""
            hint = f"Find out what keeps the database busy{more_time}; then run again."
        if error.sqlstate == _OUTPACED:
            hint = "Read the primary, or raise max_standby_streaming_delay of this standby; then run again."
        failure = CatalogueUnavailable(message, hint=hint)
        failure.is_out_of_time = error.sqlstate == _CANCELLED
        return failure


@dataclass(frozen=True, slots=True)
class PgstacSnapshot:
    """What one transaction sees of the collection; see `source.Snapshot`."""

    is_exact: ClassVar[bool] = True

    taken_at: datetime
    expected: int
    _templates: Templates
    _rows: Callable[..., Iterator[TupleRow]]

    def watermark(self) -> str:
        ((watermark,),) = self._rows(_WATERMARK, templates=self._templates.hash())
        return str(watermark)

    def hashes(self) -> Iterator[tuple[str, int]]:
        return ((name, number) for name, number in self._rows(_HASHES, templates=self._templates.hash()))

    def holdings(self) -> Holdings:
        ((collections, items),) = self._rows(_HOLDINGS)
        return Holdings(collections=collections, items=items)

    def ids(self) -> Iterator[str]:
        return (name for (name,) in self._rows(_IDS))

    def items(self) -> Iterator[Item | Unreadable]:
        return chain.from_iterable(each.items() for each in self.batches())

    def batches(self, ids: Collection[str] | None = None) -> Iterator[Rows]:
        rows = self._rows(_ITEMS) if ids is None else self._rows(_SOME_ITEMS, ids=list(ids))
        return (Rows(first, some, self._templates) for first, some in numbered(rows))


def _parts(address: str) -> dict[str, Any]:
    """Parse a connection string.

    An unescaped character in the password makes libpq take the rest of it for the host or the database, and
    name it in messages; so anything that looks like that is refused, and none of it is shown.
    """
    with suppress(psycopg.ProgrammingError):
        parts: dict[str, Any] = conninfo_to_dict(address)
        port_is_one = str(parts.get("port") or "5432").replace(",", "").isdigit()
        if port_is_one and "@" not in f"{parts.get('host')}{parts.get('dbname')}":
            return parts
    raise CatalogueRefused(
        "the address of the database cannot be parsed",
        hint="Set PG_DSN to postgresql://USER:PASSWORD@HOST:5432/DATABASE, with special characters in the"
        " password written as %XX (@ is %40, / is %2F); or give its parts (PGHOST, PGUSER, PGPASSWORD,"
        " PGDATABASE) instead.",
    )


def _place(parts: Mapping[str, Any]) -> str:
    """HOST:PORT/DATABASE, including what libpq takes from the environment."""
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val is not None
    }
    known = defaults | {key: str(value) for key, value in parts.items() if value not in (None, "")}
    host = known.get("host") or known.get("hostaddr") or "localhost"
    return f"{host}:{known.get('port', '5432')}/{known.get('dbname') or known.get('user', '')}"
