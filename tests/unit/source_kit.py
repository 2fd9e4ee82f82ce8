"""A real source for tests: an embedded PostgreSQL with the five tables, and the whole data path on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from data_export.check.check import check_connection, check_queries
from data_export.check.results import CheckResult
from data_export.config.models import CustomerExport
from data_export.source.extract import SQL_FOLDER, extract
from data_export.source.queries import MAX_RECORD_MB
from data_export.source.snapshot import TABLES
from data_export.transform.transform import TransformResult, transform
from data_export.window import ExportWindow
from demo.servers.postgres import PostgresServer

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
TIMELINE, STATES = "work-orders-timeline", "work-orders-states"
SCHEMA = Path(__file__).parents[2] / "demo" / "schema.sql"


@dataclass(frozen=True)
class Exported:
    """What the data path made of a site and window."""

    rows: dict[str, int]
    result: TransformResult
    data: bytes
    folder: Path

    @property
    def lines(self) -> list[str]:
        return self.data.decode().split("\n")[:-1]  # texts may hold other line separators


@dataclass(frozen=True)
class SourceDatabase:
    """The source, and one connection to write to it as the platform would."""

    dsn: str = field(repr=False)
    connection: psycopg.Connection[tuple[Any, ...]]

    def clear(self) -> None:
        self.connection.execute("DELETE FROM work_order")

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Rows as psycopg adapts them; jsonb columns as JSON text."""
        columns = TABLES[table].names[1:]
        names = ", ".join(f'"{name}"' for name in columns)
        with (
            self.connection.transaction(),
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row([row.get(name) for name in columns])

    def export(
        self,
        folder: Path,
        export_type: str = TIMELINE,
        *,
        site: UUID = SITE,
        window: ExportWindow = WINDOW,
        on_invalid: Any = "fail",
        sql_folder: Path = SQL_FOLDER,
        max_record_mb: int = MAX_RECORD_MB,
    ) -> Exported:
        snapshot = folder / "snapshot"
        snapshot.mkdir(parents=True, exist_ok=True)
        rows = extract(
            self.dsn,
            site,
            window,
            export_type,
            snapshot,
            sql_folder=sql_folder,
            on_invalid=on_invalid,
            max_record_mb=max_record_mb,
        )
        data = folder / "data.json"
        result = transform(
            snapshot,
            data,
            folder / "images.parquet",
            folder / "quarantine.json",
            export_type=export_type,
            on_invalid=on_invalid,
            max_record_mb=max_record_mb,
        )
        return Exported(rows, result, data.read_bytes(), folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def database(server: PostgresServer) -> Iterator[SourceDatabase]:
    dsn = server.create_database("source")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")  # no day begins when UTC's does
        yield SourceDatabase(dsn, connection)


@pytest.fixture
def source(database: SourceDatabase) -> SourceDatabase:
    """The source with empty tables."""
    database.clear()
    return database


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


def run_extract(
    source: SourceDatabase, folder: Path, sql_folder: Path = SQL_FOLDER, dsn: str | None = None, **options: Any
) -> dict[str, int]:
    return extract(dsn or source.dsn, SITE, WINDOW, TIMELINE, folder, sql_folder=sql_folder, **options)


def check_source(dsn: str, export: CustomerExport, sql_folder: Path = SQL_FOLDER) -> list[CheckResult]:
    """What a check says of the source."""
    results = check_connection(dsn)
    return [*results, *(check_queries(dsn, export, sql_folder=sql_folder) if results[-1].ok else [])]
