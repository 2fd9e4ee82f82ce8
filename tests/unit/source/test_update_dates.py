"""The check whether the platform moves update_date with what it adds to a work order."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from data_export.check.check import check_update_dates
from tests.unit.source_kit import INPUT, ITEM, ORDER, SITE, STATES, TIMELINE, SourceDatabase

NOW = datetime.now(UTC)


def fill(source: SourceDatabase, updated: datetime | None, taken: datetime | None, corrected: datetime | None) -> None:
    order = {"id": ORDER, "site_id": SITE, "create_date": NOW - timedelta(hours=9), "update_date": updated}
    source.insert("work_order", [order, order | {"id": UUID(int=9), "update_date": NOW - timedelta(minutes=9)}])
    source.insert("work_item", [{"id": ITEM, "work_order_id": ORDER}])
    source.insert("input", [{"id": INPUT, "work_item_id": ITEM, "create_date": taken}])
    source.insert("job_conformity", [{"input_id": INPUT, "corrected_date": corrected}])


@pytest.mark.parametrize("export_type", [TIMELINE, STATES])
@pytest.mark.parametrize(("taken", "corrected"), [(2, None), (None, 2), (8, 2), (2, 8)])
def test_what_was_added_later_than_the_last_update_is_reported(
    source: SourceDatabase, export_type: str, taken: int | None, corrected: int | None
) -> None:
    moments = [None if hours is None else NOW - timedelta(hours=hours) for hours in (taken, corrected)]
    fill(source, NOW - timedelta(hours=3), *moments)
    (result,) = check_update_dates(source.dsn, SITE, export_type)
    assert (result.step, result.ok) == ("source: update_date", True)
    assert result.detail.startswith(
        "did not move with an input or correction of 1 of 2 work orders of the last day, for"
    )
    assert f"for example {ORDER}: " in result.detail


@pytest.mark.parametrize("updated", [NOW - timedelta(hours=2), NOW - timedelta(hours=2, seconds=30), None])
def test_an_update_at_the_time_of_the_change_or_none_at_all_is_no_fault(
    source: SourceDatabase, updated: datetime | None
) -> None:
    fill(source, updated, NOW - timedelta(hours=2), NOW - timedelta(hours=4))
    (result,) = check_update_dates(source.dsn, SITE, TIMELINE)
    assert result.detail == "moved with every input and correction of the 2 work orders of the last day"


def test_it_waits_for_no_source_that_is_busy(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_export.check.check._PATIENCE", 0.2)
    monkeypatch.setattr("data_export.source.queries._UNMOVED", "SELECT 1, 1, pg_sleep(5)::text")
    (result,) = check_update_dates(source.dsn, SITE, TIMELINE)
    assert (result.ok, result.detail) == (True, "not looked at: it took longer than 0.2 s")


def test_a_quiet_day_says_nothing_of_it(source: SourceDatabase) -> None:
    (result,) = check_update_dates(source.dsn, SITE, TIMELINE)
    assert result.detail == "no work order was created or updated in the last day"
