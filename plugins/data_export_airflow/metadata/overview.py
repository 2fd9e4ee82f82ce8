"""Every export at a glance: state, lag, lateness."""

from collections.abc import Set
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from data_export.alerts.watch import LateSpan
from data_export.config.models import name_of
from data_export.config.moments import CRON
from data_export.delivery.registry import kinds
from data_export.wording import duration_in_words
from data_export_airflow.dags.factory import INVALID_TAG
from data_export_airflow.metadata.exports import Newest, Run, newest, ranges_by_hand
from data_export_airflow.metadata.failures import audits, problems, reasons
from data_export_airflow.metadata.late import Lateness, LateNow, Retry, late_now, retries
from data_export_airflow.metadata.missing import Missing, MissingWindows
from data_export_airflow.metadata.receipts import Delivery, RunKey
from data_export_airflow.schedule.windows import ExportSchedule

Deliveries = dict[RunKey, Delivery | None]
_INTERVALS, _CRON_FIELDS = {"once", *CRON}, 5


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export. Instants are UTC, windows half-open; what is unknown or never was is None."""

    dag_id: str
    name: str
    connector: str
    export_type: str
    interval: str
    state: str
    paused: bool
    last_run_id: str | None
    last_run_state: str | None
    last_window_start: datetime | None
    delivered_run_id: str | None
    delivered_key: RunKey | None
    delivered_start: datetime | None
    delivered_end: datetime | None
    lag_seconds: int | None
    #: For how long the oldest of the late windows should have been there, how many are late, and which.
    late_seconds: int | None
    late_windows: int | None
    late: tuple[LateSpan, ...] | None
    #: Of an export that has ended: how many windows were never delivered, and from where to where.
    missing: int | None
    missing_start: datetime | None
    missing_end: datetime | None
    failed: int | None
    active: int | None
    next_run: datetime | None
    #: What is tried again.
    retry: Retry | None


#: All but these come of runs, or say something of them.
_OF_DAG = {"dag_id", "name", "connector", "export_type", "interval", "state", "paused", "next_run"}
OF_RUNS = [field.name for field in fields(ExportRow) if field.name not in _OF_DAG]


class Overview(NamedTuple):
    """Every export that has a DAG, in order of names; `late_unknown` says why late windows are not known, if so."""

    as_of: datetime
    rows: list[ExportRow]
    late_unknown: str | None


def at_a_glance(session: Session, now: datetime, missing_windows: MissingWindows) -> Overview:
    found = _with_ranges(session, newest(session), missing_windows, now)
    late = late_now(session, [each.dag.dag_id for each in found if each.runs], now)
    missing = missing_windows(session, [each.dag.dag_id for each in found if each.has_ended and each.good], now)
    retrying = {dag_id: retry for (dag_id, _), retry in retries(session).items()}
    rows = [_export(each, late, missing.get(each.dag.dag_id), retrying.get(each.dag.dag_id), now) for each in found]
    return Overview(now, sorted(rows, key=lambda export: export.name), late.unknown)


def _with_ranges(session: Session, found: list[Newest], missing_windows: MissingWindows, now: datetime) -> list[Newest]:
    """A range run by hand counts as its last window of the schedule; of an export that never ran else, as it is."""
    ranges = ranges_by_hand(session, found, now)
    schedules = missing_windows.schedules(session, ranges)

    def counted(each: Newest) -> Newest:
        runs, schedule = ranges.get(each.dag.dag_id, []), schedules.get(each.dag.dag_id)
        covering = _newest_windows(runs, schedule) if schedule else []
        return each.with_ranges(covering if covering or (schedule and each.last) else runs)

    return [counted(each) for each in found]


def _newest_windows(runs: list[Run], schedule: ExportSchedule) -> list[Run]:
    """Of runs by hand as windows the newest, back to one that succeeded: thousands may be older."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda each: (each.end, each.id), reverse=True):
        if (own := _as_window(run, schedule)) is not None:
            found.append(own)
            if own.state == "success":
                break
    return found


def _as_window(run: Run, schedule: ExportSchedule) -> Run | None:
    """A run by hand as the last window of the schedule that it holds, or that was complete where it has no range."""
    last = schedule.last(run.end if run.start == run.end else run.end + schedule.settle)
    if last is None or last.start < run.start < run.end:
        return None
    return run._replace(start=min(run.start, last.start), end=last.end)


def standing(
    session: Session,
    rows: list[ExportRow],
    delivered: Deliveries,
    others: Set[str] = frozenset(),
    *,
    with_broken: bool = True,
    with_audits: bool = True,
) -> list[dict[str, Any]]:
    """The exports as the list shows them, each with the `reason` of its state, in order of names.

    A customer file that never made a DAG is among them as `broken`.

    Args:
        others: dag_ids of exports that are not asked for.
        with_broken: whether whoever asks may know what is wrong with customer files.
        with_audits: whether they may know what audits found.
    """
    broken: dict[str, str] = {}
    for problem in problems(session) if with_broken else ():
        if problem.dag_id is not None and problem.dag_id not in others:
            line = "" if problem.line is None else f":{problem.line}"
            broken.setdefault(problem.dag_id, f"{problem.file}{line}: {problem.message}")
    damaged = audits(session) if with_audits else {}
    known = {
        row.dag_id: with_delivery(row, delivered)
        | {"reason": _reason(session, row, broken) or damaged.get(row.name), "audit": damaged.get(row.name)}
        for row in rows
    }
    for dag_id in broken.keys() - known:
        nothing = {key: None for key in (*_OF_DAG, *OF_RUNS, "delivered_at", "totals") if key != "delivered_key"}
        known[dag_id] = nothing | {
            "dag_id": dag_id,
            "name": name_of(dag_id),
            "state": "broken",
            "reason": broken[dag_id],
            "audit": None,
        }
    return sorted(known.values(), key=lambda row: str(row["name"]))


def _reason(session: Session, row: ExportRow, broken: dict[str, str]) -> str | None:
    """Why the export is in its state; None where the state says it all."""
    if row.state == "broken":
        return broken.get(row.dag_id)
    if row.state == "failed" and row.last_run_state == "failed" and row.last_run_id:
        return reasons(session, row.dag_id, [row.last_run_id]).get(row.last_run_id)
    if row.state in ("failed", "late") and row.late_windows:
        failed = " failed and" if row.state == "failed" else ""
        what = "window" if row.late_windows == 1 else "windows"
        is_late = "is" if row.late_windows == 1 else "are"
        since = duration_in_words(row.late_seconds)
        again = f"; {row.retry.words}" if row.retry else ""
        return f"{row.late_windows:,} {what}{failed} {is_late} late, the oldest for {since}{again}"
    if row.retry:
        return row.retry.words
    if row.state == "incomplete" and row.missing:
        what = "window was" if row.missing == 1 else "windows were"
        return f"{row.missing:,} {what} never delivered, from {row.missing_start:%Y-%m-%d} on: backfill them"
    return None


def with_delivery(row: ExportRow, deliveries: Deliveries) -> dict[str, Any]:
    """The row, and what its last delivered window held."""
    found = deliveries.get(row.delivered_key) if row.delivered_key else None
    shown = {name: value for name, value in asdict(row).items() if name != "delivered_key"}
    if found is not None and found.window:  # `end_date` may have cut the window
        shown |= {"delivered_start": found.window["start"], "delivered_end": found.window["end"]}
    return {**shown, "delivered_at": found and found.at, "totals": found and found.totals}


def _export(found: Newest, late_now: LateNow, missing: Missing | None, retry: Retry | None, now: datetime) -> ExportRow:
    dag, last, good, tags = found
    late = late_now.late.get(dag.dag_id)
    is_known = late_now.unknown is None and dag.dag_id not in late_now.unreadable
    end = good and good.end
    return ExportRow(
        dag_id=dag.dag_id,
        name=name_of(dag.dag_id) or dag.dag_id,
        connector=next((kind for kind in kinds() if kind in tags), ""),
        export_type=next((tag for tag in tags if tag.startswith("work-orders-")), ""),
        interval=next((tag for tag in tags if tag in _INTERVALS or len(tag.split()) == _CRON_FIELDS), ""),
        state=_state(found, late, missing, is_known, retry is not None),
        paused=dag.is_paused,
        last_run_id=last and last.run_id,
        last_run_state=last and last.state,
        last_window_start=last and last.start,
        delivered_run_id=good and good.run_id,
        delivered_key=good and (good.id, good.start_date),
        delivered_start=good and good.start,
        delivered_end=end,
        lag_seconds=None if end is None or found.is_once or found.has_ended else _seconds(now - end),
        late_seconds=_seconds(now - late.since) if late else None,
        late_windows=late.windows if late else 0 if is_known else None,
        late=late.spans if late else () if is_known else None,
        missing=missing.windows if missing else 0,
        missing_start=missing and missing.start,
        missing_end=missing and missing.end,
        failed=dag.failed,
        active=dag.active,
        next_run=None if dag.is_paused else dag.next_dagrun_create_after,
        retry=retry,
    )


def _state(found: Newest, late: Lateness | None, missing: Missing | None, is_known: bool, is_retrying: bool) -> str:
    """The first that holds, the most urgent first."""
    dag, last, good, tags = found
    cases = (
        ("broken", INVALID_TAG in tags),
        ("failed", (last is not None and last.state == "failed") or (late is not None and late.failed)),
        ("late", late is not None),
        ("retrying", is_retrying),
        ("running", dag.active > 0),
        ("off", dag.timetable_type.endswith("NullTimetable")),
        ("paused", dag.is_paused),
        ("incomplete", missing is not None),
        ("ended", good is not None and found.has_ended),
        ("unwatched", good is not None and not is_known),
        ("delivered", good is not None),
    )
    return next((state for state, holds in cases if holds), "new")


def _seconds(length: timedelta) -> int:
    return max(0, int(length.total_seconds()))
