"""A look of the watch, with a real staging area and mail server; Airflow's answers are those of the test."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data_export.alerts.ledger import note_alerted
from data_export.alerts.watch import Open, RunState, Standing, Watched
from data_export.delivery.local.store import LocalStore
from data_export.lateness import Due
from data_export.layout import WATCH_KEY
from data_export.window import ExportWindow
from data_export_airflow.alerting import watch as watching
from data_export_airflow.alerting.watch import watch
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.customers import GOOD
from tests.dags.mail_server import told

DAY = timedelta(days=1)
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NEWEST, WINDOW = ExportWindow(MIDNIGHT - DAY, MIDNIGHT), ExportWindow(MIDNIGHT - 2 * DAY, MIDNIGHT - DAY)
OWNER, PLATFORM = "owner@owners.example", "data-platform@platform.example"


class Answers:
    """No window was delivered."""

    run: RunState = "none"

    def __init__(self, _ti: Any) -> None:
        """As the real one is made."""

    def standing(self, _export: str) -> Standing:
        return "active"

    def delivered(self, _export: str, _window: ExportWindow) -> bool:
        return False

    def state(self, _export: str, _window: ExportWindow) -> RunState:
        return self.run


class Installation:
    """One export, `acme`, that was watched before: its last window but one is to be asked about now."""

    def __init__(self, folder: Path) -> None:
        self.file, self.staging = folder / "customers" / "acme.yaml", folder / "staging"
        self.state = self.staging / WATCH_KEY
        for path in (self.file, self.state):
            path.parent.mkdir(parents=True)
        self.file.write_text(f"{GOOD % 'acme'}owner: {OWNER}\n")
        watched = Watched(MIDNIGHT, NEWEST, (Open(Due(WINDOW, MIDNIGHT), MIDNIGHT),))
        self.state.write_text(json.dumps({"acme": watched.to_dict()}))

    def look(self) -> dict[str, int]:
        return watch({"ti": None})

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


@pytest.mark.parametrize("run", ["none", "queued", "running", "failed"])
def test_a_late_window_is_told_of_once(
    installation: Installation, server: SmtpServer, run: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "run", run)
    assert [installation.look()["late"], installation.look()["late"]] == [1, 0]
    assert told(server) == [PLATFORM, OWNER]
    assert all(f"- acme: {WINDOW.start:%Y-%m-%d} 00:00 to " in text_of(mail) for mail in server.messages())


def test_a_failure_that_people_know_is_not_told_again_as_late(
    installation: Installation, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.note_failure_alert()
    monkeypatch.setattr(Answers, "run", "failed")
    assert installation.look()["late"] == 0
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
    assert installation.look() == {"watched": 1, "late": 0, "broken": 1}
    assert json.loads(installation.state.read_text()) == before
    assert ["does not run: its file is broken" in mail["Subject"] for mail in server.messages()] == [True, True]
    installation.file.write_text(good)
    assert installation.look() == {"watched": 1, "late": 1, "broken": 0}
