"""Row-level security and the server's time limits: no row is left out without a word."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_export.errors import SourceRejected, SourceUnavailable
from data_export.source.database import open_source
from data_export.source.queries import Query
from tests.unit.source_kit import SourceDatabase, run_extract


@pytest.fixture
def reader(one_order: SourceDatabase) -> Iterator[str]:
    """The dsn of a login that may read, and no more."""
    one_order.connection.execute("CREATE ROLE limited LOGIN PASSWORD 'x'")
    one_order.connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited")
    yield f"postgresql://limited:x@{one_order.dsn.rpartition('@')[2]}"
    for table in ("work_order", "work_item", "input", "data_conformity", "job_conformity"):
        one_order.connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    one_order.connection.execute("DROP OWNED BY limited")
    one_order.connection.execute("DROP ROLE limited")


@pytest.mark.parametrize("table", ["work_order", "work_item", "input", "data_conformity", "job_conformity"])
def test_policies_never_thin_a_file(one_order: SourceDatabase, reader: str, tmp_path: Path, table: str) -> None:
    assert run_extract(one_order, tmp_path, dsn=reader)["input"] == 1
    one_order.connection.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    with pytest.raises(SourceRejected, match=rf'"{table}".*BYPASSRLS.*source\.row_security: apply'):
        run_extract(one_order, tmp_path, dsn=reader)


def test_policies_choose_the_rows_where_that_is_wanted(one_order: SourceDatabase, reader: str, tmp_path: Path) -> None:
    one_order.connection.execute("ALTER TABLE input ENABLE ROW LEVEL SECURITY")
    assert run_extract(one_order, tmp_path, dsn=reader, row_security="apply")["input"] == 0
    one_order.connection.execute("CREATE POLICY all_of_it ON input TO limited USING (true)")
    assert run_extract(one_order, tmp_path, dsn=reader, row_security="apply")["input"] == 1
    one_order.connection.execute("DROP POLICY all_of_it ON input")


def ask(dsn: str, text: str) -> object:
    with open_source(dsn) as source:
        return source.value(Query(text, ((0, len(text), Path("x.sql"), True),)))


def test_time_limits_of_the_login_are_lifted(one_order: SourceDatabase, reader: str) -> None:
    limits = {"statement_timeout": "2h", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "15min"}
    for name, value in (limits | {"transaction_timeout": "0"}).items():
        one_order.connection.execute(f"ALTER ROLE limited SET {name} = '300ms'")
        assert ask(reader, f"SELECT current_setting('{name}')") == value
    assert ask(reader, "SELECT pg_sleep(0.6)::text") == ""


@pytest.mark.parametrize("name", ["transaction_timeout", "idle_in_transaction_session_timeout"])
def test_a_time_limit_that_strikes_is_worth_a_retry(one_order: SourceDatabase, name: str) -> None:
    def too_long() -> None:
        with open_source(one_order.dsn) as source:
            for text in (f"SELECT set_config('{name}', '100ms', true)", "SELECT pg_sleep(0)::text"):
                source.value(Query(text, ((0, len(text), Path("x.sql"), True),)))
                time.sleep(0.5)

    with pytest.raises(SourceUnavailable):
        too_long()


def test_a_limit_of_temporary_files_is_named_at_once(one_order: SourceDatabase) -> None:
    def too_much() -> None:
        with open_source(one_order.dsn) as source:
            for text in (
                "SELECT set_config('temp_file_limit', '1kB', true) || set_config('work_mem', '64kB', true)",
                "SELECT count(*) FROM (SELECT FROM generate_series(1, 20000) AS n ORDER BY md5(n::text) OFFSET 1) AS s",
            ):
                source.value(Query(text, ((0, len(text), Path("x.sql"), True),)))

    with pytest.raises(SourceRejected, match="raise temp_file_limit for the source connection's user"):
        too_much()


@pytest.mark.parametrize("setting", ["require_auth=none", "channel_binding=require", "gssencmode=require"])
def test_what_the_connection_demands_and_the_server_lacks_is_not_tried_again(
    one_order: SourceDatabase, setting: str
) -> None:
    with pytest.raises(SourceRejected, match=r"check the source's connection"):
        ask(f"{one_order.dsn}?{setting}", "SELECT 1")


def test_a_role_without_login_is_not_tried_again(one_order: SourceDatabase, reader: str) -> None:
    one_order.connection.execute("ALTER ROLE limited NOLOGIN")
    with pytest.raises(SourceRejected, match="is not permitted to log in"):
        ask(reader, "SELECT 1")
