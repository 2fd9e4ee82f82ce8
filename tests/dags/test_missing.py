"""Windows that were never delivered: what the gaps between deliveries say is what a look at every window says."""

import random
from datetime import UTC, datetime, timedelta

import pendulum
import pytest

from data_export.lateness import dues
from data_export.window import ExportWindow
from data_export_airflow.metadata.missing import _ALWAYS, Missing, _missing
from data_export_airflow.schedule.windows import ExportSchedule, Schedules
from data_export_airflow.timetables import SettledCronTimetable

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CRONS = ("0 * * * *", "0 */7 * * *", "0 0 * * *", "30 3 * * *", "0 0 * * 0", "0 0 1 * *")
MINUTE = timedelta(minutes=1)


def one_by_one(schedule: ExportSchedule, delivered: list[ExportWindow], since: datetime) -> Missing | None:
    def is_missing(window: ExportWindow) -> bool:
        start = window.start
        for given in sorted(delivered, key=lambda each: each.start):
            start = given.end if given.start <= start < given.end else start
        return start < window.end

    due = [each.window for each in dues(schedule, NOW) if each.window.end > since]
    missing = [window for window in due if is_missing(window)]
    return Missing(len(missing), missing[-1].start, missing[0].end) if missing else None


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/Santiago", "Pacific/Chatham"])
@pytest.mark.parametrize("cron", CRONS)
def test_the_gaps_hold_every_window_that_is_not_delivered(cron: str, zone: str) -> None:
    chance = random.Random(f"{cron} {zone}")
    for _ in range(4):
        start = pendulum.datetime(2025, chance.randint(1, 10), chance.randint(1, 28), chance.choice([0, 5]), tz=zone)
        end = start.add(days=chance.randint(1, 9 if cron == CRONS[0] else 90), hours=chance.choice([0, 7]))
        bounds = (bound.in_timezone("UTC") for bound in (start, end))
        timetable = SettledCronTimetable(cron, zone, chance.choice([0, 90]) * MINUTE, *bounds)
        schedule = Schedules().of_timetable(timetable, timedelta())
        due = [each.window for each in dues(schedule, NOW)]
        share = chance.choice([0.5, 0.95, 1])
        delivered = [window for window in due if chance.random() < share]
        part, longer = chance.choice(due), chance.choice(due)  # by hand: less than a window, and more than one
        delivered.append(ExportWindow(part.start + 10 * MINUTE, part.start + 20 * MINUTE))
        delivered.append(ExportWindow(longer.start + 30 * MINUTE, longer.end + chance.randint(0, 6000) * MINUTE))
        for since in (_ALWAYS, due[len(due) // 2].end):
            assert _missing(schedule, delivered, since, NOW) == one_by_one(schedule, delivered, since)
