"""A look of the watch, with a real staging area and mail server; Airflow's answers are those of the test."""

import asyncio
import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import DAG

from data_export.alerts.late import LATE
from data_export.alerts.ledger import note_alerted
from data_export.alerts.watch import Open, Report, RunState, Standing, Watched
from data_export.delivery.local.store import LocalStore
from data_export.lateness import Due
from data_export.layout import WATCH_KEY
from data_export.window import ExportWindow
from data_export_airflow.alerting import watch as watching
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.alerting.watch import watch
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.customers import GOOD
from tests.dags.mail_server import abandon, connect_to, told

DAY = timedelta(days=1)
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NEWEST, WINDOW = ExportWindow(MIDNIGHT - DAY, MIDNIGHT), ExportWindow(MIDNIGHT - 2 * DAY, MIDNIGHT - DAY)
OWNER, PLATFORM = "owner@owners.example", "data-platform@platform.example"


class Answers:
    """No window was delivered but those that `came`."""

    run: RunState = "none"
    came: frozenset[ExportWindow] = frozenset()

    def __init__(self, _ti: Any) -> None:
        """As the real one is made."""

    def standing(self, _export: str) -> Standing:
        return "active"

    def delivered(self, _export: str, windows: Collection[ExportWindow]) -> set[ExportWindow]:
        return self.came & {*windows}

    def states(self, _export: str, windows: Collection[ExportWindow]) -> dict[ExportWindow, RunState]:
        return dict.fromkeys(windows, self.run)


class Installation:
    """One export, `acme`, that was watched before: its last window but one is late now."""

    def __init__(self, folder: Path) -> None:
        self.file, self.staging = folder / "customers" / "acme.yaml", folder / "staging"
        self.state = self.staging / WATCH_KEY
        for path in (self.file, self.state):
            path.parent.mkdir(parents=True)
        self.file.write_text(f"{GOOD % 'acme'}owner: {OWNER}\n")
        watched = Watched(MIDNIGHT, NEWEST, (Open(Due(WINDOW, MIDNIGHT), MIDNIGHT),))
        self.state.write_text(json.dumps({"acme": watched.to_dict()}))

    def look(self) -> dict[str, Any]:
        return watch({"ti": None})

    def late(self) -> list[datetime]:
        """The starts of the windows that a look reports."""
        return [span.start for span in Report.from_dict(self.look()).late.get("acme", ())]

    def known(self) -> Watched:
        return Watched.from_dict(json.loads(self.state.read_text())["acme"])

    def note_failure_alert(self) -> None:
        async def note() -> None:
            async with LocalStore(self.staging) as staging:
                await note_alerted(staging, "acme", WINDOW)

        asyncio.run(note())


@pytest.fixture
def installation(server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path / "customers"))
    monkeypatch.setattr(watching, "TaskRuns", Answers)
    return Installation(tmp_path)


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    return found["watched"], found["late"], found["broken"]


@pytest.mark.parametrize("run", ["none", "queued", "running", "failed"])
def test_a_late_window_is_told_of_once(
    installation: Installation, server: SmtpServer, run: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "run", run)
    assert [installation.late(), installation.late()] == [[WINDOW.start]] * 2
    assert told(server) == [PLATFORM, OWNER]
    assert all(f"- acme: {WINDOW.start:%Y-%m-%d} 00:00 to " in text_of(mail) for mail in server.messages())


def test_an_alert_whose_sender_was_killed_goes_out_at_a_later_look(
    installation: Installation, server: SmtpServer
) -> None:
    claim = installation.staging / "alerts" / "acme" / LATE / str(datetime.now(UTC).date()) / "mail"
    claim.parent.mkdir(parents=True)
    claim.touch()  # and the process ended before the mail was out
    assert installation.late() == [WINDOW.start]
    assert (told(server), installation.known().alerted_on) == ([], None)
    abandon([claim])
    installation.look()
    assert told(server) == [PLATFORM, OWNER]
    assert installation.known().alerted_on is not None


def test_an_alert_names_every_late_window_although_one_alone_is_new(
    installation: Installation, server: SmtpServer
) -> None:
    told_of = Open(Due(WINDOW, MIDNIGHT), datetime.now(UTC) + DAY / 2)
    new = Open(Due(NEWEST, MIDNIGHT), MIDNIGHT)
    known = Watched(MIDNIGHT, NEWEST, (told_of, new), (OWNER,), (MIDNIGHT - DAY).date())
    installation.state.write_text(json.dumps({"acme": known.to_dict()}))
    installation.look()
    assert told(server) == [PLATFORM, OWNER]
    for mail in server.messages():
        for window in (WINDOW, NEWEST):
            assert f"- acme: {window.start:%Y-%m-%d} 00:00 to " in text_of(mail)
        assert f"--from {WINDOW.start.isoformat()} --to {NEWEST.end.isoformat()}" in text_of(mail)
    assert len({each.remind_at for each in installation.known().open}) == 1


def test_who_was_alerted_of_a_late_window_hears_once_that_it_came(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.look()
    assert installation.known().alerted_on is not None
    monkeypatch.setattr(Answers, "came", frozenset((WINDOW,)))
    installation.file.write_text(installation.file.read_text().replace(OWNER, "another@owners.example"))
    for _ in range(3):
        assert installation.late() == []
    assert installation.known().alerted_on is None  # what is late next is told of the same day
    mails = [mail for mail in server.messages() if "again" in mail["Subject"]]
    assert sorted(mail["To"] for mail in mails) == [PLATFORM, OWNER]
    for mail in mails:
        assert mail["Subject"] == "Data export acme delivers again"
        assert f"- acme: {WINDOW.start:%Y-%m-%d} 00:00 to {WINDOW.end:%Y-%m-%d} 00:00 UTC: delivered" in text_of(mail)
        assert "Nothing is to be done." in text_of(mail)


def test_a_window_that_came_before_anybody_was_alerted_is_no_recovery(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "came", frozenset((WINDOW,)))
    assert installation.late() == []
    assert told(server) == []


def test_a_late_window_whose_failure_was_reported_too_is_left_to_the_run_that_delivers_it(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.look()
    installation.note_failure_alert()
    monkeypatch.setattr(Answers, "came", frozenset((WINDOW,)))
    installation.look()
    assert told(server) == [PLATFORM, OWNER]
    assert (installation.known().alerted, installation.known().owed) == (None, ())


def test_a_recovery_that_reached_nobody_is_reported_at_the_next_look(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.look()
    monkeypatch.setattr(Answers, "came", frozenset((WINDOW,)))
    connect_to(monkeypatch, 9)  # nobody listens
    installation.look()
    assert installation.known().owed == (WINDOW,)
    connect_to(monkeypatch, server.port)
    installation.look()
    assert told(server) == sorted([PLATFORM, OWNER] * 2)


def test_an_export_that_is_late_again_after_its_recovery_is_alerted_the_same_day(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.look()
    monkeypatch.setattr(Answers, "came", frozenset((WINDOW,)))
    installation.look()
    late = Watched(MIDNIGHT, NEWEST, (Open(Due(NEWEST, MIDNIGHT), MIDNIGHT),))
    installation.state.write_text(json.dumps({"acme": late.to_dict()}))
    installation.look()
    assert [mail["Subject"] for mail in server.messages()][::2] == [
        "Data export acme is late",
        "Data export acme delivers again",
        "Data export acme is late",
    ]


def test_a_failure_that_people_know_is_not_told_again_as_late(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.note_failure_alert()
    monkeypatch.setattr(Answers, "run", "failed")
    assert installation.late() == [WINDOW.start]  # the page shows it all the same
    assert told(server) == []


def test_a_window_that_runs_again_after_its_failure_was_told_is_told_of_as_late(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.note_failure_alert()
    monkeypatch.setattr(Answers, "run", "running")
    assert installation.look()["late"] == 1
    assert told(server) == [PLATFORM, OWNER]


def test_a_broken_file_keeps_what_was_known_of_its_windows(installation: Installation, server: SmtpServer) -> None:
    before, good = json.loads(installation.state.read_text()), installation.file.read_text()
    installation.file.write_text(good.replace("daily", "dayly"))
    assert counts(installation.look()) == (1, 0, 1)
    assert json.loads(installation.state.read_text()) == before
    assert ["does not run: its file is broken" in mail["Subject"] for mail in server.messages()] == [True, True]
    installation.file.write_text(good)
    assert counts(installation.look()) == (1, 1, 0)


def test_an_export_whose_schedule_cannot_be_worked_out_is_said_and_kept(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ArithmeticError("no such moment")

    before = json.loads(installation.state.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(watching, "look", fails)
        assert Report.from_dict(installation.look()).unknown == ("acme",)
    assert json.loads(installation.state.read_text()) == before
    assert installation.late() == [WINDOW.start]


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        ("*/15 * * * *", datetime(2025, 1, 1, tzinfo=UTC), "2026-03-28T23:15"),
        ("@daily", datetime(2025, 1, 1, tzinfo=UTC), "2026-03-29T00:00"),
        ("30 4 * * *", datetime(2025, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), "2026-03-29T02:30"),  # clocks go forward
        (None, datetime(2025, 1, 1, tzinfo=UTC), "2026-03-28T23:15"),  # of platform.yaml
    ],
)
def test_the_next_look_is_when_the_dag_runs_next(
    server: SmtpServer, schedule: str | None, start: datetime, expected: str
) -> None:
    dag = DAG("own_watch", schedule=schedule, start_date=start)
    sender = AlertSender({}, now=datetime(2026, 3, 28, 23, 7, tzinfo=UTC))
    following = watching._next_look({"dag": dag}, sender)
    assert following.astimezone(UTC).isoformat()[:16] == expected
