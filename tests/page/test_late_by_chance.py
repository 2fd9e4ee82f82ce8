"""Exports whose windows were delivered or not by chance: the page and the alert mails name what the rule says."""

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from data_export.alerts.alert import window_as_text
from data_export.alerts.watch import Watched
from data_export.config.load import load_customers
from data_export.config.models import dag_id
from data_export.lateness import dues, waiting
from data_export.layout import WATCH_KEY
from data_export.window import ExportWindow
from data_export_airflow.alerting import watch as watching
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import at_a_glance
from data_export_airflow.metadata.task_runs import TaskRuns
from data_export_airflow.schedule.windows import ExportSchedule, Schedules
from data_export_airflow.timetables import timetable_of
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.mail_server import connect_to
from tests.page.history import History

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = datetime(2026, 3, 10, 5, 17, tzinfo=UTC)
#: By interval: windows in the days that the random histories are about.
KINDS = {"hourly": 3 * 24, "daily": 8, "0 6 * * 1-5": 8, "weekly": 3, "0 0,1 * * *": 16}
EXPORTS = 20
ITEM = re.compile(r"^- (by-chance-\d\d): (.+ UTC): ", re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpServer]:
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", f"file://{tmp_path}/staging/")
    with SmtpServer(tmp_path / "mail") as server:
        connect_to(monkeypatch, server.port)
        yield server


def windows_of(schedule: ExportSchedule, count: int) -> list[ExportWindow]:
    """The newest that are due, oldest first."""
    found = [schedule.last(NOW)]
    while len(found) < count and found[-1] is not None:
        found.append(schedule.before(found[-1]))
    return [window for window in reversed(found) if window is not None]


def lived(history: History, chance: random.Random, name: str, interval: str) -> tuple[datetime, list[ExportWindow]]:
    """Makes the runs of an export, some late, failed or never made; when the watch began, and what is late by the rule.

    A "marked" run has succeeded without a delivery.
    """
    schedule = Schedules().of_timetable(timetable_of(load_customers().exports[name], 5 * MINUTE), 2 * HOUR)
    windows = windows_of(schedule, chance.choice([2, 3, KINDS[interval]]))
    luck, behind = chance.choice([1.0, 0.95, 0.7]), chance.choice([0, 0, 0, 1, 3])
    delivered = set()
    for window in windows[: len(windows) - behind] or windows[:1]:
        state = "success" if chance.random() < luck else chance.choice(["failed", "running", "marked", "none"])
        if state == "success":
            delivered.add(window)
        if state != "none":
            made = "running" if state == "marked" else state
            run = history.run(dag_id(name), window.start, window.end, made)
            run.state = "success" if state == "marked" else state
    history.session.commit()
    began = windows[0].end + 5 * MINUTE
    waits = waiting(dues(schedule, NOW, began), delivered.__contains__, NOW)
    return began, [due.window for due in waits if due.is_late(NOW)]


def test_the_page_and_the_mails_name_the_windows_that_are_late_by_the_rule(
    history: History, runs: TaskRuns, server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(20260310)
    names = {f"by-chance-{number:02}": list(KINDS)[number % len(KINDS)] for number in range(EXPORTS)}
    for name, interval in names.items():
        history.write(name, f"'{interval}'", start="2026-01-01", owner=f"{name}@owners.example")
    history.parse()
    lives = {name: lived(history, chance, name, interval) for name, interval in names.items()}
    state = tmp_path / "staging" / WATCH_KEY
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({name: Watched(began).to_dict() for name, (began, _) in lives.items()}))
    expected = {name: late for name, (_, late) in lives.items() if late}
    assert 0 < len(expected) < EXPORTS, "some are late and some are not"

    monkeypatch.setattr(watching, "AlertSender", partial(AlertSender, now=NOW))
    history.look(NOW, value=watching.watch({"ti": RuntimeTaskInstance}))

    mailed: dict[str, list[str]] = {}
    for mail in server.messages():
        if mail["To"].endswith("@owners.example"):
            for name, window in ITEM.findall(text_of(mail)):
                mailed.setdefault(name, []).append(window)
    assert mailed == {name: list(map(window_as_text, late))[:50] for name, late in expected.items()}

    shown = {row.name: row for row in at_a_glance(history.session, NOW + MINUTE, MissingWindows()).rows if row.late}
    assert shown.keys() == expected.keys()
    for name, late in expected.items():
        assert shown[name].late_windows == len(late)
        spans = shown[name].late or ()
        assert [(span.start, span.end) for span in spans[:5]] == [(one.start, one.end) for one in late[:5]]
        assert len(late) <= 5 or (spans[5].start, spans[5].end) == (late[5].start, late[-1].end)
