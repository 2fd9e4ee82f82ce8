"""`status`: what the page shows, with a reason and an exit code, for people and for cron jobs."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.errors import ParseImportError

from data_export_airflow.alerting.callbacks import FAILURE
from data_export_airflow.commands import status
from data_export_airflow.commands.cli import main
from data_export_airflow.commands.output import Progress, as_json, columns, joined, painted
from data_export_airflow.metadata import backfills, overview
from data_export_airflow.metadata.late import LateNow
from data_export_airflow.page import answers
from data_export_airflow.page.search import STATES, Asked, listing
from tests.page.conftest import _tables, db, history
from tests.page.history import History

__all__ = ["_tables", "db", "history"]
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "has_scheduler", lambda _session: True)
    monkeypatch.setattr(overview, "late_now", lambda *_: LateNow({}))  # the watch has just looked


@pytest.fixture
def acme(history: History) -> str:
    """Whose schedule goes on: the next window is today's."""
    dag = history.export("acme", start=str((TODAY - 3 * DAY).date()))
    history.next_window(dag, TODAY, TODAY + DAY)
    return dag


def shown(capsys: pytest.CaptureFixture[str], *names: str, code: int = 0) -> dict[str, Any]:
    assert main(["status", "--json", *names]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_delivered_export_in_columns(history: History, acme: str, capsys: pytest.CaptureFixture[str]) -> None:
    for days in (3, 2, 1):
        history.run(acme, TODAY - days * DAY, TODAY - (days - 1) * DAY)
    assert main(["status"]) == 0
    head, row, last = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert row.split()[:4] == ["acme", "delivered", str(TODAY.date()), "00:00"]
    assert f"{TODAY + DAY + timedelta(minutes=5):%Y-%m-%d %H:%M}" in row
    assert last == "1 export: 1 delivered"


def test_a_failed_export_says_why_and_fails_the_cron_job(
    history: History, acme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = history.run(acme, TODAY - DAY, TODAY, "failed")
    history.result(run, "site.deliver", FAILURE, {"error": "AccessDenied", "message": "no right to x"})
    (export,) = shown(capsys, code=1)["exports"]
    assert (export["state"], export["reason"]) == ("failed", "site.deliver: AccessDenied: no right to x")


@pytest.mark.parametrize(
    ("state", "windows", "said"),
    [
        ("late", 1, "1 window is late, the oldest for 2 h 5 min"),
        ("late", 3, "3 windows are late, the oldest for 2 h 5 min"),
        ("failed", 3, "3 windows failed and are late, the oldest for 2 h 5 min"),
    ],
)
def test_late_windows_are_counted(history: History, acme: str, state: str, windows: int, said: str) -> None:
    (row,) = answers._overview()[1]
    late = replace(row, state=state, late_windows=windows, late_seconds=7500)
    assert overview._reason(history.session, late, {}) == said


@pytest.mark.parametrize("listed_as", ["config_errors.py", "globex.yaml.py"])
def test_a_file_that_never_made_a_dag_is_broken(
    history: History, acme: str, listed_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "include/customers/globex.yaml:3: interval: 'dayly' is not known: use daily"
    error = ParseImportError(filename=listed_as, bundle_name="x", stacktrace=f"1 problem\n{line}")
    history.session.add(error)
    history.session.commit()
    exports = {export["name"]: export for export in shown(capsys, code=1)["exports"]}
    assert exports["acme"]["state"] == "new"
    assert exports["globex"]["state"] == "broken"
    assert exports["globex"]["reason"].startswith("globex.yaml:3: interval: 'dayly' is not known")
    assert exports["globex"].keys() == exports["acme"].keys()
    assert shown(capsys, "acme")["exports"][0]["name"] == "acme"  # one that is well is well for a cron job of its own


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acne", "knows no export 'acne' (did you mean acme?)"),
        ("soon", "soon: Airflow has no DAG data_export__soon yet"),
    ],
)
def test_a_name_that_airflow_does_not_know(
    history: History, acme: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (history.customers / "soon.yaml").write_text("interval: daily\n")
    assert main(["status", name]) == 1
    assert said in capsys.readouterr().err


def test_nothing_runs_without_a_scheduler(
    history: History, acme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backfills, "has_scheduler", lambda _session: False)
    assert shown(capsys, code=1)["scheduler"] is False


def test_it_says_what_the_page_says(history: History, acme: str, capsys: pytest.CaptureFixture[str]) -> None:
    history.run(acme, TODAY - DAY, TODAY)
    there = listing(answers._overview()[1], Asked(), lambda rows: answers.deliveries(history.session, rows))
    (shown_there,) = json.loads(as_json(there["exports"]))
    (shown_here,) = shown(capsys)["exports"]
    moving = ("lag_seconds", "late_seconds", "reason", "audit")
    assert [{k: v for k, v in row.items() if k not in moving} for row in (shown_there, shown_here)] == [
        {k: v for k, v in shown_here.items() if k not in moving}
    ] * 2
    assert shown_here["totals"]["work_orders"] == 7


def test_nothing_is_well_where_late_windows_are_not_known(
    history: History, acme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "Late windows are not known: the watch is paused."
    monkeypatch.setattr(overview, "late_now", lambda *_: LateNow({}, unknown))
    assert shown(capsys, code=1)["late_unknown"] == unknown


class Terminal:
    """A stream that says that it is a terminal."""

    def __init__(self, is_terminal: bool = True) -> None:
        self.text, self._is_terminal = "", is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal: Any = Terminal()
    assert painted("late", "red", terminal) == "\x1b[31mlate\x1b[0m"
    assert painted("new", None, terminal) == "new"
    file: Any = Terminal(is_terminal=False)
    assert painted("late", "red", file) == "late"
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
        assert painted("late", "red", terminal) == "late"


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    head, row = map(joined, columns(("A", "LONG", "C"), [("abc", "x", "the rest of the line")]))
    assert (head, row) == ("A    LONG  C", "abc  x     the rest of the line")
    assert joined(columns(("A",), [("x\x1b[31m\u202e\n",)])[1]) == "x\\x1b[31m\\u202e\\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_shows_what_takes_long_and_leaves_a_terminal_clean(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr("data_export_airflow.commands.output._ON_TERMINAL", 0.01)
    monkeypatch.setattr("data_export_airflow.commands.output._ELSEWHERE", 0.01)
    stream: Any = Terminal(is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("verifying") as progress:
        while "verified 1" not in stream.text:
            progress.text = "verified 1"
    assert "verifying ... 0 s" in stream.text or "verified 1 ... 0 s" in stream.text
    assert stream.text.endswith("\r\x1b[K" if is_terminal else "\n")


def test_what_is_quick_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("nothing"):
        pass
    assert stream.text == ""


def test_every_state_of_the_page_is_one_that_the_command_knows() -> None:
    assert set(status._COLOURS) <= set(STATES)
