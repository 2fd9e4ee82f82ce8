"""A run refuses what breaks a limit, before it reads anything."""

from datetime import UTC, date, datetime, timedelta

import pytest

from data_export.config.models import EXPORT
from data_export.config.sections import LimitSettings
from data_export.errors import LimitExceeded
from data_export.limits import limits_of
from data_export.plan import ExportPlan, prepare
from data_export.window import ExportWindow

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
EXPORT_MODEL = EXPORT.validate_python(
    {
        "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787"],
        "interval": "daily",
        "start_date": "2024-02-01",
        "end_date": "2025-05-01",
        "connector_type": "cloud_storage",
        "connector_config": {"storage_uri": "gs://customer/data/", "export_images": True},
    }
)

LIMITS = limits_of("acme", EXPORT_MODEL, LimitSettings(max_window_days=31, earliest=date(2024, 1, 1)))


def day(text: str, days: int = 1) -> ExportWindow:
    start = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return ExportWindow(start, start + timedelta(days=days))


def test_a_plan_survives_the_trip_between_tasks() -> None:
    plan = prepare("acme", EXPORT_MODEL, day("2025-03-16"), LIMITS, NOW)
    assert ExportPlan.from_dict(plan.to_dict()) == plan


def test_two_plans_of_one_window_never_share_staged_names() -> None:
    first, second = (prepare("acme", EXPORT_MODEL, day("2025-03-16"), LIMITS, NOW) for _ in range(2))
    assert first.staging_prefix != second.staging_prefix


@pytest.mark.parametrize(
    ("window", "limit"),
    [
        (day("2025-03-01", 32), "limits.max_window_days = 31"),
        (day("2023-12-31"), "limits.earliest = 2024-01-01"),
        (day("2024-01-31"), "start_date 2024-02-01"),
        (day("2025-04-30", 2), "end_date 2025-05-01"),
    ],
)
def test_a_broken_limit_is_named_with_its_value(window: ExportWindow, limit: str) -> None:
    with pytest.raises(LimitExceeded, match=limit):
        prepare("acme", EXPORT_MODEL, window, LIMITS, NOW)


def test_a_window_that_is_not_over_is_refused() -> None:
    export = EXPORT_MODEL.model_copy(update={"end_date": None})
    with pytest.raises(LimitExceeded, match="in the future"):
        prepare("acme", export, day("2025-06-01"), LIMITS, NOW)


def test_the_edges_of_every_limit_are_allowed() -> None:
    prepare("acme", EXPORT_MODEL, day("2024-02-01", 31), LIMITS, NOW)
    prepare("acme", EXPORT_MODEL, day("2025-04-30"), LIMITS, NOW)
