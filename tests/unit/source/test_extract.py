"""Extract: one moment of the source, the editable queries, and what each fault of the source becomes."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
import pytest

from data_export.errors import PermanentError, SourceRejected, SourceUnavailable
from data_export.snapshot import NUMBER, TABLES
from data_export.source.extract import SQL_FOLDER, extract, require_site
from data_export.source.queries import Queries
from data_export.window import ExportWindow
from demo.servers.postgres import PostgresServer
from tests.unit.source_kit import SITE, STATES, TIMELINE, WINDOW, SourceDatabase

ORDER, ITEM, INPUT = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    """A copy of the queries to edit."""
    folder = tmp_path / "sql"
    folder.mkdir()
    for path in SQL_FOLDER.glob("*.sql"):
        (folder / path.name).write_text(path.read_text())
    return folder


@pytest.fixture
def one_order(source: SourceDatabase) -> SourceDatabase:
    source.insert("work_order", [{"id": ORDER, "site_id": SITE, "create_date": WINDOW.start}])
    source.insert("work_item", [{"id": ITEM, "work_order_id": ORDER}])
    source.insert("input", [{"id": INPUT, "work_item_id": ITEM}])
    source.insert("job_conformity", [{"input_id": INPUT, "analyzed_value": "1"}])
    return source


def run(source: SourceDatabase, folder: Path, sql_folder: Path = SQL_FOLDER, dsn: str | None = None) -> dict[str, int]:
    return extract(dsn or source.dsn, SITE, WINDOW, TIMELINE, folder, sql_folder=sql_folder)


def test_the_snapshot_has_the_tables_it_promises(one_order: SourceDatabase, tmp_path: Path) -> None:
    rows = run(one_order, tmp_path)
    assert rows == {"work_order": 1, "work_item": 1, "input": 1, "data_conformity": 0, "job_conformity": 1}
    for table, schema in TABLES.items():
        written = pq.read_table(tmp_path / f"{table}.parquet")
        assert written.schema.equals(schema)
        assert written.num_rows == rows[table]
        assert written[NUMBER].to_pylist() == [1] * rows[table]


@pytest.mark.parametrize("key_value", [False, True], ids=["uri", "key=value"])
def test_both_spellings_of_a_connection_work(one_order: SourceDatabase, tmp_path: Path, key_value: bool) -> None:
    dsn = one_order.dsn + "?application_name=mine"
    if key_value:
        parts = urlsplit(one_order.dsn)
        dsn = f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password} dbname=source"
    assert run(one_order, tmp_path, dsn=dsn)["work_order"] == 1


def test_a_file_is_one_moment_of_the_source(source: SourceDatabase, tmp_path: Path) -> None:
    """A writer changes every table in one transaction, over and over: no export may see half of one."""
    orders = [UUID(int=k << 32) for k in range(1, 40)]
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(source.dsn) as connection:
            version = 0
            while not stop.is_set():
                version += 1
                connection.execute("UPDATE work_order SET name = %s", [str(version)])
                connection.execute("DELETE FROM input")
                for k, order in enumerate(orders):
                    shot = UUID(int=order.int + (version << 8) + k % 3)
                    connection.execute(
                        "INSERT INTO input (id, work_item_id, file_extension) VALUES (%s, %s, %s)",
                        [shot, order, str(version)],
                    )
                    connection.execute(
                        "INSERT INTO job_conformity (input_id, message) VALUES (%s, %s)", [shot, str(version)]
                    )
                connection.execute("UPDATE work_item SET name = %s", [str(version)])
                connection.commit()

    source.insert("work_order", [{"id": order, "site_id": SITE, "create_date": WINDOW.start} for order in orders])
    source.insert("work_item", [{"id": order, "work_order_id": order} for order in orders])
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        deadline = time.monotonic() + 30
        while len(seen) < 4 and time.monotonic() < deadline:
            exported = source.export(tmp_path)
            tables = {table: pq.read_table(tmp_path / "snapshot" / f"{table}.parquet") for table in TABLES}
            versions = {
                *tables["work_order"]["name"].to_pylist(),
                *tables["work_item"]["name"].to_pylist(),
                *tables["input"]["file_extension"].to_pylist(),
                *tables["job_conformity"]["message"].to_pylist(),
            }
            if exported.rows["input"]:  # the writer has begun
                assert len(versions) == 1
                assert exported.rows == {
                    "work_order": 39,
                    "work_item": 39,
                    "input": 39,
                    "data_conformity": 0,
                    "job_conformity": 39,
                }
                seen |= versions
        assert len(seen) >= 4
    finally:
        stop.set()
        writer.join()


def test_an_unknown_site_is_an_error_and_an_idle_one_is_not(one_order: SourceDatabase, tmp_path: Path) -> None:
    later = ExportWindow(WINDOW.end, WINDOW.end + timedelta(days=1))
    assert extract(one_order.dsn, SITE, later, STATES, tmp_path)["work_order"] == 0
    require_site(one_order.dsn, SITE)
    for ask in (
        lambda site: extract(one_order.dsn, site, WINDOW, STATES, tmp_path),
        partial(require_site, one_order.dsn),
    ):
        with pytest.raises(
            PermanentError, match=f"site {UUID(int=9)} is unknown .* check site_id in the customer file"
        ):
            ask(UUID(int=9))


# -- the editable queries


def test_other_tables_and_column_types_need_only_the_queries(
    one_order: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    one_order.connection.execute(
        "CREATE TEMP TABLE x(a int); DROP VIEW IF EXISTS jobs; CREATE VIEW jobs AS SELECT 1::smallint AS number, "
        f"'{INPUT}'::text AS image, 'task'::varchar(9) AS what, '{{\"a\" : 1}}'::json -> 'a' AS v, "
        "timestamp '2025-03-16 10:00:00' AS at"
    )
    (sql / "job_conformity.sql").write_text(
        "SELECT number AS work_order_number, image AS input_id, what AS task_name, v AS analyzed_value,\n"
        "NULL AS corrected_value, at AS corrected_date, NULL AS message, NULL AS is_conformity_validated\n"
        "FROM jobs -- a comment without line break at the end; and a semicolon;"
    )
    data = one_order.export(tmp_path / "out", sql_folder=sql).data.decode()
    assert '"task_name":"task","analyzed_value":1,' in data
    assert '"corrected_date":"2025-03-16T10:00:00.000000+00:00"' in data


def test_placeholders_are_filled_and_casts_left_alone() -> None:
    text = Queries(SQL_FOLDER, SITE, WINDOW, TIMELINE).snapshot().text
    assert f"site_id = '{SITE}'::uuid" in text
    assert "create_date >= '2025-03-16T00:00:00+00:00'::timestamptz" in text
    assert "create_date < '2025-03-17T00:00:00+00:00'::timestamptz" in text


BROKEN = {
    "column missing": (
        "input.work-orders-timeline.sql",
        "input.*",
        "input.id, work_item_id",
        r"input\.work-orders-timeline\.sql: column inputs\.\w+ does not exist",
    ),
    "table missing": (
        "data_conformity.sql",
        "JOIN data_conformity ON",
        "JOIN nowhere ON",
        r"data_conformity\.sql, line \d+: relation \"nowhere\" does not exist",
    ),
    "syntax": ("work_order.sql", "SELECT\n", "SELEKT\n", r"work_order\.sql, line \d+: syntax error"),
    "type": (
        "work_item.sql",
        "work_item.*",
        "work_item.id, work_order_id, work_item.name, now() AS position",
        r"work_item\.sql: cannot cast type timestamp with time zone to bigint",
    ),
    "no number": (
        "work_item.sql",
        "work_orders.work_order_number",
        "NULL::int AS work_order_number",
        r"work_item\.sql: work_order_number is NULL",
    ),
    "fails midway": (
        "job_conformity.sql",
        "job_conformity.*",
        "job_conformity.*, 1 / (inputs.work_order_number - 1) AS zero",
        "division by zero",
    ),
    "writes": (
        "work_item.sql",
        "FROM work_orders",
        "FROM nextval('writes') AS n, work_orders",
        "read-only transaction",
    ),
    "two statements": (
        "work_item.sql",
        "FROM work_orders",
        "; SELECT 1; FROM work_orders",
        r"work_item\.sql.*syntax error",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_query_is_named_with_its_fix(one_order: SourceDatabase, tmp_path: Path, sql: Path, case: str) -> None:
    name, old, new, message = BROKEN[case]
    one_order.connection.execute("CREATE SEQUENCE IF NOT EXISTS writes")
    text = (sql / name).read_text()
    assert old in text.split("*/")[-1]
    head, _, tail = text.rpartition(old)
    (sql / name).write_text(head + new + tail)
    if case == "fails midway":  # used, so that the planner does not drop it
        (sql / name).write_text((sql / name).read_text() + "\nWHERE 1 / (inputs.work_order_number - 1) = 0")
    with pytest.raises(SourceRejected, match=message) as caught:
        run(one_order, tmp_path, sql)
    assert "\n" not in str(caught.value)


def test_a_missing_query_is_named(one_order: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    (sql / "work_order.sql").unlink()
    with pytest.raises(SourceRejected, match=r"work_order\.sql: no such file"):
        run(one_order, tmp_path, sql)


# -- faults of the source


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
    }
    for dsn, message in refusals.items():
        with pytest.raises(SourceRejected, match=message) as caught:
            run(one_order, tmp_path, dsn=dsn)
        assert "canary" not in str(caught.value)
        assert password not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_server_that_is_not_there_is_worth_a_retry(one_order: SourceDatabase, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dsn = f"postgresql://reader:canary-8f2c@127.0.0.1:{closed.getsockname()[1]}/source"
        with pytest.raises(SourceUnavailable, match="Connection refused") as caught:
            run(one_order, tmp_path, dsn=dsn)
    assert "canary" not in str(caught.value)
    with pytest.raises(SourceUnavailable, match="could not translate host name"):
        run(one_order, tmp_path, dsn="postgresql://reader:canary-8f2c@no-such-host.invalid/source")


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
        run(one_order, tmp_path, slow)
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
        run(one_order, tmp_path, slow)
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
        run(one_order, tmp_path, slow)
    assert time.monotonic() - began < 10
    assert not asleep(one_order)


def test_the_data_folder_serves_again(tmp_path: Path) -> None:
    for rows in (1, 2):
        with PostgresServer(tmp_path, durable=False) as server:
            with psycopg.connect(server.create_database("kept")) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
                connection.execute("INSERT INTO t VALUES (1)")
                assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows,)
            with pytest.raises(RuntimeError, match="another process"):
                PostgresServer(tmp_path).__enter__()
    assert not (tmp_path / "data" / "postmaster.pid").exists()
