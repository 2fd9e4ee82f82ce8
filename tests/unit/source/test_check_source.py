"""The check of the source: what would make the first run fail fails it, with the fix."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from data_export.check.results import CheckResult
from demo.servers.postgres import PostgresServer
from tests.unit.source.test_estimate import export
from tests.unit.source_kit import SCHEMA, SITE, SQL_FOLDER, STATES, TIMELINE, WINDOW, SourceDatabase, check_source

TABLES = "work_order, work_item, input, data_conformity, job_conformity"
FUNCTION = "job_conformity.message"
VIEW = "FROM inputs\nJOIN job_conformity ON job_conformity"


@pytest.fixture(scope="module")
def checked(server: PostgresServer) -> Iterator[SourceDatabase]:
    """A source with a role that has the rights it needs, and a view, a function and a schema that may be used too."""
    dsn = server.create_database("checked")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        connection.execute(
            f"CREATE ROLE checker LOGIN PASSWORD 'checker-7'; GRANT SELECT ON {TABLES} TO checker;"
            "CREATE FUNCTION worded(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';"
            "CREATE SCHEMA apart; CREATE VIEW apart.jobs AS SELECT * FROM job_conformity;"
            "GRANT USAGE ON SCHEMA apart TO checker; GRANT SELECT ON apart.jobs TO checker;"
            "REVOKE EXECUTE ON FUNCTION worded FROM public; GRANT EXECUTE ON FUNCTION worded TO checker"
        )
        connection.execute("INSERT INTO work_order VALUES (gen_random_uuid(), 'x', %s, %s)", [SITE, WINDOW.start])
        yield SourceDatabase(dsn, connection)


@pytest.fixture
def own(sql: Path) -> Path:
    """An installation's queries, which use the view, the schema and the function."""
    text = (sql / "job_conformity.sql").read_text()
    assert FUNCTION in text
    text = text.replace(FUNCTION, f"worded({FUNCTION}) AS message").replace(
        "JOIN job_conformity", "JOIN apart.jobs AS job_conformity"
    )
    (sql / "job_conformity.sql").write_text(text)
    return sql


def check(source: SourceDatabase, folder: Path = SQL_FOLDER, export_type: str = TIMELINE) -> CheckResult:
    dsn = source.dsn.rpartition("@")[2]
    results = check_source(f"postgresql://checker:checker-7@{dsn}", export(export_type), sql_folder=folder)
    assert [result.step for result in results] == ["source: connection", "source: queries", f"source: site {SITE}"]
    return results[1]


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_what_may_run_is_ok_and_says_its_cost(checked: SourceDatabase, own: Path, export_type: str) -> None:
    result = check(checked, own, export_type)
    assert result.ok
    assert "all can be read; for a day of a site, the planner expects " in result.detail
    assert "reads the whole" not in result.detail


DENIED = {
    **{
        f"table {table}": (f"SELECT ON {table}", f"permission denied for table {table} .*GRANT SELECT ON {table} TO")
        for table in ("work_order", "work_item", "input", "data_conformity")
    },
    "view": ("SELECT ON apart.jobs", "permission denied for view jobs .*GRANT SELECT ON jobs TO"),
    "schema": ("USAGE ON SCHEMA apart", "permission denied for schema apart .*GRANT USAGE ON SCHEMA apart TO"),
    "function": ("EXECUTE ON FUNCTION worded", "permission denied for function .*GRANT EXECUTE ON FUNCTION worded TO"),
}


@pytest.mark.parametrize("case", DENIED)
def test_a_missing_right_fails_with_its_grant(checked: SourceDatabase, own: Path, case: str) -> None:
    right, words = DENIED[case]
    checked.connection.execute(f"REVOKE {right} FROM checker")
    try:
        result = check(checked, own) if case != "table work_order" else check_all_denied(checked, own)
    finally:
        checked.connection.execute(f"GRANT {right} TO checker")
    assert not result.ok
    assert re.search(words, result.detail), result.detail


def check_all_denied(source: SourceDatabase, folder: Path) -> CheckResult:
    dsn = source.dsn.rpartition("@")[2]
    return check_source(f"postgresql://checker:checker-7@{dsn}", export(), sql_folder=folder)[1]


CHANGED = {
    "column": ("ALTER TABLE input RENAME metadata TO meta", "ALTER TABLE input RENAME meta TO metadata", "metadata"),
    "table": ("ALTER TABLE input RENAME TO inputs_2", "ALTER TABLE inputs_2 RENAME TO input", '"input" does not exist'),
    "type": (
        "ALTER TABLE work_item ALTER position TYPE timestamptz USING now()",
        "ALTER TABLE work_item ALTER position TYPE int USING 1",
        r"work_item\.sql: cannot cast type timestamp with time zone to bigint",
    ),
    "policy": (
        "ALTER TABLE input ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE input DISABLE ROW LEVEL SECURITY",
        'row-level security policy for table "input".*BYPASSRLS',
    ),
    # What only shows when it is read, not when it is planned.
    "a view that was never filled": (
        "ALTER TABLE input RENAME TO raw; CREATE MATERIALIZED VIEW input AS TABLE raw WITH NO DATA;"
        "GRANT SELECT ON input TO checker",
        "DROP MATERIALIZED VIEW input; ALTER TABLE raw RENAME TO input",
        "has not been populated .*REFRESH MATERIALIZED VIEW",
    ),
    "a view of a function that reads what we may not": (
        "ALTER TABLE input RENAME TO raw; REVOKE SELECT ON raw FROM checker;"
        "CREATE FUNCTION raw_inputs() RETURNS SETOF raw LANGUAGE plpgsql AS 'BEGIN RETURN QUERY TABLE raw; END';"
        "CREATE VIEW input AS SELECT * FROM raw_inputs(); GRANT SELECT ON input TO checker",
        "DROP VIEW input; DROP FUNCTION raw_inputs; ALTER TABLE raw RENAME TO input; GRANT SELECT ON input TO checker",
        "permission denied for table raw .*GRANT SELECT ON raw TO",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_source_that_changed_fails(checked: SourceDatabase, case: str) -> None:
    do, undo, words = CHANGED[case]
    checked.connection.execute(do)
    try:
        result = check(checked)
    finally:
        checked.connection.execute(undo)
    assert not result.ok
    assert re.search(words, result.detail), result.detail


def test_reading_a_whole_big_table_is_worth_a_word(checked: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_export.source.estimate._COST_OF_BIG_TABLE", 10)
    checked.connection.execute("DROP INDEX input_of_item")
    checked.connection.execute(
        "INSERT INTO work_item SELECT gen_random_uuid(), id FROM work_order, generate_series(1, 1000);"
        "INSERT INTO input SELECT gen_random_uuid(), id FROM work_item; ANALYZE input, work_item"
    )
    try:
        result = check(checked)
    finally:
        checked.connection.execute("CREATE INDEX input_of_item ON input (work_item_id)")
    assert result.ok
    assert re.search(r"it reads the whole of .*\binput\b", result.detail)


def test_a_materialized_view_is_worth_a_word_also_behind_a_view(checked: SourceDatabase) -> None:
    """It is of the moment of its last refresh, whatever the clock of the source says."""
    checked.connection.execute(
        'ALTER TABLE input RENAME TO raw; CREATE MATERIALIZED VIEW "kept\'" AS TABLE raw;'
        'CREATE VIEW input AS TABLE "kept\'"; GRANT SELECT ON input TO checker'
    )
    try:
        result = check(checked)
    finally:
        checked.connection.execute('DROP VIEW input; DROP MATERIALIZED VIEW "kept\'"; ALTER TABLE raw RENAME TO input')
    assert result.ok
    assert "files lack what was written after the last REFRESH MATERIALIZED VIEW of kept'" in result.detail
