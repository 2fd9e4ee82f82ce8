"""Counting at the source: the same numbers as exporting, and an end in time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from data_export.config.models import EXPORT, CustomerExport
from data_export.errors import SourceRejected, SourceUnavailable
from data_export.source.database import Source, open_source
from data_export.source.estimate import count
from data_export.window import ExportWindow
from tests.unit.source_kit import ITEM, SITE, STATES, TIMELINE, WINDOW, SourceDatabase

NEXT = ExportWindow(WINDOW.end, WINDOW.end + timedelta(days=1))


def export(export_type: str = TIMELINE, *, images: bool = True, sites: tuple[UUID, ...] = (SITE,)) -> CustomerExport:
    config: dict[str, Any] = {"storage_uri": "gs://bucket/x/", "export_images": images}
    return EXPORT.validate_python(
        {
            "site_id": list(sites),
            "export_type": export_type,
            "interval": "daily",
            "start_date": "2025-01-01",
            "connector_type": "cloud_storage",
            "connector_config": config,
        }
    )


def test_it_counts_what_an_export_would_hold(one_order: SourceDatabase) -> None:
    one_order.insert("input", [{"id": UUID(int=77), "work_item_id": ITEM, "create_date": WINDOW.start}])
    timeline = count(one_order.dsn, export(), [WINDOW], 10)
    assert (timeline.work_orders, timeline.images, timeline.share) == (1, 2, 1)
    assert count(one_order.dsn, export(STATES), [WINDOW], 10).images == 1
    assert count(one_order.dsn, export(images=False), [WINDOW], 10).images is None


def test_of_several_windows_and_sites_it_is_one_windows_average(one_order: SourceDatabase) -> None:
    found = count(one_order.dsn, export(sites=(SITE, UUID(int=5))), [WINDOW, NEXT], 10)
    assert (found.work_orders, found.images, found.share) == (0.5, 0.5, 1)


def test_when_time_is_up_the_rest_is_reckoned(one_order: SourceDatabase, sql: Path) -> None:
    (sql / "work_order.sql").write_text("SELECT pg_sleep(0.3), 1 AS work_order_number, * FROM work_order")
    found = count(one_order.dsn, export(), [WINDOW] * 10, 1, sql_folder=sql)
    assert found.share in (0.1, 0.2, 0.3, 0.4)
    assert found.work_orders == 1


def test_the_time_to_connect_is_not_counted(one_order: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def slowly(dsn: str, *, patience: float, **options: Any) -> Iterator[Source]:
        time.sleep(patience)
        with open_source(dsn, patience=patience, **options) as source:
            yield source

    monkeypatch.setattr("data_export.source.estimate.open_source", slowly)
    assert count(one_order.dsn, export(), [WINDOW], 0.5).work_orders == 1


def test_a_slow_source_is_given_up_by_itself(one_order: SourceDatabase, sql: Path) -> None:
    (sql / "work_order.sql").write_text("SELECT pg_sleep(60), 1 AS work_order_number, * FROM work_order")
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match="57014"):
        count(one_order.dsn, export(), [WINDOW], 1, sql_folder=sql)
    assert time.monotonic() - begun < 10


def test_a_wrong_query_is_named(one_order: SourceDatabase, sql: Path) -> None:
    (sql / "work_item.sql").write_text("SELECT * FROM work_orders JOIN no_such_table USING (id)")
    with pytest.raises(SourceRejected, match=r"work_item\.sql, line 1"):
        count(one_order.dsn, export(), [WINDOW], 1, sql_folder=sql)


def test_it_leaves_nothing_locked(one_order: SourceDatabase) -> None:
    with psycopg.connect(one_order.dsn) as writer:
        count(one_order.dsn, export(), [WINDOW], 10)
        writer.execute("SET lock_timeout = '1s'")
        writer.execute("ALTER TABLE work_order ADD COLUMN extra int")
        writer.rollback()
