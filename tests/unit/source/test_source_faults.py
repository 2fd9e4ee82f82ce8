"""What each fault of the source, and of ours, becomes."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from adbc_driver_manager import AdbcStatusCode, OperationalError

from data_export.errors import DataExportError, SourceRejected, SourceUnavailable
from data_export.source.errors import translated
from tests.unit.source_kit import ORDER, SourceDatabase, run_extract


def test_refusals_name_the_fix_and_never_the_password(one_order: SourceDatabase, tmp_path: Path) -> None:
    password = urlsplit(one_order.dsn).password
    assert password
    one_order.connection.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'canary-8f2c'")
    port = urlsplit(one_order.dsn).port
    refusals = {
        one_order.dsn.replace(password, "canary-8f2c"): "password authentication failed.*source.conn_id",
        one_order.dsn.replace("/source", "/nowhere"): 'database "nowhere" does not exist',
        f"postgresql://reader:canary-8f2c@127.0.0.1:{port}/source": "permission denied.*grant .* SELECT",
        f"postgresql://reader:canary-8f2c@x@127.0.0.1:{port}/source": "%40",
        f"host=127.0.0.1 port={port} user=nobody password=canary-8f2c dbname=source": "password authentication failed",
        f"postgresql://reader:canary-8f2c@127.0.0.1:{port}/source?no_such=1": "no_such",
        f"host=127.0.0.1 port={port} user=nobody password=canary-8f2c service=absent": "service",
    }
    for dsn, message in refusals.items():
        with pytest.raises(SourceRejected, match=message) as caught:
            run_extract(one_order, tmp_path, dsn=dsn)
        assert "canary" not in str(caught.value)
        assert password not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_short_password_makes_no_refusal_unreadable(one_order: SourceDatabase, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected, match="invalid connection"):
        run_extract(one_order, tmp_path, dsn="host=127.0.0.1 user=reader password=p no_such=1")


def test_a_server_that_is_not_there_is_worth_a_retry(one_order: SourceDatabase, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dsn = f"postgresql://reader:canary-8f2c@127.0.0.1:{closed.getsockname()[1]}/source"
        with pytest.raises(SourceUnavailable, match="Connection refused") as caught:
            run_extract(one_order, tmp_path, dsn=dsn)
    assert "canary" not in str(caught.value)
    with pytest.raises(SourceUnavailable, match="could not translate host name"):
        run_extract(one_order, tmp_path, dsn="postgresql://reader:canary-8f2c@no-such-host.invalid/source")


@pytest.fixture
def slow(sql: Path) -> Path:
    """Queries whose job_conformity takes minutes."""
    path = sql / "job_conformity.sql"
    path.write_text(
        path.read_text()
        + "\nCROSS JOIN LATERAL (SELECT pg_sleep(inputs.work_order_number * 0.1) FROM generate_series(1, 1000)) AS nap"
    )
    return sql


def others(source: SourceDatabase, function: str) -> int:
    """Calls a function on every backend of the service; how many there were."""
    rows = source.connection.execute(
        f"SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = 'data_export' AND state = 'active'"
    )
    return len(rows.fetchall())


@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_session_that_the_server_ends_is_worth_a_retry(
    one_order: SourceDatabase, tmp_path: Path, slow: Path, function: str
) -> None:
    def end() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not asleep(one_order):
            time.sleep(0.05)
        others(one_order, function)

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(SourceUnavailable):
        run_extract(one_order, tmp_path, slow)
    ender.join()


def asleep(source: SourceDatabase) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'data_export' AND wait_event = 'PgSleep'"
    row = source.connection.execute(query).fetchone()
    assert row is not None
    return bool(row[0])


class Stopped(BaseException):
    """What a task that is told to stop raises, from a signal's handler."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_a_stopped_task_ends_its_query_at_once(one_order: SourceDatabase, tmp_path: Path, slow: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_extract(one_order, tmp_path, slow)
    assert time.monotonic() - began < 10  # not the 100 s of the query
    deadline = time.monotonic() + 10
    while asleep(one_order) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not asleep(one_order)


def test_a_fault_of_ours_ends_the_query_at_once(one_order: SourceDatabase, tmp_path: Path, slow: Path) -> None:
    path = slow / "work_item.sql"
    path.write_text(path.read_text().replace("work_orders.work_order_number,", "NULL::int AS work_order_number,"))
    # The rows before the slow ones fill a batch of their own, so that they arrive while the source still works.
    many = [{"id": UUID(int=100 + k), "work_order_id": ORDER, "name": "x" * 1000} for k in range(4_000)]
    one_order.insert("work_item", many)
    began = time.monotonic()
    with pytest.raises(SourceRejected, match="work_order_number is NULL"):
        run_extract(one_order, tmp_path, slow)
    assert time.monotonic() - began < 10
    assert not asleep(one_order)


def test_connecting_reads_no_catalogue(one_order: SourceDatabase, tmp_path: Path) -> None:
    """The driver would read every type and every table's columns, which takes seconds of a large database."""

    def read() -> int:
        row = one_order.connection.execute(
            "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_sys_tables "
            "WHERE relname IN ('pg_attribute', 'pg_type', 'pg_class')"
        ).fetchone()
        assert row is not None
        return int(row[0])

    one_order.connection.execute("CREATE SCHEMA many")
    tables = (f"CREATE TABLE many.t{k} (a int, b text, c jsonb, d uuid)" for k in range(400))
    one_order.connection.execute(";".join(tables))
    try:
        run_extract(one_order, tmp_path)
        one_order.connection.execute("SELECT pg_stat_force_next_flush()")
        time.sleep(1)
        before = read()
        run_extract(one_order, tmp_path)
        time.sleep(1)
        assert read() - before < 4000  # 400 tables have 5,200 columns with those of the system
    finally:
        one_order.connection.execute("DROP SCHEMA many CASCADE")


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("FATAL: unsupported startup parameter: options", SourceRejected),
        ("FATAL: transaction blocks not allowed in statement pooling mode", SourceRejected),
        ("FATAL: no such database: source", SourceRejected),
        ("FATAL: SSL required", SourceRejected),
        ("FATAL: Tenant or user not found", SourceRejected),
        ("FATAL: query_wait_timeout", SourceUnavailable),
        ("FATAL: no more connections allowed (max_client_conn)", SourceUnavailable),
        ("FATAL: server login has been failing, try again later (server_login_retry)", SourceUnavailable),
    ],
)
def test_what_poolers_refuse_for_good_is_not_tried_again(said: str, becomes: type[DataExportError]) -> None:
    """They say it without an SQLSTATE that the driver passes on."""
    error = OperationalError(f"IO: [libpq] {said}", status_code=AdbcStatusCode.IO)
    assert type(translated(error, "postgresql://pooler/source", None)) is becomes
