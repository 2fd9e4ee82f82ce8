"""One look of the watch at all exports: what is late or broken, and one summary of it to each person."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk.configuration import conf
from croniter import croniter

from data_export.alerts.ledger import was_alerted
from data_export.alerts.watch import REMIND_AFTER, Late, Look, Report, Watched, look, reminded
from data_export.config.folder import require_listed
from data_export.config.load import Loaded, load_customers
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.delivery.threads import run_async
from data_export.errors import TargetNotFound
from data_export.lateness import Due
from data_export.layout import WATCH_KEY
from data_export.limits import limits_of
from data_export.window import ExportWindow
from data_export.wording import harmless
from data_export_airflow.alerting.sender import AlertSender, of_each
from data_export_airflow.alerting.summary import AlertSummary
from data_export_airflow.connections.clients import store
from data_export_airflow.metadata.task_runs import TaskRuns
from data_export_airflow.schedule.windows import Schedules
from data_export_airflow.telemetry.metrics import exports_watched

log = logging.getLogger(__name__)


def watch(context: Mapping[str, Any]) -> dict[str, Any]:
    """One look. Returns how many exports are watched, late and broken, and the report of what is late (`Report`).

    Raises:
        ConfigError: the customer files cannot be listed, so that nothing is known of them.
    """
    sender = AlertSender(context)
    staging = store(sender.settings.staging.uri, sender.settings.staging.conn_id)
    require_listed()
    loaded, runs = load_customers(), TaskRuns(context["ti"])
    known = run_async(_load(staging))
    looks, unknown = _look_at_all(loaded, known, runs, sender)
    kept = {*loaded.broken(), *unknown}  # as they were, until their files are fixed
    watched = {name: known[name] for name in known if name in kept}
    watched |= {name: one.watched for name, one in looks.items() if one.watched is not None}
    ui = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    summary = AlertSummary(sender, loaded.exports, ui)
    due = run_async(_not_alerted(staging, {name: one.alerts for name, one in looks.items()}))
    others = run_async(_not_alerted(staging, {name: looks[name].others(name, runs) for name in due}))
    alerts = {name: sorted((*due[name], *others.get(name, ())), key=lambda late: late.window.start) for name in due}
    unreached = summary.late(alerts)
    for name in alerts:
        if name in unreached:
            watched[name] = reminded(watched[name], alerts[name], sender.now)
        else:
            people = tuple(dict.fromkeys((*(watched[name].alerted or ()), *summary.people_of(name))))
            again = reminded(watched[name], alerts[name], sender.now + REMIND_AFTER)
            watched[name] = replace(again, alerted=people, alerted_on=sender.now.date())
    watched |= _report_recovered(staging, looks, watched, summary)
    broken = _broken(loaded, runs)
    summary.broken(broken)
    run_async(_save(staging, watched))
    late = {name: one.late for name, one in looks.items() if one.late}
    was_watched = {name: known[name] for name in known if name not in kept}  # the others are as late as they were
    _measure(late, was_watched, len(watched), len(broken), sender.now)
    report = Report.of(sender.now, _next_look(context, sender), late, unknown)
    return {"watched": len(watched), "late": len(late), "broken": len(broken), **report.to_dict()}


def report_audit(context: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Alerts of what an audit found, each finding once; returns the exports that have damaged files.

    Args:
        found: by export, its `mark`, `lines` and number of `repairs` (`AuditExportsOperator`).
    """
    damaged = {name: one for name, one in found.items() if one.get("lines")}
    ui = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    AlertSummary(AlertSender(context), load_customers().exports, ui).damaged(damaged)
    return sorted(damaged)


def _look_at_all(
    loaded: Loaded, known: Mapping[str, Watched], runs: TaskRuns, sender: AlertSender
) -> tuple[dict[str, Look], list[str]]:
    """The looks by export, and the exports whose windows cannot be found out."""
    looks: dict[str, Look] = {}
    unknown: list[str] = []
    schedules = Schedules()
    for name, export in loaded.exports.items():
        if not export.enabled:
            continue
        schedule = schedules.of(export, limits_of(name, export, sender.settings.limits))
        try:
            looks[name] = look(name, known.get(name), schedule, runs, sender.now)
        except (ValueError, ArithmeticError):  # of one export's schedule: the others are watched all the same
            log.exception("%s: its windows are not known", name)
            unknown.append(name)
    return looks, unknown


def _measure(
    late: Mapping[str, Sequence[Due]], known: Mapping[str, Watched], watched: int, broken: int, now: datetime
) -> None:
    lag = {name: ((now - min(due.by for due in dues)).total_seconds(), len(dues)) for name, dues in late.items()}
    oldest = {name: min(each.due.by for each in one.open) for name, one in known.items() if one.open}
    before = sorted((name for name, by in oldest.items() if by <= now), key=lambda name: oldest[name])
    exports_watched(lag, before, watched, broken, now.timestamp())


def _next_look(context: Mapping[str, Any], sender: AlertSender) -> datetime:
    """When the DAG runs next, by its own cron expression; by that of platform.yaml where it has none."""
    timetable = getattr(context.get("dag"), "timetable", None)
    expression = getattr(timetable, "expression", None) or sender.settings.alerts.watch_schedule
    zone = getattr(timetable, "timezone", UTC)
    zone = zone if isinstance(zone, tzinfo) else ZoneInfo(str(zone))
    following: datetime = croniter(expression, sender.now.astimezone(zone)).get_next(datetime)
    return following


def _report_recovered(
    staging: Store, looks: Mapping[str, Look], watched: Mapping[str, Watched], summary: AlertSummary
) -> dict[str, Watched]:
    """Reports late windows that are delivered; what is known of their exports when people know it."""
    windows = {name: looks[name].recovered for name in looks if looks[name].recovered}
    unknown = run_async(_without_reported_failures(staging, windows))
    missing = {name: [due.window for due in looks[name].late] for name in unknown}
    done = summary.delivered(unknown, missing, {name: watched[name].alerted or () for name in unknown})
    known = [name for name in windows if name not in unknown or name in done]
    still = {name: watched[name].alerted if looks[name].late else None for name in known}
    return {name: replace(watched[name], alerted=still[name], alerted_on=None, owed=()) for name in known}


async def _without_reported_failures(
    staging: Store, windows: Mapping[str, Sequence[ExportWindow]]
) -> dict[str, list[ExportWindow]]:
    """Without the windows whose failure was reported too: their run reports the recovery."""
    left: dict[str, list[ExportWindow]] = {}
    async with staging:
        for name, late in windows.items():
            for window in late:
                if not await was_alerted(staging, name, window):
                    left.setdefault(name, []).append(window)
    return left


async def _not_alerted(staging: Store, late: Mapping[str, Sequence[Late]]) -> dict[str, list[Late]]:
    """Without the windows whose run has failed and whose failure people know."""
    left: dict[str, list[Late]] = {}

    async def is_told(entry: Late) -> bool:
        return entry.run == "failed" and await was_alerted(staging, entry.export, entry.window)

    async with staging:
        told = await of_each(staging, [entry for entries in late.values() for entry in entries], is_told)
    for entry, known in told.items():
        if not known:
            left.setdefault(entry.export, []).append(entry)
    return left


def _broken(loaded: Loaded, runs: TaskRuns) -> dict[str, list[str]]:
    """The problems of broken files whose DAGs are not paused, by export."""
    return {name: lines for name, lines in loaded.broken().items() if runs.standing(name) == "active"}


async def _load(staging: Store) -> dict[str, Watched]:
    async with staging:
        try:
            text = b"".join([chunk async for chunk in staging.read(WATCH_KEY)])
        except TargetNotFound:
            return {}
    try:
        return {name: Watched.from_dict(value) for name, value in json.loads(text).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # another version of the service wrote it
        log.warning("what was watched is not understood (%s): it begins anew", harmless(error))
        return {}


async def _save(staging: Store, watched: Mapping[str, Watched]) -> None:
    text = json.dumps({name: value.to_dict() for name, value in sorted(watched.items())})
    async with staging:
        await staging.replace(WATCH_KEY, Content.of_bytes(text.encode(), "application/json"))
