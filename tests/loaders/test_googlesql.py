"""BigQuery's scripts on GoogleSQL's own engine, where it is installed: half a minute to compile, so no requirement."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loaders.conftest import DEEP, LOADERS, Delivered
from tests.loaders.test_questions import answers

pytest.importorskip("zetasql", reason="GoogleSQL is not installed: pip install zetasql")
duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")

Query = Callable[[str], list[tuple[Any, ...]]]


def statements(script: str) -> Iterator[str]:
    text = re.sub(r"--[^\n]*", "", (LOADERS / script).read_text())
    return (statement.strip() for statement in text.split(";") if statement.strip())


def views() -> str:
    """What the MERGE reads, the views above it and the questions, as the beginning of one query."""
    found = {}
    for script in ("bigquery/load.sql", "bigquery/create.sql", "questions.sql"):
        for statement in statements(script):
            if merge := re.search(r"USING \((.*)\) AS loaded\s+ON", statement, re.DOTALL):
                found["delivered_record"] = merge[1]
            elif view := re.match(r"CREATE OR REPLACE VIEW (\w+) AS\s+(.*)", statement, re.DOTALL):
                found[view[1]] = view[2]
    return "WITH " + ",\n".join(f"{name} AS ({query})" for name, query in found.items())


def on_googlesql(rows: list[tuple[str, str]], zone: str) -> Query:
    """Queries of files' lines, each with the file's name."""
    from zetasql.api import CatalogBuilder, PreparedQuery, TableBuilder, create_table_content
    from zetasql.types import AnalyzerOptions, LanguageOptions, TypeKind, ZetaSQLBuiltinFunctionOptions

    language, catalog = LanguageOptions.maximum_features(), CatalogBuilder("acme")
    for table, columns in {"reporting": ["zone"], "delivered_line": ["line", "_FILE_NAME"]}.items():
        builder = TableBuilder(table)
        for column in columns:
            builder = builder.add_column(column, TypeKind.TYPE_STRING)
        catalog = catalog.add_table(builder.build())
    catalog = catalog.with_builtin_functions(ZetaSQLBuiltinFunctionOptions(language_options=language))
    contents = {"reporting": [[zone]], "delivered_line": [list(row) for row in rows]}

    def run(query: str) -> list[tuple[Any, ...]]:
        prepared = PreparedQuery.builder().set_sql(f"{views()} SELECT TO_JSON_STRING(t) FROM ({query}) AS t")
        prepared = prepared.set_analyzer_options(AnalyzerOptions(language_options=language))
        prepared = prepared.set_catalog(catalog.build())
        prepared = prepared.set_table_content({name: create_table_content(each) for name, each in contents.items()})
        with prepared.prepare() as ready:
            found = ready.execute().content.table_data.row
        return [tuple(json.loads(row.cell[0].string_value).values()) for row in found]

    return run


def test_every_statement_is_one_of_googlesql() -> None:
    from zetasql.api import Parser
    from zetasql.types import LanguageOptions

    for script in ("bigquery/create.sql", "bigquery/load.sql", "questions.sql"):
        for statement in statements(script):
            Parser.parse_statement_static(statement, LanguageOptions.maximum_features())


def test_it_gives_the_same_answers_as_duckdb(delivered: Delivered, tmp_path: Path) -> None:
    """But for what is nested over 1,000 levels, which its JSON refuses, or over 1 MB, as this build does."""
    rows = []
    for path in delivered.second.rglob("*.json"):
        copy = tmp_path / (name := path.relative_to(delivered.second))
        copy.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            line
            for line in path.read_text().split("\n")
            if line and line.count("{") < DEEP.count("{") and len(line) < 1 << 20
        ]
        copy.write_text("".join(f"{line}\n" for line in lines))
        rows += [(line, f"gs://acme-exports/production/{name}") for line in lines]
    connection = duckdb.connect()
    for script in ("duckdb/create.sql", "questions.sql"):
        connection.execute((LOADERS / script).read_text())
    connection.execute("SET VARIABLE delivered = ?", [f"{tmp_path}/*/data/*/*.json"])
    connection.execute((LOADERS / "duckdb" / "load.sql").read_text())
    assert answers(on_googlesql(rows, "UTC")) == answers(lambda query: connection.execute(query).fetchall())


@pytest.mark.parametrize(
    ("moment", "zone", "week"),
    [
        ("0001-01-01T00:00:00.000000Z", "America/New_York", "0001-01-01"),
        ("9999-12-31T23:59:59.999999Z", "Europe/Paris", "9999-12-27"),
        ("2025-03-16T23:30:00.000000Z", "Europe/Paris", "2025-03-17"),
    ],
)
def test_every_moment_has_a_week_in_every_zone(moment: str, zone: str, week: str) -> None:
    photo = {"id": "b", "create_date": moment}
    record = {"id": "a", "site_id": "s", "create_date": moment, "work_items": [{"id": "i", "input": [photo]}]}
    name = "gs://b/s/data/work-orders-timeline/2025-03-16_00:00:00_2025-03-17_00:00:00.json"
    run = on_googlesql([(json.dumps(record), name)], zone)
    assert run("SELECT work_order.week, input.week AS of_input FROM work_order CROSS JOIN input") == [(week, week)]


def test_of_a_work_order_in_the_files_of_two_sites_the_newer_state_is_merged() -> None:
    """Two of one id would stop the MERGE for good."""
    noon = "2025-03-16T12:00:00.000000Z"
    name = "gs://b/{}/data/work-orders-timeline/2025-03-16_00:00:00_2025-03-17_00:00:00.json"
    rows = [
        (json.dumps({"id": "a", "site_id": site, "update_date": moment, "work_items": []}), name.format(site))
        for site, moment in (("s", noon), ("t", noon), ("u", None), ("v", "2025-03-16T11:00:00.000000Z"))
    ]
    for order in (rows, rows[::-1]):
        assert on_googlesql(order, "UTC")("SELECT id, site_id FROM delivered_record") == [("a", "t")]
