"""The text of the queries is read as PostgreSQL reads it."""

from pathlib import Path

import pytest

from data_export.source.sql_text import ALL_ORDERS, NO_ORDERS, Orders, filled, narrowed
from tests.unit.source_kit import INPUT, SourceDatabase

VALUES = {"site_id": "S", "start": "A", "end": "Z"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x >= :start AND x<:end", "x >= A AND x<Z"),
        ("(:start,:end)", "(A,Z)"),
        ("':start' || ''':end'", "':start' || ''':end'"),
        (r"'\' || :start || '\'", r"'\' || A || '\'"),
        (r"E'\':start' || :end", r"E'\':start' || Z"),
        ('":start" AS "a"":end"', '":start" AS "a"":end"'),
        ("$$ :start $$ || $a$ $$ :end $$ $a$ || :end", "$$ :start $$ || $a$ $$ :end $$ $a$ || Z"),
        ("a::start || b :: end", "a::start || b :: end"),
        ("1 -- :start\n, :end", "1 -- :start\n, Z"),
        ("1 /* :start /* :end */ :start */ , :end", "1 /* :start /* :end */ :start */ , Z"),
        ("a[1:end]", "a[1:end]"),
        (":starting, :unknown", ":starting, :unknown"),
        ("SELECT 1; -- a comment; it's the end", "SELECT 1 -- a comment; it's the end"),
        ("SELECT 1 ;\n/* done; */ ;", "SELECT 1 \n/* done; */ "),
        ("SELECT ';'", "SELECT ';'"),
        ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"),
        ("'never closed :start", "'never closed A"),
        ("", ""),
    ],
)
def test_placeholders_are_filled_where_they_are_code(text: str, expected: str) -> None:
    assert filled(text, VALUES) == expected


def test_it_runs_on_postgresql(one_order: SourceDatabase, tmp_path: Path, sql: Path) -> None:
    (sql / "job_conformity.sql").write_text(
        r"SELECT inputs.work_order_number, input_id, ':start' || $q$:end$q$ || '\' AS task_name, analyzed_value, "
        'corrected_value, corrected_date, message AS "message", is_conformity_validated '
        "FROM inputs JOIN job_conformity ON input_id = inputs.id -- :site_id\n/* /* :end */ ; */\n; -- it's done;"
    )
    data = one_order.export(tmp_path / "out", sql_folder=sql).data.decode()
    assert r'"task_name":":start:end\\",' in data
    assert str(INPUT) in data


CONDITION = "{id}::text < 'x'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT id FROM t WHERE a OR b", "SELECT id FROM t WHERE id::text < 'x' AND ( a OR b\n) "),
        (
            "WITH q AS (SELECT 1 FROM u WHERE c) SELECT f(a, b) n, w.id FROM q WHERE a -- c\nORDER BY 1",
            "WITH q AS (SELECT 1 FROM u WHERE c) SELECT f(a, b) n, w.id FROM q "
            "WHERE w.id::text < 'x' AND ( a -- c\n\n) ORDER BY 1",
        ),
        (
            'SELECT upper(key) AS "id", 1 FROM t WHERE (a) GROUP BY 1',
            "SELECT upper(key) AS \"id\", 1 FROM t WHERE (upper(key))::text < 'x' AND ( (a) \n) GROUP BY 1",
        ),
        ("SELECT key id FROM t WHERE a", "SELECT key id FROM t WHERE key::text < 'x' AND ( a\n) "),
        ("SELECT a || b AS id FROM t WHERE a", "SELECT a || b AS id FROM t WHERE (a || b)::text < 'x' AND ( a\n) "),
        ("SELECT a::uuid AS id FROM t WHERE a", "SELECT a::uuid AS id FROM t WHERE (a::uuid)::text < 'x' AND ( a\n) "),
    ],
)
def test_a_select_is_narrowed_inside(text: str, expected: str) -> None:
    assert narrowed(text, "id", CONDITION) == expected


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM t",
        "SELECT id FROM t WHERE a UNION SELECT id FROM u WHERE b",
        "TABLE t",
        "SELECT * FROM t WHERE a",
        "SELECT DISTINCT id FROM t WHERE a",
        "",
    ],
)
def test_what_is_another_query_is_left_alone(text: str) -> None:
    assert narrowed(text, "id", CONDITION) is None


def test_the_conditions_of_orders() -> None:
    assert ALL_ORDERS.condition("id") == "true"
    assert NO_ORDERS.condition("id").count("AND") == 1
    assert r"E'it''s \\ x'" in Orders(first=r"it's \ x").condition("id")
