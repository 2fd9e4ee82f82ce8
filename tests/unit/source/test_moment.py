"""The moment a file shows: after the window's end, on a standby too, and after those who were writing."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest

from data_export.errors import SourceUnavailable
from data_export.source.database import Source, open_source
from data_export.source.extract import extract
from data_export.source.moment import Moment
from data_export.source.queries import Query
from data_export.source.snapshot import TABLES
from data_export.window import ExportWindow
from demo.servers import postgres
from demo.servers.postgres import PostgresServer
from tests.unit.source_kit import SCHEMA, SITE, TIMELINE, WINDOW, SourceDatabase, run_extract


def window(ends_in: float) -> ExportWindow:
    end = (datetime.now(UTC) + timedelta(seconds=ends_in + 0.5)).replace(microsecond=0)
    return ExportWindow(end - timedelta(hours=1), end)


def test_a_transaction_that_was_writing_is_waited_for(one_order: SourceDatabase, tmp_path: Path) -> None:
    with psycopg.connect(one_order.dsn) as writer, ThreadPoolExecutor(1) as pool:
        late = [UUID(int=50), SITE, WINDOW.start]
        writer.execute("INSERT INTO work_order (id, site_id, create_date) VALUES (%s, %s, %s)", late)
        moment = Moment(WINDOW, 60)
        extracting = pool.submit(run_extract, one_order, tmp_path, moment=moment)
        time.sleep(1.5)
        assert not extracting.done()
        writer.commit()
        assert extracting.result(30)["work_order"] == 2
    assert moment.warning is None


def test_past_the_bound_it_goes_on_and_says_so(one_order: SourceDatabase, tmp_path: Path) -> None:
    with psycopg.connect(one_order.dsn) as writer:
        writer.execute("UPDATE work_order SET name = 'late'")
        moment = Moment(WINDOW, 0.5)
        assert run_extract(one_order, tmp_path, moment=moment)["work_order"] == 1
    assert moment.warning is not None
    assert "still writing" in moment.warning


def test_readers_are_not_waited_for(one_order: SourceDatabase, tmp_path: Path) -> None:
    with psycopg.connect(one_order.dsn) as reader:
        reader.execute("SELECT * FROM work_order")
        began = time.monotonic()
        run_extract(one_order, tmp_path)
        assert time.monotonic() - began < 60  # a writer has ten minutes


def test_a_clock_that_is_behind_is_waited_for_or_an_error(one_order: SourceDatabase, tmp_path: Path) -> None:
    soon = window(2)
    extract(one_order.dsn, SITE, soon, TIMELINE, tmp_path)
    assert datetime.now(UTC) >= soon.end
    with pytest.raises(SourceUnavailable, match=r"its clock says .* before the window's end"):
        extract(one_order.dsn, SITE, window(3600), TIMELINE, tmp_path)


FILL_NEXT = [f"INSERT INTO next.{table} TABLE {table}" for table in TABLES]
# What an installation does to its tables while a window begins to be read; the rows are the same before and after.
CHANGES = {
    "nothing": [],
    "rewritten": ["ALTER TABLE input ALTER file_extension TYPE varchar(30)"],
    "of the site": ["ALTER TABLE work_order ALTER name TYPE varchar(30)"],  # which has no other work orders
    "filled anew": ["CREATE TABLE kept AS TABLE input", "TRUNCATE input CASCADE", "INSERT INTO input TABLE kept"],
    "new": ["CREATE TABLE new AS TABLE input", "DROP TABLE input CASCADE", "ALTER TABLE new RENAME TO input"],
    "renamed": [*FILL_NEXT, "DROP TABLE input CASCADE", "ALTER TABLE next.input SET SCHEMA public"],
    "in a renamed schema": [*FILL_NEXT, "ALTER SCHEMA public RENAME TO last", "ALTER SCHEMA next RENAME TO public"],
}


class MomentBefore(Moment):
    """Something happens between the choice of the moment and the first query that locks a table."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__(WINDOW)
        self._change = change

    def require_same_server(self, source: Source) -> None:
        super().require_same_server(source)
        self._change()


@pytest.fixture
def fresh(server: PostgresServer) -> Iterator[SourceDatabase]:
    """A database of its own with one input, and empty tables in the schema `next`."""
    dsn = server.create_database(uuid4().hex)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text() + "; CREATE SCHEMA next")
        for table in TABLES:
            connection.execute(f"CREATE TABLE next.{table} (LIKE {table})")
        source = SourceDatabase(dsn, connection)
        source.insert("work_order", [{"id": UUID(int=1), "site_id": SITE, "create_date": WINDOW.start}])
        source.insert("work_item", [{"id": UUID(int=2), "work_order_id": UUID(int=1)}])
        source.insert("input", [{"id": UUID(int=3), "work_item_id": UUID(int=2)}])
        yield source


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_was_replaced_before_it_was_locked_is_read_again(
    fresh: SourceDatabase, tmp_path: Path, change: str
) -> None:
    moment = MomentBefore(lambda: [fresh.connection.execute(statement) for statement in CHANGES[change]])
    if CHANGES[change]:
        with pytest.raises(SourceUnavailable, match=r"(input|work_order)\b.*: rewritten, replaced or renamed"):
            run_extract(fresh, tmp_path, moment=moment)
        moment = Moment(WINDOW)
    assert run_extract(fresh, tmp_path, moment=moment)["input"] == 1
    assert moment.warning is None


#: What changes where rows are, and none of them.
HARMLESS = {
    "a view refreshed": ["REFRESH MATERIALIZED VIEW seen"],  # whose rows every moment sees
    "an index": ["CREATE INDEX ON work_item (name)"],
    "an index made anew": ["REINDEX TABLE work_item"],
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_no_row_before_it_is_locked_is_read_at_once(
    fresh: SourceDatabase, tmp_path: Path, sql: Path, change: str
) -> None:
    fresh.connection.execute("CREATE MATERIALIZED VIEW seen AS TABLE work_item")
    path = sql / "work_item.sql"
    path.write_text(path.read_text().replace("SELECT", "WITH also AS (SELECT FROM seen) SELECT", 1))
    moment = MomentBefore(lambda: [fresh.connection.execute(statement) for statement in HARMLESS[change]])
    assert run_extract(fresh, tmp_path, sql, moment=moment)["work_item"] == 1


def test_a_source_that_does_not_know_its_locks_is_read_with_a_warning(
    one_order: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.source.database._LOCKED_TABLES", Query("SELECT no_such_function()", ()))
    moment = Moment(WINDOW)
    assert run_extract(one_order, tmp_path, moment=moment)["work_order"] == 1
    assert "does not say whether its tables were replaced" in str(moment.warning)


def test_of_foreign_tables_the_receipt_warns(fresh: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    fresh.connection.execute("CREATE FOREIGN DATA WRAPPER none; CREATE SERVER far FOREIGN DATA WRAPPER none")
    fresh.connection.execute("CREATE FOREIGN TABLE far (id uuid) SERVER far")
    path = sql / "work_item.sql"  # locked, and not read: that would take a wrapper with code
    path.write_text(path.read_text().replace("SELECT", "WITH unread AS (SELECT FROM far) SELECT", 1))
    moment = Moment(WINDOW)
    assert run_extract(fresh, tmp_path, sql, moment=moment)["work_item"] == 1
    assert "through foreign tables" in str(moment.warning)


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceDatabase]:
    settings = {"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on", "full_page_writes": "on"}
    settings |= {"autovacuum": "off"}  # which commits too
    with PostgresServer(tmp_path_factory.mktemp("primary"), durable=False, settings=settings) as running:
        dsn = running.create_database("source")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(SCHEMA.read_text())
            yield SourceDatabase(dsn, connection)


def following(upstream: SourceDatabase, folder: Path) -> PostgresServer:
    """A standby of that server, not yet started."""
    folder.chmod(0o777)
    parts = urlsplit(upstream.dsn)
    dsn = f"host=127.0.0.1 port={parts.port} user=postgres password={parts.password}"
    program = str(postgres._binaries() / "pg_basebackup")
    data = folder / "data"
    command = [*postgres._unprivileged(), program, "-d", dsn, "-D", str(data), "-R", "-X", "stream", "-c", "fast"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "password").write_text(str(parts.password))
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("wal_receiver_timeout = 3s\n")
    settings = {"hot_standby": "on", "max_wal_senders": "5", "full_page_writes": "on"}
    return PostgresServer(folder, durable=False, settings=settings)


@pytest.fixture(scope="module")
def standby(primary: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceDatabase]:
    running = following(primary, tmp_path_factory.mktemp("standby"))
    with running, psycopg.connect(running.dsn("source"), autocommit=True) as connection:
        yield SourceDatabase(running.dsn("source"), connection)


def order(primary: SourceDatabase, number: int, moment: datetime) -> None:
    primary.insert("work_order", [{"id": UUID(int=number), "site_id": SITE, "create_date": moment}])


def test_a_standby_that_has_not_replayed_the_window_is_not_read(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(primary, 1, datetime.now(UTC) - timedelta(minutes=1))
    time.sleep(1)
    standby.connection.execute("SELECT pg_wal_replay_pause()")
    late = window(2)
    order(primary, 2, late.end - timedelta(seconds=1))
    time.sleep(2.5)
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 2.0)
    with pytest.raises(SourceUnavailable, match=r"the standby has replayed up to .* before the window's end"):
        extract(standby.dsn, SITE, late, TIMELINE, tmp_path)
    monkeypatch.undo()
    resume = threading.Timer(1, standby.connection.execute, ["SELECT pg_wal_replay_resume()"])
    resume.start()
    assert extract(standby.dsn, SITE, late, TIMELINE, tmp_path)["work_order"] == 2
    resume.join()


def test_a_standby_has_to_be_past_the_time_that_writers_have(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = window(-1)
    order(primary, 120, ended.end + timedelta(hours=1))  # a commit after the end, which the standby replays
    time.sleep(1)
    standby.connection.execute("SELECT pg_wal_replay_pause()")
    order(primary, 121, ended.end - timedelta(seconds=1))  # as by a transaction that began before the end
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 1.0)
    moment = Moment(ended, settle=timedelta(minutes=5))
    seen = extract(standby.dsn, SITE, ended, TIMELINE, tmp_path, moment=moment)["work_order"]
    assert "soon after the window's end" in (moment.warning or "")
    monkeypatch.undo()

    def go_on() -> None:
        standby.connection.execute("SELECT pg_wal_replay_resume()")
        order(primary, 122, ended.end + timedelta(hours=1))

    resume = threading.Timer(1, go_on)
    resume.start()
    moment = Moment(ended, settle=timedelta(minutes=5))
    assert extract(standby.dsn, SITE, ended, TIMELINE, tmp_path, moment=moment)["work_order"] == seen + 1
    assert moment.warning is None
    resume.join()


def plain(primary: SourceDatabase, dsn: str) -> str:
    """The dsn of a role that may not look at the receiver."""
    if primary.connection.execute("SELECT FROM pg_roles WHERE rolname = 'plain'").fetchone() is None:
        primary.connection.execute("CREATE ROLE plain LOGIN PASSWORD 'x'; GRANT SELECT ON work_order TO plain")
        primary.connection.execute("GRANT SELECT ON work_item, input, data_conformity, job_conformity TO plain")
        time.sleep(1)
    return f"postgresql://plain:x@{dsn.rpartition('@')[2]}"


@pytest.mark.parametrize("may_look", [True, False])
def test_a_standby_of_an_idle_primary_is_read_with_a_warning(
    primary: SourceDatabase,
    standby: SourceDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    may_look: bool,
) -> None:
    monkeypatch.setattr("data_export.source.moment._IDLE_MARGIN", 0.5 if not may_look else 1e6)
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 60.0)
    dsn = standby.dsn if may_look else plain(primary, standby.dsn)
    order(primary, 10 + may_look, datetime.now(UTC))
    time.sleep(2)
    moment = Moment(window(-1))
    assert extract(dsn, SITE, window(-1), TIMELINE, tmp_path, moment=moment)["work_order"] >= 1
    assert "received nothing since" in str(moment.warning)
    order(primary, 12 + may_look, datetime.now(UTC))
    moment = Moment(window(-2))
    extract(dsn, SITE, window(-2), TIMELINE, tmp_path, moment=moment)
    assert moment.warning is None


def test_idleness_proves_nothing_where_the_receiver_never_gives_up(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.source.moment._IDLE_MARGIN", 0.0)
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 6.0)
    dsn = plain(primary, standby.dsn)
    time.sleep(2)
    ended = window(-1)
    with psycopg.connect(standby.dsn, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET wal_receiver_timeout = 0")
        admin.execute("SELECT pg_reload_conf()")
        time.sleep(1)
        with pytest.raises(SourceUnavailable, match="pg_read_all_stats"):
            extract(dsn, SITE, ended, TIMELINE, tmp_path)
        admin.execute("ALTER SYSTEM RESET wal_receiver_timeout")
        admin.execute("SELECT pg_reload_conf()")


def test_a_standby_of_a_standby_that_lost_the_primary_is_not_taken_for_up_to_date(
    primary: SourceDatabase,
    standby: SourceDatabase,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 30.0)
    running = following(standby, tmp_path_factory.mktemp("cascade"))
    with running, psycopg.connect(standby.dsn, autocommit=True) as admin:
        end_of_first = window(-1)
        order(primary, 20, end_of_first.end)
        time.sleep(1)
        moment = Moment(end_of_first)
        extract(running.dsn("source"), SITE, end_of_first, TIMELINE, tmp_path, moment=moment)
        assert moment.warning is None
        row = admin.execute("SHOW primary_conninfo").fetchone()
        assert row is not None
        try:
            admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
            admin.execute("SELECT pg_reload_conf()")
            time.sleep(2)
            lost = window(1)
            order(primary, 21, lost.end - timedelta(seconds=1))
            time.sleep(2)
            moment = Moment(lost)
            extract(running.dsn("source"), SITE, lost, TIMELINE, tmp_path, moment=moment)
            assert "follows another standby that has lost the primary" in str(moment.warning)
        finally:
            admin.execute(psycopg.sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(row[0]))
            admin.execute("SELECT pg_reload_conf()")


def test_a_conflict_with_replaying_names_its_fix(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    path = sql / "work_order.sql"
    path.write_text(path.read_text().replace("FROM work_order", "FROM (SELECT *, pg_sleep(6) FROM work_order) AS slow"))
    order(primary, 30, WINDOW.start)
    standby.connection.execute("ALTER SYSTEM SET max_standby_streaming_delay = '200ms'")
    standby.connection.execute("SELECT pg_reload_conf()")
    time.sleep(1)

    def remove() -> None:
        primary.connection.execute(f"DELETE FROM work_order WHERE id = '{UUID(int=30)}'")
        primary.connection.execute("VACUUM work_order")

    remover = threading.Timer(3, remove)
    remover.start()
    try:
        with pytest.raises(SourceUnavailable, match=r"hot_standby_feedback = on.*max_standby_streaming_delay"):
            run_extract(standby, tmp_path, sql)
    finally:
        remover.join()
        standby.connection.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
        standby.connection.execute("SELECT pg_reload_conf()")


def test_a_transaction_of_the_primary_is_waited_for_on_the_standby(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path
) -> None:
    before = extract(standby.dsn, SITE, WINDOW, TIMELINE, tmp_path)["work_order"]
    with psycopg.connect(primary.dsn) as writer, ThreadPoolExecutor(1) as pool:
        row = [UUID(int=90), SITE, WINDOW.start]
        writer.execute("INSERT INTO work_order (id, site_id, create_date) VALUES (%s, %s, %s)", row)
        order(primary, 91, datetime.now(UTC))  # sends the other's beginning too
        time.sleep(1)
        extracting = pool.submit(extract, standby.dsn, SITE, WINDOW, TIMELINE, tmp_path)
        time.sleep(1.5)
        assert not extracting.done()
        writer.commit()
        assert extracting.result(30)["work_order"] == before + 1


def test_a_table_that_is_replaced_at_the_primary_is_noticed_on_the_standby(
    primary: SourceDatabase, standby: SourceDatabase, tmp_path: Path
) -> None:
    def replace() -> None:
        primary.connection.execute("TRUNCATE data_conformity")
        until = time.monotonic() + 20
        written = primary.connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        while standby.connection.execute("SELECT pg_last_wal_replay_lsn() < %s", written).fetchone() == (True,):
            assert time.monotonic() < until
            time.sleep(0.1)

    with pytest.raises(SourceUnavailable, match=r"data_conformity.*: rewritten, replaced or renamed"):
        run_extract(standby, tmp_path, dsn=plain(primary, standby.dsn), moment=MomentBefore(replace))


def test_the_moment_of_one_server_says_nothing_of_another(primary: SourceDatabase, standby: SourceDatabase) -> None:
    """As poolers make one connection of several servers, transaction by transaction."""
    moment = Moment(WINDOW)
    with open_source(primary.dsn, before=(moment.reach_end, moment.wait_for_writers)) as source:
        moment.require_same_server(source)
    with (
        open_source(standby.dsn) as other,
        pytest.raises(SourceUnavailable, match="a pooler splits one connection over several servers"),
    ):
        moment.require_same_server(other)
    with open_source(standby.dsn, before=(moment.reach_end, moment.wait_for_writers)) as source:
        moment.require_same_server(source)  # as the second reading of a quarantine may


@pytest.fixture
def subscriber(tmp_path: Path) -> Iterator[tuple[SourceDatabase, SourceDatabase]]:
    """A database, and another that follows it by logical replication."""
    settings = {"wal_level": "logical", "wal_sender_timeout": "4s"}
    with PostgresServer(tmp_path / "both", durable=False, settings=settings) as running:
        dsns = [running.create_database(name) for name in ("origin", "copy")]
        with psycopg.connect(dsns[0], autocommit=True) as origin, psycopg.connect(dsns[1], autocommit=True) as copy:
            for connection in (origin, copy):
                connection.execute(SCHEMA.read_text())
            origin.execute("CREATE PUBLICATION every FOR ALL TABLES")
            # In one server a subscription cannot make its slot itself: it would wait for its own transaction.
            origin.execute("SELECT pg_create_logical_replication_slot('copy', 'pgoutput')")
            copy.execute(
                f"CREATE SUBSCRIPTION copy CONNECTION '{dsns[0]}' PUBLICATION every WITH (create_slot = false)"
            )
            both = SourceDatabase(dsns[0], origin), SourceDatabase(dsns[1], copy)
            both[0].insert("work_order", [{"id": UUID(int=1), "site_id": SITE, "create_date": WINDOW.start}])
            until = time.monotonic() + 20
            while not copy.execute("SELECT FROM work_order").fetchall() and time.monotonic() < until:
                time.sleep(0.1)
            yield both
            copy.execute("ALTER SUBSCRIPTION copy DISABLE")


def test_a_subscriber_is_read_once_its_publisher_has_sent_the_window(
    subscriber: tuple[SourceDatabase, SourceDatabase], tmp_path: Path
) -> None:
    origin, copy = subscriber
    soon = window(2)
    origin.insert("work_order", [{"id": UUID(int=2), "site_id": SITE, "create_date": soon.start}])
    moment = Moment(soon)
    assert extract(copy.dsn, SITE, soon, TIMELINE, tmp_path, moment=moment)["work_order"] == 1
    assert moment.warning is None


def test_a_subscriber_that_hears_nothing_says_so(
    subscriber: tuple[SourceDatabase, SourceDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.source.moment._BEHIND_SECONDS", 3.0)
    origin, copy = subscriber
    copy.connection.execute("ALTER SUBSCRIPTION copy DISABLE")
    soon = window(1)
    origin.insert("work_order", [{"id": UUID(int=2), "site_id": SITE, "create_date": soon.start}])
    moment = Moment(soon)
    assert extract(copy.dsn, SITE, soon, TIMELINE, tmp_path, moment=moment)["work_order"] == 0
    assert moment.warning is not None
    assert "subscribes to another (logical replication)" in moment.warning
