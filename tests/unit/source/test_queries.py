"""The editable queries: what an installation may change, and how a mistake is named."""

from pathlib import Path
from uuid import UUID

import pytest

from data_export.errors import InvalidRecord, SourceRejected
from data_export.source.extract import SQL_FOLDER, extract
from data_export.source.queries import Queries
from tests.unit.source_kit import INPUT, ORDER, SITE, STATES, TIMELINE, WINDOW, SourceDatabase, run_extract


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


def test_ids_may_be_of_fixed_length_and_numbers_text(one_order: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    """A char(38) holds a uuid with spaces after it, and of the texts of numbers '10' comes before '2'."""
    orders = [{"id": UUID(int=k), "site_id": SITE, "create_date": WINDOW.start} for k in range(10, 21)]
    one_order.insert("work_order", orders)
    one_order.insert("work_item", [{"id": order["id"], "work_order_id": order["id"]} for order in orders])
    expected = one_order.export(tmp_path / "before").data
    edits = {
        "work_order.sql": (") AS work_order_number", ")::text AS work_order_number"),
        "job_conformity.sql": ("job_conformity.input_id,", "job_conformity.input_id::char(38) AS input_id,"),
    }
    for name, (old, new) in edits.items():
        text = (sql / name).read_text()
        assert old in text
        (sql / name).write_text(text.replace(old, new))
    assert one_order.export(tmp_path / "after", sql_folder=sql).data == expected


def test_placeholders_are_filled_and_casts_left_alone() -> None:
    text = Queries(SQL_FOLDER, SITE, WINDOW, TIMELINE).columns().text
    assert f"site_id = '{SITE}'::uuid" in text
    assert "create_date >= '2025-03-16T00:00:00+00:00'::timestamptz" in text
    assert "create_date < '2025-03-17T00:00:00+00:00'::timestamptz" in text


BROKEN = {
    "column missing": (
        "input.work-orders-timeline.sql",
        "    input.create_date,\n",
        "",
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
        "work_item.position",
        "now() AS position",
        r"work_item\.sql: cannot cast type timestamp with time zone to bigint",
    ),
    "no number": (
        "work_item.sql",
        "work_orders.work_order_number",
        "NULL::int AS work_order_number",
        r"work_item\.sql: work_order_number is NULL",
    ),
    "number too large": (
        "work_item.sql",
        "work_orders.work_order_number",
        "work_orders.work_order_number + 3000000000 AS work_order_number",
        r"work_item in include/sql/ returned a work_order_number that is not within 32 bits: number the work orders",
    ),
    "fails midway": (
        "job_conformity.sql",
        "job_conformity.message",
        "(1 / (inputs.work_order_number - 1))::text AS message",
        rf"work order {ORDER}: work_items\[\]\.input\[\]\.job_conformity\[\] .*division by zero",
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
    with pytest.raises((SourceRejected, InvalidRecord), match=message) as caught:
        run_extract(one_order, tmp_path, sql)
    assert "\n" not in str(caught.value)


def test_a_missing_query_is_named(one_order: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    (sql / "work_order.sql").unlink()
    with pytest.raises(SourceRejected, match=r"work_order\.sql: no such file"):
        run_extract(one_order, tmp_path, sql)


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
def test_an_id_that_is_there_twice_has_all_its_rows_each_time(
    one_order: SourceDatabase, tmp_path: Path, sql: Path, export_type: str
) -> None:
    """As in a table whose key is (id, create_date): one of the two lines was without its inputs."""
    path = sql / "work_order.sql"
    path.write_text(path.read_text().replace("FROM work_order\n", "FROM work_order, generate_series(1, 2) AS copy\n"))
    rows = extract(one_order.dsn, SITE, WINDOW, export_type, tmp_path, sql_folder=sql)
    assert rows == {"work_order": 2, "work_item": 2, "input": 2, "data_conformity": 0, "job_conformity": 2}


@pytest.mark.parametrize("table", ["work_order", "work_item", "input", "data_conformity", "job_conformity"])
def test_extra_columns_do_no_harm(one_order: SourceDatabase, tmp_path: Path, table: str) -> None:
    before = one_order.export(tmp_path / "before").data
    one_order.connection.execute(f"ALTER TABLE {table} ADD work_order_number text DEFAULT 'x', ADD tag xml")
    try:
        assert one_order.export(tmp_path / "after").data == before
    finally:
        one_order.connection.execute(f"ALTER TABLE {table} DROP work_order_number, DROP tag")
