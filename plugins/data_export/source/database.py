"""One read-only transaction on the source, and the meaning of its errors."""

import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from adbc_driver_manager import Error

from data_export.errors import DataExportError, SourceRejected, SourceUnavailable
from data_export.source.queries import Query

if TYPE_CHECKING:
    from adbc_driver_manager import dbapi

#: Size of the batches asked of the driver: it bounds the memory of extract and, as row groups, that of transform.
BATCH_BYTES = 2 << 20

# What libpq should do where the connection does not say: give up on a server that is gone.
_CONNECTION = {
    "application_name": "data_export",
    "client_encoding": "UTF8",
    "connect_timeout": "15",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
_SESSION = {
    "TimeZone": "UTC",
    "jit": "off",  # compiles longer than these queries run
    "work_mem": "64MB",  # sorts one site's window in memory
    # The default is that of spinning disks: with it the planner reads whole tables for one site's day.
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # one backend of the source per export, and rows in the order of the tables
    "statement_timeout": "2h",  # a whole table's stream; the role's own limit is meant for interactive queries
    "lock_timeout": "30s",  # a migration holds the table: try again later
    "idle_in_transaction_session_timeout": "15min",  # a worker that hangs must not hold back the source's vacuum
}
# SQLSTATE classes of what a retry cannot help: data, login, catalogue, syntax, rights, unsupported.
_PERMANENT = ("0A", "22", "23", "25", "28", "2F", "34", "3D", "3F", "42", "P0")
# What libpq says, without SQLSTATE, where trying again is of no use.
_REFUSED = (
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "does not exist",
    "permission denied",
    "certificate verify failed",
    "does not support SSL",
    "invalid URI",
    "invalid connection option",
    "invalid port",
    "invalid integer value",
    'missing "="',
)


class Source:
    """An open transaction, created by `open_source`."""

    def __init__(self, connection: "dbapi.Connection", dsn: str) -> None:
        self._connection = connection
        self._dsn = dsn

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
                raise _translated(error, self._dsn, query) from None
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
                    raise _translated(error, self._dsn, query) from None
                raise


def _execute(cursor: "dbapi.Cursor", sql: str) -> Iterator[pa.RecordBatch]:
    cursor.execute(sql)
    # Not fetch_record_batch(): the errors of that reader carry no SQLSTATE.
    results = cursor._results
    if results is None:
        raise SourceRejected("a query of include/sql/ returned no rows at all: it must be a SELECT")
    return iter(results.reader)


@contextmanager
def open_source(dsn: str, *, patience: float | None = None) -> Iterator[Source]:
    """A read-only REPEATABLE READ transaction: everything read in it is from one moment.

    `dsn` is a libpq URI or `key=value` string. With `patience`, the connection and each query are abandoned after
    about that many seconds, because a person is waiting.

    Raises:
        SourceUnavailable: no connection, a restart, a timeout, too many clients.
        SourceRejected: the login, the database or the connection string itself is refused.
    """
    from adbc_driver_postgresql import dbapi  # imports pandas where it is installed, which transform can do without

    if urlsplit(dsn).netloc.count("@") > 1:
        raise SourceRejected("the source connection has a bare '@' in its login or password: write it as %40")
    try:
        connection = dbapi.connect(_with_defaults(dsn, patience))
    except Error as error:
        raise _translated(error, dsn, None) from None
    try:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                hurry = {"statement_timeout": f"{patience * 1000:.0f}ms", "lock_timeout": "1s"} if patience else {}
                session = _SESSION | hurry
                settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in session.items())
                cursor.execute(f"SELECT {settings}")
        except Error as error:
            raise _translated(error, dsn, None) from None
        yield Source(connection, dsn)
    finally:
        with suppress(Error):  # after a lost connection there is nothing left to close
            connection.close()


def _with_defaults(dsn: str, patience: float | None) -> str:
    defaults = _CONNECTION | ({"connect_timeout": str(max(2, round(patience)))} if patience else {})
    missing = [f"{name}={value}" for name, value in defaults.items() if f"{name}=" not in dsn]
    if "://" not in dsn:
        return " ".join([dsn, *missing])
    return dsn + ("&" if "?" in dsn.rsplit("@", 1)[-1] else "?") + "&".join(missing)


def _translated(error: Exception, dsn: str, query: Query | None) -> DataExportError:
    """One line that says what the source said, where, and what to change; never the password."""
    details = {str(key, "ascii"): str(text, "utf-8", "replace") for key, text in getattr(error, "details", ())}
    state = getattr(error, "sqlstate", None)
    said = details.get("PG_DIAG_MESSAGE_PRIMARY") or " ".join(str(error).removeprefix("IO: [libpq] ").split())
    said = _without_password(said, dsn)
    if state is None:
        refused = query is None and any(word in said for word in _REFUSED)
        fix = "check the source's connection (source.conn_id in platform.yaml)"
        return SourceRejected(f"source: {said}: {fix}") if refused else SourceUnavailable(f"source: {said}")
    if not state.startswith(_PERMANENT):
        return SourceUnavailable(f"source: {said} (SQLSTATE {state})")
    position = details.get("PG_DIAG_STATEMENT_POSITION")
    where = query.where(int(position) if position else None) if query else "source"
    return SourceRejected(f"{where}: {said} (SQLSTATE {state}): {_fix(state)}")


def _fix(state: str) -> str:
    if state == "42501":
        return "grant the source connection's user SELECT on it"
    if state.startswith("28") or state == "3D000":
        return "check the source's connection (source.conn_id in platform.yaml)"
    return "mend the query; the comment at its top says which columns it must return"


def _without_password(text: str, dsn: str) -> str:
    found = re.search(r"password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s&]+))", dsn)
    secrets = [urlsplit(dsn).password or "", *(found.groups() if found else ())]
    for secret in secrets:
        for spelling in {secret, unquote(secret or "")} - {"", None}:
            text = text.replace(spelling, "***")
    return text
