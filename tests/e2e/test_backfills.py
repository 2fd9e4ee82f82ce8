"""Backfills, cancelled and resumed, ranges by hand, and `once`, through a real scheduler."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from data_export.config.load import load_named
from data_export.config.models import dag_id
from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import PARIS
from demo.expected import expected_file
from demo.rest import AirflowApi, wait_for
from demo.session import Session
from demo.targets import received

pytestmark = pytest.mark.e2e

FILE = f"""\
site_id: [{PARIS}]
interval: %(interval)s
start_date: 2025-03-18T08:00
end_date: 2025-03-18T14:00
limits: {{max_window_days: 3, max_active_runs: %(at_once)s}}
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://demo-customer/%(name)s/", export_images: false}}
"""
START = datetime(2025, 3, 18, 8, tzinfo=UTC)
HOURS, ONCE, ENDLESS = "every-hour", "only-once", "for-years"
#: What the trigger form may be given that it should not, and what the failed run says.
FORMS = {
    "only one of `from` and `to`": {"from": "2025-03-18T08:00:00Z"},
    "fraction of a second: use whole seconds": {"from": "2025-03-18T08:00:00.5Z", "to": "2025-03-18T09:00:00Z"},
    "limits.max_window_days = 3 (": {"from": "2025-03-01T00:00:00Z", "to": "2025-03-05T00:00:00Z"},
    "before the export's start_date 2025-03-18": {"from": "2025-03-18T07:00:00Z", "to": "2025-03-18T09:00:00Z"},
}
FINISHED = {"success", "failed"}


@dataclass
class Story:
    """What was seen on the way; runs of the hourly export are told oldest window first."""

    session: Session
    forms: dict[str, str]
    whole: str
    refusal: str
    created: dict[str, Any]
    paused: list[str]
    cancelled: list[str]
    stuck: list[str]

    @property
    def api(self) -> AirflowApi:
        return self.session.api


def states(api: AirflowApi) -> list[str]:
    return [run["state"] for run in sorted(api.runs([dag_id(HOURS)]), key=lambda run: run["data_interval_start"])]


def backfill(api: AirflowApi, first: int, last: int, **options: Any) -> dict[str, Any]:
    moments = (START + timedelta(hours=first), START + timedelta(hours=last))
    body = dict(zip(("from_date", "to_date"), (moment.isoformat() for moment in moments), strict=True))
    made: dict[str, Any] = api.request("POST", "/backfills", json={"dag_id": dag_id(HOURS)} | body | options)
    return made


def resume(api: AirflowApi) -> bool:
    with suppress(httpx.HTTPStatusError):  # refused while Airflow has not noticed the end of the one before
        return bool(backfill(api, 0, 1, reprocess_behavior="failed"))
    return False


@pytest.fixture(scope="module")
def story(session: Session, customers: Path) -> Iterator[Story]:
    """Of two windows, newest first and one at a time, the second is cancelled, cleared, freed and backfilled again."""
    api = session.api
    for name, interval, at_once in ((HOURS, "hourly", 1), (ONCE, "once", 5), (ENDLESS, "hourly", 3)):
        text = FILE % {"name": name, "interval": interval, "at_once": at_once}
        (customers / f"{name}.yaml").write_text(text.replace("end_date", "# end_date") if name == ENDLESS else text)
    wait_for("the DAGs", lambda: api.dag_ids() >= set(map(dag_id, (HOURS, ONCE, ENDLESS))), 60)
    for name in (ONCE, ENDLESS):
        api.unpause(dag_id(name))
    wait_for("the run of once", lambda: api.runs([dag_id(ONCE)]), 60)
    forms = {words: api.trigger(dag_id(ONCE), **form) for words, form in FORMS.items()}
    whole = api.trigger(dag_id(ONCE))

    with pytest.raises(httpx.HTTPStatusError) as refusal:
        backfill(api, -1, 1)
    created = backfill(api, 0, 1, run_backwards=True, max_active_runs=10)
    paused = states(api)
    api.unpause(dag_id(HOURS))
    wait_for("the newest window runs", lambda: "running" in states(api), 60)
    api.request("PUT", f"/backfills/{created['id']}/cancel")
    wait_for("the running run ends", lambda: set(states(api)) <= FINISHED, 90)
    cancelled = states(api)

    oldest = min(api.runs([dag_id(HOURS)]), key=lambda run: run["data_interval_start"])["dag_run_id"]
    api.clear(dag_id(HOURS), oldest)
    wait_for("once and forms end", lambda: {r["state"] for r in api.runs([dag_id(ONCE)])} <= FINISHED, 120)
    stuck = states(api)
    api.request("PATCH", f"/dags/{dag_id(HOURS)}/dagRuns/{oldest}", json={"state": "failed"})
    wait_for("a second backfill is accepted", lambda: resume(api), 60)
    wait_for("the resumed window ends", lambda: states(api)[0] in FINISHED, 90)
    yield Story(session, forms, whole, str(refusal.value), created, paused, cancelled, stuck)
    for name in (HOURS, ONCE, ENDLESS):
        api.request("PATCH", f"/dags/{dag_id(name)}", json={"is_paused": True})


def test_before_start_date_is_refused_in_words(story: Story) -> None:
    assert ": 422 " in story.refusal
    assert "begin the backfill at 2025-03-18T08:00:00+00:00, or set an earlier start_date" in story.refusal


def test_a_backfill_keeps_to_the_limit_and_waits_for_a_paused_dag(story: Story) -> None:
    assert story.created["max_active_runs"] == 1
    assert story.paused == ["queued", "queued"]


def test_cancel_and_resume_leave_no_gap_and_no_duplicate(story: Story, customers: Path) -> None:
    assert story.cancelled == ["failed", "success"]  # newest first
    assert story.stuck == ["queued", "success"]  # Airflow's fault, whose way round is in docs/operate.md
    assert states(story.api) == ["success", "success"]
    target = received(story.session.platform, load_named(HOURS, customers))
    assert target is not None
    windows = [ExportWindow(START + timedelta(hours=n), START + timedelta(hours=n + 1)) for n in range(2)]
    keys = [data_key(PARIS, "work-orders-timeline", window) for window in windows]
    assert target.names() == keys
    for window, key in zip(windows, keys, strict=True):
        expected = expected_file(story.session.data, PARIS, "work-orders-timeline", window.start, window.end)
        assert target.read(key) == expected


def test_once_is_one_run_by_itself_and_others_by_hand(story: Story, customers: Path) -> None:
    runs = {run["dag_run_id"]: run for run in story.api.runs([dag_id(ONCE)])}
    (scheduled,) = (run for run in runs.values() if run["run_type"] == "scheduled")
    bounds = [datetime.fromisoformat(scheduled[f"data_interval_{bound}"]) for bound in ("start", "end")]
    assert bounds == [START, START + timedelta(hours=6)]
    assert (scheduled["state"], runs[story.whole]["state"]) == ("success", "success")
    target = received(story.session.platform, load_named(ONCE, customers))
    assert target is not None
    assert target.names() == [data_key(PARIS, "work-orders-timeline", ExportWindow(*bounds))]


def test_a_start_date_long_ago_starts_the_last_complete_window_only(story: Story) -> None:
    runs = sorted(story.api.runs([dag_id(ENDLESS)]), key=lambda run: run["data_interval_start"])
    assert 1 <= len(runs) <= 2  # two where an hour went by meanwhile
    begun = datetime.fromisoformat(runs[0]["start_date"] or runs[0]["queued_at"])
    end = datetime.fromisoformat(runs[0]["data_interval_end"])
    assert timedelta(minutes=5) <= begun - end <= timedelta(minutes=70)


@pytest.mark.parametrize("words", FORMS)
def test_a_wrong_trigger_form_fails_at_once_in_words(story: Story, words: str) -> None:
    (task,) = (t for t in story.api.task_instances(dag_id(ONCE), story.forms[words]) if t["state"] == "failed")
    assert (task["task_id"], task["try_number"]) == ("prepare", 1)
    assert words in story.api.reason(task)


def test_a_moment_without_zone_is_refused_by_the_form(story: Story) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"400 .*from: '2025-03-18T08:00:00' is not a 'date-time'"):
        story.api.trigger(dag_id(ONCE), **{"from": "2025-03-18T08:00:00", "to": "2025-03-18T09:00:00"})
