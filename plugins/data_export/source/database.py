"""One read-only transaction on the source, and the meaning of its errors."""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pyarrow as pa
from adbc_driver_manager import Error

from data_export.errors import SourceRejected
from data_export.source.errors import is_uri, translated
from data_export.source.queries import Query
from data_export.source.snapshot import TABLES, Found

if TYPE_CHECKING:
    from adbc_driver_manager import dbapi

#: Size of the batches asked of the driver: it bounds the memory of extract and, as row groups, that of transform.
BATCH_BYTES = 2 << 20

# The names of the five types that our queries return: without this, connecting reads the source's whole catalogue.
_DRIVER = {"adbc.postgresql.type_resolver_mode": "builtin"}
# What libpq should do where the connection does not say: give up on a server that is gone.
_CONNECTION = {
    "application_name": "data_export",
    "connect_timeout": "15",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
_SESSION = {
    # What decides how a value reads as text: the same source gives the same bytes, whatever connection, login or
    # database have set. The driver takes every text for UTF-8.
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO",  # the order of day and month in a text stays the database's
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",  # as `sql_text` reads the queries
    "jit": "off",  # compiles longer than these queries run
    "work_mem": "64MB",  # sorts one site's window in memory
    # The default is that of spinning disks: with it the planner reads whole tables for one site's day.
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # one backend of the source per export, and rows in the order of the tables
    "statement_timeout": "2h",  # a whole table's stream; the role's own limit is meant for interactive queries
    "lock_timeout": "30s",  # a migration holds the table: try again later
    "idle_in_transaction_session_timeout": "15min",  # a worker that hangs must not hold back the source's vacuum
    "transaction_timeout": "0",  # from PostgreSQL 17; the two hours of a statement are the bound
}
#: What row-level security may do: end the query where a policy applies to our login, or choose its rows.
RowSecurity = Literal["refuse", "apply"]
#: libpq's URI or `key=value` string, or what makes one for each connection anew: a token lives for minutes only.
Dsn = str | Callable[[], str]


_ABILITIES = Query(
    "SELECT current_setting('server_encoding') <> 'SQL_ASCII', "
    "to_regproc('pg_catalog.pg_column_compression') IS NOT NULL",
    (),
)
# A lock keeps a table as it is from the first query that names it, but the moment is chosen before that: to it, a table
# that was rewritten or filled anew in between is empty. What is selected from a catalogue is of the moment, what a
# function says is the newest. Where another's function could take the very types, ours has its schema, see `snapshot`.
_LOCKED_TABLES = Query(
    """
SELECT string_agg(DISTINCT l.relation::regclass::text, ', ') FILTER (WHERE c.oid IS NULL
        OR c.relfilenode <> '0' AND c.relkind <> 'm' AND c.relfilenode <> pg_catalog.pg_relation_filenode(c.oid)
        OR pg_catalog.format('%I.%I', n.nspname, c.relname) <> (pg_identify_object(c.tableoid, c.oid, 0)).identity),
    bool_or(c.relkind = 'f')
FROM pg_locks AS l LEFT JOIN pg_class AS c ON c.oid = l.relation LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation'
    AND (pg_identify_object('1259'::oid, l.relation, 0)).type <> 'index'
""",
    (),
)


class Source:
    """An open transaction, created by `open_source`."""

    def __init__(self, connection: "dbapi.Connection", dsn: str, begin: Callable[[], None]) -> None:
        self._connection = connection
        self._dsn = dsn
        self._begin = begin

    def renew(self) -> None:
        """Begins a new transaction, which shows a newer moment; needed after an error."""
        try:
            self._connection.rollback()
            self._begin()
        except Error as error:
            raise translated(error, self._dsn, None) from None

    def found(self, query: Query) -> Found:
        """The types of what `Queries.columns()` returns; nothing is read."""
        encoded, tells_compression = self.row(_ABILITIES) or (True, False)
        with self._connection.cursor() as cursor:
            try:
                fields = iter(cursor.adbc_execute_schema(query.text))
            except (Error, OSError) as error:
                raise translated(error, self._dsn, query) from None
        types = {table: {name: _type_of(next(fields)) for name in schema.names} for table, schema in TABLES.items()}
        return Found(types, bool(encoded), bool(tells_compression))

    def locked_tables(self) -> tuple[str, bool]:
        """Those that are no longer what they were at the moment that the transaction shows; whether any is foreign."""
        changed, foreign = self.row(_LOCKED_TABLES) or (None, None)
        return str(changed or ""), bool(foreign)

    def plan(self, query: Query) -> dict[str, Any]:
        """How the source would run the query, by `EXPLAIN`; it checks every right, and reads nothing."""
        explained = query.after("EXPLAIN (FORMAT JSON) ")
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            try:
                cursor.execute(explained.text)
                row = cursor.fetchone()
            except (Error, OSError) as error:
                raise translated(error, self._dsn, explained) from None
        plans: list[dict[str, Any]] = json.loads(str(row[0])) if row else []
        return plans[0]["Plan"] if plans else {}

    def value(self, query: Query) -> object:
        """The first column of the first row."""
        row = self.row(query)
        return row[0] if row else None

    def row(self, query: Query) -> tuple[object, ...] | None:
        """The first row."""
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(query.text)
                row: tuple[object, ...] | None = cursor.fetchone()
            except (Error, OSError) as error:
                raise translated(error, self._dsn, query) from None
        return row

    def batches(self, query: Query) -> Generator[pa.RecordBatch, None, None]:
        """Streams the rows by binary COPY, about `BATCH_BYTES` at a time.

        A thread reads from the server, one batch ahead. Writing thus overlaps reading, and this thread stays free for
        signals, so that a task cancels the query at once when it has to stop.
        """
        with self._connection.cursor() as cursor, ThreadPoolExecutor(1, "source") as server:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            try:
                rows = server.submit(_execute, cursor, query.text).result()
                following = server.submit(next, rows, None)
                while (batch := following.result()) is not None:
                    following = server.submit(next, rows, None)
                    yield batch
            except BaseException as error:
                with suppress(Error):
                    cursor.adbc_cancel()  # else leaving would wait until the server has sent everything
                if isinstance(error, Error | OSError):
                    raise translated(error, self._dsn, query) from None
                raise


def _type_of(field: pa.Field) -> str:
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b""), "utf-8")


def _execute(cursor: "dbapi.Cursor", sql: str) -> Iterator[pa.RecordBatch]:
    cursor.execute(sql)
    # Not fetch_record_batch(): the errors of that reader carry no SQLSTATE.
    results = cursor._results
    if results is None:
        raise SourceRejected("a query of include/sql/ returned no rows at all: it must be a SELECT")
    return iter(results.reader)


@contextmanager
def open_source(
    dsn: Dsn,
    *,
    patience: float | None = None,
    row_security: RowSecurity = "refuse",
    before: Sequence[Callable[[Source], None]] = (),
) -> Iterator[Source]:
    """A read-only REPEATABLE READ transaction: everything read in it is of one moment.

    With `patience` the connection and each query are given up after about so many seconds, since a person waits. What
    is in `before` is called before the moment is chosen, each with a transaction of the same connection in which every
    query sees the newest state.

    Raises:
        SourceUnavailable: no connection, a restart, a timeout, too many clients.
        SourceRejected: the login, the database or the connection string itself is refused.
        DataExportError: as `dsn`, where it is to make one.
    """
    from adbc_driver_postgresql import dbapi  # imports pandas where it is installed, which transform can do without

    dsn = dsn if isinstance(dsn, str) else dsn()
    if is_uri(dsn) and urlsplit(dsn).netloc.count("@") > 1:
        raise SourceRejected("the source connection has a bare '@' in its login or password: write it as %40")
    try:
        connection = dbapi.connect(_with_defaults(dsn, patience), db_kwargs=_DRIVER)
    except Error as error:
        raise translated(error, dsn, None) from None
    try:
        settings = _SESSION | {"row_security": "on" if row_security == "apply" else "off"}
        if patience:
            settings |= {"statement_timeout": f"{patience * 1000:.0f}ms", "lock_timeout": "1s"}
        try:
            for step in before:
                newest = partial(_begin, connection, "READ COMMITTED", settings)
                newest()
                step(Source(connection, dsn, newest))
                connection.rollback()
            one_moment = partial(_begin, connection, "REPEATABLE READ", settings)
            one_moment()
        except Error as error:
            raise translated(error, dsn, None) from None
        yield Source(connection, dsn, one_moment)
    finally:
        with suppress(Error):  # after a lost connection there is nothing left to close
            connection.close()


def _begin(connection: "dbapi.Connection", level: str, settings: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level} READ ONLY")
        rows = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
        cursor.execute(
            f"SELECT set_config(name, value, true) FROM (VALUES {rows}) AS wanted(name, value) "  # noqa: S608 - our own
            "WHERE current_setting(name, true) IS NOT NULL"  # else this version of the server does not know it
        )


def _with_defaults(dsn: str, patience: float | None) -> str:
    """The defaults come first: of an option that is given twice, libpq takes the last."""
    defaults = _CONNECTION | ({"connect_timeout": str(max(2, round(patience)))} if patience else {})
    options = [f"{name}={value}" for name, value in defaults.items()]
    if not is_uri(dsn):
        return " ".join([*options, dsn])
    head, at, address = dsn.rpartition("@")
    place, _, query = address.partition("?")
    return head + at + place + "?" + "&".join([*options, *([query] if query else [])])
