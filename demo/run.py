"""`make demo`: every day of the demo to every target by Airflow's backfill, then a look at what they received."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from data_export.config.load import load_named
from data_export.config.models import dag_id
from demo.rest import wait_for
from demo.servers.abfs import AbfsServer
from demo.session import Say, Session, running
from demo.show import show
from demo.verify import missing

_AZURE = ("demo-states-abfs",) if AbfsServer.installed() else ()
NAMES = ("demo-timeline-gs", "demo-states-s3", *_AZURE, "demo-timeline-sftp", "demo-link-email")
#: All windows that the customer files have, so that the page shows nothing missing.
FIRST, LAST = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 19, tzinfo=UTC)
DAYS = tuple(FIRST + timedelta(days=day) for day in range((LAST - FIRST).days + 1))
BACKFILL_SECONDS = 600  # for a slow machine
_DAGS = {name: dag_id(name) for name in NAMES}
_OVER = ("success", "failed")
_DONE = ("success", "skipped", "failed", "upstream_failed")


def demo(state: Path, say: Say) -> list[str]:
    """Runs it all and prints it; returns what is wrong, a line each: nothing, when all was delivered."""
    exports = {name: load_named(name) for name in NAMES}
    # No customer file changes meanwhile: what parses them may rest.
    with running(state, say, {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60"}) as session:
        wait_for("the demo's DAGs are there", lambda: session.api.dag_ids() >= set(_DAGS.values()), 60)
        say(f"backfilling {FIRST:%Y-%m-%d} to {LAST:%Y-%m-%d} for {', '.join(NAMES)}")
        failed = backfill(session, say)
        say("all runs are over; this is what the customers received")
        show(session.platform, exports, DAYS)
        return failed + missing(session.platform, session.data, exports, DAYS)


def backfill(session: Session, say: Say) -> list[str]:
    """Runs the days for all demo customers, a line for every run that ends; returns what failed or hangs."""
    for name in NAMES:
        session.api.backfill(_DAGS[name], FIRST, LAST)
        session.api.unpause(_DAGS[name])
    watch = Watch(session, say)
    try:
        wait_for("the runs are over", watch.all_over, BACKFILL_SECONDS, pause=2)
    except TimeoutError as error:
        return [*watch.failed, *(f"run {key}: {error}" for key in watch.unfinished())]
    return watch.failed


class Watch:
    """Tells the end of every run of the backfills once, and how far all tasks are in between."""

    def __init__(self, session: Session, say: Say) -> None:
        self.failed: list[str] = []
        self._session, self._say = session, say
        self._told: set[str] = set()
        self._progress = ""
        self._begun = datetime.now(UTC)

    def all_over(self) -> bool:
        self._session.airflow.check()
        for run in self._session.api.runs(_DAGS.values()):
            if run["run_type"] == "backfill":  # somebody's by hand may have no interval
                self._tell(run)
        done = self._session.api.count_tasks(_DAGS.values(), _DONE)
        progress = f"{done} of {self._session.api.count_tasks(_DAGS.values())} tasks are done"
        if progress != self._progress:
            self._say(progress)
            self._progress = progress
        return not self.unfinished()

    def unfinished(self) -> list[str]:
        return sorted({f"{name} {day:%Y-%m-%d}" for name in NAMES for day in DAYS} - self._told)

    def _tell(self, run: dict[str, Any]) -> None:
        name = next(name for name, dag_id in _DAGS.items() if dag_id == run["dag_id"])
        key = f"{name} {run['data_interval_start'][:10]}"
        ended = run["end_date"] and datetime.fromisoformat(run["end_date"]) > self._begun
        if key in self._told or run["state"] not in _OVER or not ended:
            return
        self._told.add(key)
        self._say(f"{key}: {self._outcome(name, run)}")

    def _outcome(self, name: str, run: dict[str, Any]) -> str:
        seconds = (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds()
        if run["state"] == "success":
            return f"delivered in {seconds:.0f} s"
        tasks = self._session.api.task_instances(_DAGS[name], run["dag_run_id"])
        broken = [task for task in tasks if task["state"] == "failed"]
        reasons = "; ".join(f"{task['task_id']}: {self._session.api.reason(task)}" for task in broken)
        self.failed.append(f"run {name} {run['data_interval_start'][:10]} failed: {reasons}")
        return f"FAILED: {reasons}"
