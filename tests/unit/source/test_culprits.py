"""Values that the source itself cannot read or convert: each named, and its work order alone set aside."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from data_export.errors import InvalidRecord, SourceRejected, SourceUnavailable, ValueRejected
from data_export.source.culprits import Culprit, Search, find_culprits
from data_export.source.extract import extract
from data_export.source.queries import Query
from data_export.source.sql_text import Orders
from demo.servers.postgres import PostgresServer
from tests.unit.source_kit import SCHEMA, SITE, STATES, TIMELINE, WINDOW, SourceDatabase, run_extract

GOOD, BAD = range(1, 8), 4
# The types of an installation that is less strict than ours.
LOOSE = {
    "work_order": {"name": "char(8)", "metadata": "json", "progress_score": "numeric", "update_date": "timestamp"},
    "work_item": {"position": "numeric"},
    "input": {"metadata": "json", "file_extension": "varchar(20)", "create_date": "text"},
    "data_conformity": {"code": "float8", "level": "text"},
    "job_conformity": {"analyzed_value": "text", "corrected_value": "json", "is_conformity_validated": "int"},
}

#: table, column, wrong value, what the message says of it.
CASES: dict[str, tuple[str, str, str, str]] = {
    "NUL in json": ("work_order", "metadata", r"""'{"a": "x\u0000y"}'""", r"\\u0000 cannot be converted to text"),
    "NUL in json of an input": ("input", "metadata", r"""'{"a": "x\u0000y"}'""", "cannot be converted to text"),
    "NUL in a value": ("job_conformity", "corrected_value", r"""'"\u0000"'""", "cannot be converted to text"),
    "surrogate": ("input", "metadata", r"""'{"a": "\ud800"}'""", "surrogate"),
    "no JSON": ("job_conformity", "analyzed_value", "'{]'", "invalid input syntax for type json"),
    "number of JSON": ("work_order", "metadata", """'{"a": 1e200000}'""", "overflows numeric"),
    "no date": ("input", "create_date", "'n/a'", "invalid input syntax for type timestamp"),
    "no such day": ("input", "create_date", "'2025-02-30'", "out of range"),
    "score too large": ("work_order", "progress_score", "'1e400'", "out of range for type double precision"),
    "half a code": ("data_conformity", "code", "1.5", 'bigint: "1.5"'),
    "no code": ("data_conformity", "code", "'NaN'", "bigint"),
    "code too large": ("data_conformity", "code", "1e30", "out of range for type bigint"),
    "half a position": ("work_item", "position", "1.5", 'bigint: "1.5"'),
    "two for true": ("job_conformity", "is_conformity_validated", "2", 'boolean: "2"'),
    "line break in words": ("job_conformity", "analyzed_value", r"E'x\n\x1b[31m'", "invalid input syntax"),
}


@pytest.fixture(scope="module")
def loose(server: PostgresServer) -> Iterator[SourceDatabase]:
    dsn = server.create_database("loose")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        for table, columns in LOOSE.items():
            for name, kind in columns.items():
                connection.execute(f"ALTER TABLE {table} ALTER {name} TYPE {kind} USING NULL")
        yield SourceDatabase(dsn, connection)


def key(level: int, number: int) -> UUID:
    return UUID(int=level << 32 | number)


@pytest.fixture
def filled(loose: SourceDatabase) -> SourceDatabase:
    loose.clear()
    orders = [{"id": key(0, k), "site_id": SITE, "create_date": WINDOW.start, "name": f"order {k}"} for k in GOOD]
    loose.insert("work_order", orders)
    loose.insert("work_item", [{"id": key(1, k), "work_order_id": key(0, k), "position": "5.00"} for k in GOOD])
    loose.insert("input", [{"id": key(2, k), "work_item_id": key(1, k)} for k in GOOD])
    loose.insert("input", [{"id": key(3, k), "work_item_id": key(1, k)} for k in GOOD])
    loose.insert("data_conformity", [{"input_id": key(2, k), "code": 7.0} for k in GOOD])
    loose.insert("job_conformity", [{"input_id": key(2, k), "is_conformity_validated": 1} for k in GOOD])
    return loose


def spoil(source: SourceDatabase, table: str, column: str, value: str) -> None:
    level = {"work_order": 0, "work_item": 1}.get(table, 2)
    name = "input_id" if table.endswith("_conformity") else "id"
    source.connection.execute(f"UPDATE {table} SET {column} = {value} WHERE {name} = '{key(level, BAD)}'")


@pytest.mark.parametrize("case", CASES)
def test_it_is_named_by_work_order_row_column_and_what_is_wrong(
    filled: SourceDatabase, tmp_path: Path, case: str
) -> None:
    table, column, value, words = CASES[case]
    spoil(filled, table, column, value)
    with pytest.raises(InvalidRecord, match=words) as caught:
        filled.export(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"work order {key(0, BAD)}: ")
    assert f"table {table}, column {column}" in message
    assert "on_invalid: quarantine" in message
    assert message.isprintable()
    if table != "work_order":
        assert str(key(1 if table == "work_item" else 2, BAD)) in message


@pytest.mark.parametrize("case", CASES)
def test_quarantine_takes_that_record_alone(filled: SourceDatabase, tmp_path: Path, case: str) -> None:
    table, column, value, _ = CASES[case]
    spoil(filled, table, column, value)
    exported = filled.export(tmp_path, on_invalid="quarantine")
    names = [json.loads(line)["name"] for line in exported.lines]
    assert names == [f"order {k}" for k in GOOD if k != BAD]
    assert exported.result.quarantined == 1
    (kept,) = map(json.loads, (tmp_path / "quarantine.json").read_text().splitlines())
    assert kept["work_order"] == str(key(0, BAD))
    assert kept["problems"][0]["field"].split(".")[-1] == column


def test_several_records_are_set_aside_with_those_of_the_format(filled: SourceDatabase, tmp_path: Path) -> None:
    for number, (table, column, value) in {
        1: ("work_order", "metadata", '\'{"a": "\\u0000"}\''),
        2: ("work_order", "metadata", "'[1]'"),
        3: ("work_order", "progress_score", "1e400"),
        7: ("work_order", "update_date", "'infinity'"),
    }.items():
        filled.connection.execute(f"UPDATE {table} SET {column} = {value} WHERE id = '{key(0, number)}'")
    exported = filled.export(tmp_path, on_invalid="quarantine")
    assert [json.loads(line)["name"] for line in exported.lines] == ["order 4", "order 5", "order 6"]
    assert (exported.result.work_orders, exported.result.quarantined) == (3, 4)
    kept = {json.loads(line)["work_order"] for line in (tmp_path / "quarantine.json").read_text().splitlines()}
    assert kept == {str(key(0, number)) for number in (1, 2, 3, 7)}


def test_whole_numbers_of_other_types_are_taken(filled: SourceDatabase, tmp_path: Path) -> None:
    (first, *_) = map(json.loads, filled.export(tmp_path).lines)
    assert first["work_items"][0]["input"][0]["data_conformity"][0]["code"] == 7
    assert first["work_items"][0]["input"][0]["job_conformity"][0]["is_conformity_validated"] is True


NUMBERED = "work_orders.work_order_number,"


@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
@pytest.mark.parametrize(
    ("table", "name", "old", "new"),
    [
        ("work_item", "work_item.sql", NUMBERED, "'n' || work_orders.work_order_number AS work_order_number,"),
        ("work_item", "work_item.sql", NUMBERED, "1 / (work_orders.work_order_number * 0) AS work_order_number,"),
        ("work_order", "work_order.sql", "    row_number()", "    'n' || row_number()"),
        (
            "data_conformity",
            "data_conformity.sql",
            "inputs.work_order_number,",
            "left(input_id::text, 0) AS work_order_number,",
        ),
    ],
)
def test_numbers_that_cannot_be_read_are_the_query_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path, table: str, name: str, old: str, new: str, on_invalid: str
) -> None:
    """Else every work order would be set aside, and an empty file delivered."""
    text = (sql / name).read_text()
    assert old in text
    (sql / name).write_text(text.replace(old, new))
    with pytest.raises(SourceRejected) as refused:
        filled.export(tmp_path / "out", on_invalid=on_invalid, sql_folder=sql)
    words = rf"the query of {table} in include/sql/ returns a work_order_number that cannot be read \(.+\): number the"
    assert re.match(words, str(refused.value)), refused.value
    assert "quarantine" not in str(refused.value)


def test_a_condition_that_fails_for_every_work_order_is_the_query_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    path = sql / "input.work-orders-timeline.sql"
    path.write_text(path.read_text() + "\nWHERE 1 / length(left(input.id::text, 0)) = 0")
    words = r"the query of input in include/sql/ fails for each work order that was tried \(.*division by zero.*\): fix"
    with pytest.raises(SourceRejected, match=words):
        filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)


@pytest.mark.parametrize("column", ["create_date", "file_extension"])
def test_a_number_made_of_a_value_that_cannot_be_read_is_the_value_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path, column: str
) -> None:
    name = "input.work-orders-timeline.sql"
    made = f"work_items.work_order_number + 0 * length((input.{column}::timestamptz)::text) AS work_order_number,"
    filled.connection.execute(f"UPDATE input SET {column} = '2025-03-16'")
    spoil(filled, "input", column, "'n/a'")
    (sql / name).write_text((sql / name).read_text().replace("work_items.work_order_number,", made))
    exported = filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)
    assert (exported.result.work_orders, exported.result.quarantined) == (6, 1)
    (kept,) = map(json.loads, (tmp_path / "out" / "quarantine.json").read_text().splitlines())
    assert "n/a" in kept["problems"][0]["problem"]
    if column == "create_date":
        assert kept["problems"][0]["field"] == "work_items[].input[].create_date"


OWN: dict[str, tuple[str, str, str]] = {
    "work_order": ("work_order.sql", "    progress_score\n", "    name::float8 AS progress_score\n"),
    "work_item": ("work_item.sql", "    work_item.position\n", "    work_item.name::int AS position\n"),
    "input": ("input.work-orders-timeline.sql", "    input.create_date,", "file_extension::date AS create_date,"),
}


@pytest.mark.parametrize("table", OWN)
def test_a_cast_of_an_installation_s_own_query(filled: SourceDatabase, tmp_path: Path, sql: Path, table: str) -> None:
    name, old, new = OWN[table]
    text = (sql / name).read_text()
    assert old in text
    (sql / name).write_text(text.replace(old, new))
    filled.connection.execute("UPDATE work_order SET name = '0.5'")
    filled.connection.execute("UPDATE work_item SET name = '1'")
    filled.connection.execute("UPDATE input SET file_extension = '2025-03-16'")
    filled.connection.execute("ALTER TABLE input ALTER file_extension SET DEFAULT NULL")
    column = {"work_order": "name", "work_item": "name", "input": "file_extension"}[table]
    spoil(filled, table, column, "'n/a'")
    text = (sql / "input.work-orders-timeline.sql").read_text()
    (sql / "input.work-orders-timeline.sql").write_text(
        text.replace("    input.file_extension,", "NULL AS file_extension,")
    )
    with pytest.raises(InvalidRecord, match=rf'work order {key(0, BAD)}: .*"n/a *".*table {table}, column'):
        filled.export(tmp_path / "out", sql_folder=sql)
    exported = filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)
    assert (exported.result.work_orders, exported.result.quarantined) == (6, 1)


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_an_id_that_is_no_uuid(filled: SourceDatabase, tmp_path: Path, sql: Path, export_type: str) -> None:
    text = (sql / "work_order.sql").read_text()
    wrong = f"    CASE WHEN name = 'order {BAD}' THEN 'nope' ELSE site_id::text END AS site_id,\n"
    (sql / "work_order.sql").write_text(text.replace("    site_id,\n", wrong))
    with pytest.raises(InvalidRecord, match=rf'work order {key(0, BAD)}: site_id cannot be read: .*uuid: "nope"'):
        filled.export(tmp_path / "out", export_type, sql_folder=sql)
    exported = filled.export(tmp_path / "out", export_type, on_invalid="quarantine", sql_folder=sql)
    assert (exported.result.work_orders, exported.result.quarantined) == (6, 1)


def test_a_query_that_fails_whatever_the_rows_are_is_no_record_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    text = (sql / "work_order.sql").read_text()
    (sql / "work_order.sql").write_text(text.replace("    progress_score\n", "    'x'::float8 AS progress_score\n"))
    with pytest.raises(ValueRejected, match=r"work_order\.sql.*invalid input syntax"):
        filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)


@pytest.mark.parametrize(
    ("kind", "code"), [("float4", 1_234_567), ("float4", -16_777_215), ("float8", 9_007_199_254_740_991)]
)
def test_a_whole_number_that_a_float_holds_keeps_every_digit(
    filled: SourceDatabase, tmp_path: Path, sql: Path, kind: str, code: int
) -> None:
    text = (sql / "data_conformity.sql").read_text()
    (sql / "data_conformity.sql").write_text(text.replace("data_conformity.code", f"'{code}'::{kind} AS code"))
    (first, *_) = map(json.loads, filled.export(tmp_path / "out", sql_folder=sql).lines)
    assert first["work_items"][0]["input"][0]["data_conformity"][0]["code"] == code


def test_a_float_that_is_nearly_whole_is_not_rounded(filled: SourceDatabase, tmp_path: Path) -> None:
    spoil(filled, "data_conformity", "code", "'1.0000000000000002'")
    with pytest.raises(InvalidRecord, match=r'bigint: "1\.0000000000000002".*column code'):
        filled.export(tmp_path)


def test_a_float_of_single_precision_is_the_number_that_the_source_shows(
    filled: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    text = (sql / "work_order.sql").read_text()
    (sql / "work_order.sql").write_text(text.replace("    progress_score\n", "    0.1::real AS progress_score\n"))
    (first, *_) = map(json.loads, filled.export(tmp_path / "out", sql_folder=sql).lines)
    assert first["progress_score"] == 0.1


@pytest.mark.parametrize(("table", "column"), [("data_conformity", "code"), ("work_item", "position")])
def test_a_number_of_json_is_not_rounded_either(
    filled: SourceDatabase, tmp_path: Path, sql: Path, table: str, column: str
) -> None:
    text = (sql / f"{table}.sql").read_text()
    (sql / f"{table}.sql").write_text(text.replace(f"{table}.{column}", f"to_jsonb({table}.{column}) AS {column}"))
    assert len(filled.export(tmp_path / "whole", sql_folder=sql).lines) == len(GOOD)
    spoil(filled, table, column, "1.5")
    with pytest.raises(InvalidRecord, match=rf'{key(0, BAD)}: .*bigint: "1.5".*column {column}'):
        filled.export(tmp_path / "half", sql_folder=sql)


@pytest.mark.parametrize("table", ["work_order", "input", "job_conformity"])
def test_a_huge_value_is_set_aside_before_it_costs_memory(filled: SourceDatabase, tmp_path: Path, table: str) -> None:
    column = "analyzed_value" if table == "job_conformity" else "metadata"
    huge = "(SELECT json_build_object('x', repeat('y', 2000000)))"
    spoil(filled, table, column, huge + ("::text" if table == "job_conformity" else ""))
    with pytest.raises(
        InvalidRecord, match=rf"is 20000\d\d bytes long, more than limits.max_record_mb.*column {column}"
    ):
        extract(filled.dsn, SITE, WINDOW, TIMELINE, tmp_path, max_record_mb=1)
    rows = extract(filled.dsn, SITE, WINDOW, TIMELINE, tmp_path, max_record_mb=1, on_invalid="quarantine")
    assert rows["work_order"] == 6


@pytest.mark.parametrize("tells_compression", [True, False], ids=["now", "before PostgreSQL 14"])
@pytest.mark.parametrize("kind", ["jsonb", "json", "text"])
def test_a_small_value_that_is_huge_when_spelled_out_is_one_of_them(
    one_order: SourceDatabase,
    tmp_path: Path,
    sql: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    tells_compression: bool,
) -> None:
    """A number of nine characters has 131,000 digits: 12 KB of metadata would be 800 MB of text here."""
    if not tells_compression:
        monkeypatch.setattr("data_export.source.database._ABILITIES", Query("SELECT true, false", ()))
    text = (sql / "work_order.sql").read_text()
    (sql / "work_order.sql").write_text(text.replace("    metadata,\n", f"    name::{kind} AS metadata,\n"))
    numbers = f"[{', '.join(['1e131000'] * 50)}]"
    one_order.connection.execute("UPDATE work_order SET name = %s", [f'{{"a": {numbers}}}'])
    with pytest.raises(InvalidRecord, match=r"metadata is 6550\d\d\d bytes long, more than limits.max_record_mb"):
        run_extract(one_order, tmp_path, sql, max_record_mb=1)
    assert run_extract(one_order, tmp_path, sql, max_record_mb=1, on_invalid="quarantine")["work_order"] == 0
    assert run_extract(one_order, tmp_path, sql, max_record_mb=7)["work_order"] == 1


def test_a_database_that_does_not_know_its_encoding(server: PostgresServer, tmp_path: Path) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    with psycopg.connect(server.dsn("ascii"), autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(SCHEMA.read_text())
        source = SourceDatabase(server.dsn("ascii"), connection)
        source.insert("work_order", [{"id": key(0, k), "site_id": SITE, "create_date": WINDOW.start} for k in GOOD])
        connection.execute(f"UPDATE work_order SET name = E'caf\\xc3\\xa9' WHERE id = '{key(0, 1)}'")
        connection.execute(f"UPDATE work_order SET name = E'caf\\xe9' WHERE id = '{key(0, BAD)}'")
        connection.execute("CREATE FUNCTION convert_from(bytea, text) RETURNS text LANGUAGE sql AS 'SELECT NULL'")
        with pytest.raises(InvalidRecord, match=r"invalid byte sequence.*column name"):
            source.export(tmp_path)
        exported = source.export(tmp_path, on_invalid="quarantine")
        assert json.loads(exported.lines[0])["name"] == "caf\u00e9"
        assert exported.result.quarantined == 1


def losing_a_value(source: SourceDatabase, order: UUID) -> None:
    """Takes away what a long name is stored as, as a bad disk may."""
    connection = source.connection
    connection.execute("ALTER TABLE work_order ALTER name TYPE text, ALTER name SET STORAGE EXTERNAL")
    connection.execute("UPDATE work_order SET name = repeat('x', 9000) WHERE id = %s", [order])
    found = connection.execute("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'work_order'").fetchone()
    assert found is not None
    (toast,) = found
    connection.execute("SET allow_system_table_mods = on")
    connection.execute(f"UPDATE pg_class SET relkind = 'r' WHERE oid = '{toast}'::regclass")
    connection.execute(f"DELETE FROM {toast}")
    connection.execute(f"UPDATE pg_class SET relkind = 't' WHERE oid = '{toast}'::regclass")
    connection.execute("RESET allow_system_table_mods")
    connection.execute("VACUUM work_order")


def test_a_value_whose_stored_bytes_are_damaged_is_named_and_set_aside(server: PostgresServer, tmp_path: Path) -> None:
    dsn = server.create_database("damaged")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        source = SourceDatabase(dsn, connection)
        source.insert("work_order", [{"id": key(0, k), "site_id": SITE, "create_date": WINDOW.start} for k in GOOD])
        losing_a_value(source, key(0, BAD))
        with pytest.raises(InvalidRecord, match=rf"{key(0, BAD)}: name .*missing chunk number 0.*XX001.*column name"):
            source.export(tmp_path)
        exported = source.export(tmp_path, on_invalid="quarantine")
        assert (exported.result.work_orders, exported.result.quarantined) == (6, 1)


@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
def test_a_value_that_is_put_right_before_it_is_looked_for_is_delivered(
    filled: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_invalid: str
) -> None:
    def repaired(*arguments: Any, **options: Any) -> list[Culprit]:
        spoil(filled, "input", "create_date", "'2025-03-16'")
        return find_culprits(*arguments, **options)

    spoil(filled, "input", "create_date", "'n/a'")
    monkeypatch.setattr("data_export.source.extract.find_culprits", repaired)
    assert len(filled.export(tmp_path, on_invalid=on_invalid).lines) == len(GOOD)


@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
def test_a_value_that_is_put_right_while_it_is_looked_for_costs_no_other_record(
    filled: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_invalid: str
) -> None:
    """Of a half that fails, one half must: but not where a newer moment is looked at by then."""
    failing = Search._failing

    def repaired(search: Search, orders: Orders) -> bool:
        fails = failing(search, orders)
        if fails:
            spoil(filled, "input", "create_date", "'2025-03-16'")
        return fails

    spoil(filled, "input", "create_date", "'n/a'")
    monkeypatch.setattr(Search, "_failing", repaired)
    assert len(filled.export(tmp_path, on_invalid=on_invalid).lines) == len(GOOD)


#: What work_item.sql makes of `name`, and what PostgreSQL says of one whose name is `n/a`.
REFUSING: dict[str, tuple[str, str]] = {
    "two rows": (
        "(SELECT input.file_extension FROM input WHERE work_item.name = 'n/a' AND work_item_id = work_item.id)",
        "more than one row returned by a subquery.*21000",
    ),
    "domain": ("work_item.name::not_na", "violates check constraint.*23514"),
    "raised": ("refusing(work_item.name, 'P0001')", r"no name: n/a \(SQLSTATE P0001"),
    "raised whatever is asked for": ("refusing_always(work_item.name)", r"no name: n/a \(SQLSTATE P0001"),
    "of another language": ("refusing(work_item.name, '38000')", r"no name: n/a \(SQLSTATE 38000"),
    "protocol of that language": ("refusing(work_item.name, '39P01')", r"no name: n/a \(SQLSTATE 39P01"),
    "without RETURN": ("without_return(work_item.name)", "without RETURN.*2F005"),
}
FUNCTIONS = """
DROP DOMAIN IF EXISTS not_na;
CREATE DOMAIN not_na AS text CHECK (VALUE <> 'n/a');
CREATE OR REPLACE FUNCTION refusing(name text, state text) RETURNS text STABLE LANGUAGE plpgsql AS $$
BEGIN IF name = 'n/a' THEN RAISE 'no name: %', name USING ERRCODE = state; END IF; RETURN name; END $$;
CREATE OR REPLACE FUNCTION refusing_always(name text) RETURNS text VOLATILE LANGUAGE plpgsql AS $$
BEGIN RETURN refusing(name, 'P0001'); END $$;
CREATE OR REPLACE FUNCTION without_return(name text) RETURNS text STABLE LANGUAGE plpgsql AS $$
BEGIN IF name <> 'n/a' THEN RETURN name; END IF; END $$;
"""


@pytest.mark.parametrize("case", REFUSING)
def test_what_a_subquery_a_domain_or_a_function_refuses_is_the_value_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path, case: str
) -> None:
    """It was tried again as an outage, or stopped the whole window."""
    expression, words = REFUSING[case]
    filled.connection.execute(FUNCTIONS)
    filled.connection.execute("UPDATE work_item SET name = 'right'")
    spoil(filled, "work_item", "name", "'n/a'")
    text = (sql / "work_item.sql").read_text()
    (sql / "work_item.sql").write_text(text.replace("    work_item.name,\n", f"    {expression} AS name,\n"))
    with pytest.raises(InvalidRecord, match=rf"work order {key(0, BAD)}: .*{words}.*table work_item"):
        filled.export(tmp_path / "out", sql_folder=sql)
    exported = filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)
    assert [json.loads(line)["name"] for line in exported.lines] == [f"order {k}" for k in GOOD if k != BAD]
    assert exported.result.quarantined == 1


@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
@pytest.mark.parametrize("case", REFUSING)
def test_what_refuses_every_work_order_is_no_record_s_fault(
    filled: SourceDatabase, tmp_path: Path, sql: Path, case: str, on_invalid: str
) -> None:
    """To set all of them aside would deliver an empty file; a look-up in another language may be back soon."""
    expression, words = REFUSING[case]
    filled.connection.execute(FUNCTIONS)
    filled.connection.execute("UPDATE work_item SET name = 'n/a'")
    text = (sql / "work_item.sql").read_text()
    (sql / "work_item.sql").write_text(text.replace("    work_item.name,\n", f"    {expression} AS name,\n"))
    error = SourceUnavailable if "SQLSTATE 3" in words else SourceRejected
    with pytest.raises(error, match=f"fails for each work order that was tried.*{words}"):
        filled.export(tmp_path / "out", on_invalid=on_invalid, sql_folder=sql)


def test_what_another_language_says_while_work_orders_are_chosen_may_pass(
    filled: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    """As of a look-up whose service is away; no work order can be named."""
    filled.connection.execute(FUNCTIONS)
    text = (sql / "work_order.sql").read_text()
    (sql / "work_order.sql").write_text(text.replace("WHERE", "WHERE refusing('n/a', '38000') IS NOT NULL AND"))
    with pytest.raises(SourceUnavailable, match=r"no name: n/a \(SQLSTATE 38000"):
        filled.export(tmp_path / "out", sql_folder=sql)


@pytest.fixture
def away(filled: SourceDatabase, sql: Path) -> None:
    """Every work item's name asks a service that is away."""
    filled.connection.execute(FUNCTIONS)
    filled.connection.execute("UPDATE work_item SET name = 'n/a'")
    text = (sql / "work_item.sql").read_text()
    asks = "    refusing(work_item.name, '38000') AS name,\n"
    (sql / "work_item.sql").write_text(text.replace("    work_item.name,\n", asks))


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
@pytest.mark.parametrize("step", ["_examined", "_require_some"])
def test_what_was_away_and_comes_back_while_records_are_looked_at_costs_none(
    filled: SourceDatabase, tmp_path: Path, sql: Path, monkeypatch: pytest.MonkeyPatch, step: str, on_invalid: str
) -> None:
    of_search = getattr(Search, step)

    def back(search: Search, *arguments: Any) -> Any:
        try:
            return of_search(search, *arguments) if step == "_examined" else None
        finally:
            filled.connection.execute("UPDATE work_item SET name = 'right'")
            search._source.renew()  # a service is back for each snapshot, this one's stand-in for later ones

    monkeypatch.setattr(Search, step, back)
    assert len(filled.export(tmp_path / "out", on_invalid=on_invalid, sql_folder=sql).lines) == len(GOOD)


def test_what_goes_away_while_records_are_looked_for_sets_none_aside(
    filled: SourceDatabase, tmp_path: Path, sql: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is really wrong, and is found first."""
    filled.connection.execute(FUNCTIONS)
    text = (sql / "work_item.sql").read_text()
    asks = "    refusing(work_item.name, '38000') AS name,\n"
    (sql / "work_item.sql").write_text(text.replace("    work_item.name,\n", asks))
    filled.connection.execute("UPDATE work_item SET name = 'right'")
    filled.connection.execute("ALTER TABLE input ALTER COLUMN create_date TYPE text")
    first = key(3, min(GOOD))
    filled.connection.execute("UPDATE input SET create_date = 'n/a' WHERE id = %s", [first])
    of_search, looked = Search._examined, list[str]()

    def goes(search: Search, order: str) -> Culprit:
        found = of_search(search, order)
        looked.append(order)
        filled.connection.execute("UPDATE work_item SET name = 'n/a'")
        search._source.renew()
        return found

    monkeypatch.setattr(Search, "_examined", goes)
    with pytest.raises(SourceUnavailable, match=r"fails for each work order that was tried.*38000"):
        filled.export(tmp_path / "out", on_invalid="quarantine", sql_folder=sql)
    assert len(looked) == 2


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
def test_what_is_away_sets_no_lone_work_order_aside(
    filled: SourceDatabase, tmp_path: Path, sql: Path, on_invalid: str
) -> None:
    filled.connection.execute(
        "UPDATE work_order SET update_date = '2020-01-01', create_date = '2020-01-01' WHERE id <> %s", [key(0, BAD)]
    )
    with pytest.raises(SourceUnavailable, match="38000"):
        filled.export(tmp_path / "out", on_invalid=on_invalid, sql_folder=sql)


def test_each_connection_asks_for_the_login_anew(filled: SourceDatabase, tmp_path: Path) -> None:
    """A token in place of a password lives for minutes, and the search may begin an hour after the first reading."""
    filled.connection.execute("DROP ROLE IF EXISTS passing")
    filled.connection.execute("CREATE ROLE passing LOGIN SUPERUSER")
    tokens: list[str] = []

    def dsn() -> str:
        tokens.append(f"token-{len(tokens)}")
        filled.connection.execute(f"ALTER ROLE passing PASSWORD '{tokens[-1]}'")
        return f"postgresql://passing:{tokens[-1]}@{filled.dsn.rpartition('@')[2]}"

    spoil(filled, "input", "create_date", "'n/a'")
    assert extract(dsn, SITE, WINDOW, TIMELINE, tmp_path, on_invalid="quarantine")["work_order"] == len(GOOD) - 1
    assert len(tokens) == 3


def test_the_last_input_is_that_of_the_last_moment_whatever_its_text_is(filled: SourceDatabase, tmp_path: Path) -> None:
    for level, text in {2: "2025-03-16 09:00:00+05", 3: "2025-03-16 08:00:00+00"}.items():
        ids = [key(level, k) for k in GOOD]
        filled.connection.execute("UPDATE input SET create_date = %s WHERE id = ANY(%s)", [text, ids])
    lines = map(json.loads, filled.export(tmp_path, STATES).lines)
    last = [line["work_items"][0]["input"][0]["id"] for line in lines]
    assert last == [str(key(3, k)) for k in GOOD]


def test_a_moment_that_cannot_be_read_leaves_open_which_input_is_the_last(
    filled: SourceDatabase, tmp_path: Path
) -> None:
    spoil(filled, "input", "create_date", "'n/a'")
    filled.connection.execute("UPDATE input SET create_date = 'today' WHERE id = %s", [key(3, BAD)])  # text after 'n/a'
    exported = filled.export(tmp_path, STATES, on_invalid="quarantine")
    assert [json.loads(line)["name"] for line in exported.lines] == [f"order {k}" for k in GOOD if k != BAD]
    (kept,) = map(json.loads, (tmp_path / "quarantine.json").read_text().splitlines())
    assert "n/a" in kept["problems"][0]["problem"]


def test_lines_are_in_the_order_of_moments_whatever_their_texts_are(
    filled: SourceDatabase, tmp_path: Path, sql: Path
) -> None:
    for number in GOOD:
        moment = f"2025-03-16 {number + 8:02}:00+00"  # 09:00 AM to 03:00 PM
        filled.connection.execute("UPDATE work_order SET create_date = %s WHERE id = %s", [moment, key(0, number)])
    text = (sql / "work_order.sql").read_text()
    rows = "id, name, site_id, to_char(create_date, 'YYYY-MM-DD HH12:MI AM') AS create_date, update_date"
    rows = f"FROM (SELECT {rows}, metadata, progress_score FROM work_order) AS work_order\n"
    text = text.replace("FROM work_order\n", rows).replace("create_date >", "create_date::timestamptz >")
    (sql / "work_order.sql").write_text(text.replace("create_date <", "create_date::timestamptz <"))
    lines = map(json.loads, filled.export(tmp_path / "out", sql_folder=sql).lines)
    assert [line["name"] for line in lines] == [f"order {k}" for k in GOOD]


@pytest.mark.parametrize("on_invalid", ["fail", "quarantine"])
def test_what_fails_and_is_no_record_s_fails_for_good(
    filled: SourceDatabase, tmp_path: Path, sql: Path, on_invalid: str
) -> None:
    """A record without an id cannot be told from others."""
    text = (sql / "work_order.sql").read_text()
    unnamed = text.replace("    id,\n", f"    nullif(id, '{key(0, BAD)}') AS id,\n")
    (sql / "work_order.sql").write_text(unnamed.replace("    progress_score\n", "    name::float8 AS progress_score\n"))
    filled.connection.execute("UPDATE work_order SET name = '0.5'")
    spoil(filled, "work_order", "name", "'n/a'")
    with pytest.raises(ValueRejected, match="invalid input syntax"):
        filled.export(tmp_path / "out", on_invalid=on_invalid, sql_folder=sql)


@pytest.mark.parametrize("bad", [1, 2])
def test_a_slow_search_still_names_the_first(
    filled: SourceDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    monkeypatch.setattr("data_export.source.culprits._LONGEST_SECONDS", 0.0)
    for number in range(1, bad + 1):
        filled.connection.execute(f"UPDATE input SET create_date = 'n/a' WHERE id = '{key(2, number)}'")
    with pytest.raises(InvalidRecord, match=rf"work order {key(0, 1)}: .*n/a"):
        filled.export(tmp_path / "fail")
    if bad == 1:
        assert filled.export(tmp_path / "aside", on_invalid="quarantine").result.quarantined == 1
        return
    with pytest.raises(ValueRejected, match="at least 2 work orders of the window have it: no more"):
        filled.export(tmp_path / "aside", on_invalid="quarantine")
