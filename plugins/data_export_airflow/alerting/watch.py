"""One look of the watch at all exports: what is late or broken, and one summary of it to each person."""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk.configuration import conf
from croniter import croniter

from data_export.alerts.alert import Alert
from data_export.alerts.late import DAMAGED, LATE, broken_alert, broken_cause, damaged_alert, late_alert
from data_export.alerts.ledger import was_alerted
from data_export.alerts.watch import Late, Look, Report, Watched, look, remind_again
from data_export.config.folder import file_of
from data_export.config.load import Loaded, load_customers, owner_in
from data_export.config.models import AnyExport
from data_export.config.platform import customers_dir
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import ConfigError, TargetNotFound
from data_export.lateness import Due
from data_export.layout import WATCH_KEY
from data_export.limits import limits_of
from data_export.wording import harmless
from data_export_airflow.alerting.sender import AlertSender, Noted
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
    loaded, runs = load_customers(), TaskRuns(context["ti"])
    for problem in loaded.problems:
        if problem.path == customers_dir():
            raise ConfigError(str(problem))
    known = asyncio.run(_load(staging))
    looks, unknown = _look_at_all(loaded, known, runs, sender)
    kept = {*loaded.broken(), *unknown}  # as they were, until their files are fixed
    watched = {name: known[name] for name in known if name in kept}
    watched |= {name: one.watched for name, one in looks.items() if one.watched is not None}
    ui = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    summary = AlertSummary(sender, loaded.exports, ui)
    alerts = asyncio.run(_not_alerted(staging, {name: one.alerts for name, one in looks.items()}))
    for name in summary.late(alerts):
        watched[name] = remind_again(watched[name], alerts[name], sender.now)
    broken = _broken(loaded, runs)
    summary.broken(broken)
    asyncio.run(_save(staging, watched))
    late = {name: one.late for name, one in looks.items() if one.late}
    _measure(late, known, len(watched), len(broken), sender.now)
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
    was_due = {name: one for name, one in known.items() if any(each.due.by <= now for each in one.open)}
    exports_watched(lag, was_due, watched, broken, now.timestamp())


def _next_look(context: Mapping[str, Any], sender: AlertSender) -> datetime:
    """When the DAG runs next, by its own cron expression; by that of platform.yaml where it has none."""
    timetable = getattr(context.get("dag"), "timetable", None)
    expression = getattr(timetable, "expression", None) or sender.settings.alerts.watch_schedule
    zone = getattr(timetable, "timezone", UTC)
    zone = zone if isinstance(zone, tzinfo) else ZoneInfo(str(zone))
    following: datetime = croniter(expression, sender.now.astimezone(zone)).get_next(datetime)
    return following


async def _not_alerted(staging: Store, late: Mapping[str, Sequence[Late]]) -> dict[str, list[Late]]:
    """Without the windows whose run has failed and whose failure people know."""
    left: dict[str, list[Late]] = {}
    async with staging:
        for name, entries in late.items():
            for entry in entries:
                if not (entry.run == "failed" and await was_alerted(staging, name, entry.window)):
                    left.setdefault(name, []).append(entry)
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


#: From some exports, and by export when an alert was sent before, to the alert.
_AlertOf = Callable[[Collection[str], dict[str, str]], Alert]


@dataclass(frozen=True, slots=True)
class AlertSummary:
    """Alerts the owners of exports, and the platform's list.

    `exports` are those whose files are right; `ui` is the base address of Airflow's UI.
    """

    sender: AlertSender
    exports: Mapping[str, AnyExport]
    ui: str

    def late(self, late: Mapping[str, Sequence[Late]]) -> list[str]:
        """Sends the alert of late windows; returns the exports whose alert reached nobody."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return late_alert([entry for name in names for entry in late[name]], self.ui, repeated)

        return self._send({name: Noted(LATE, [str(one.window) for one in late[name]]) for name in late}, alert)

    def broken(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Sends the alert of exports that do not run because of the problems in their files."""

        def alert(names: Collection[str], repeated: dict[str, str]) -> Alert:
            return broken_alert({name: problems[name] for name in names}, self.ui, repeated)

        today = [str(self.sender.now.date())]
        self._send({name: Noted(broken_cause(lines), today) for name, lines in problems.items()}, alert)

    def damaged(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Sends the alert of files that an audit found damaged; the same findings cause one alert, not one a week."""

        def alert(names: Collection[str], _: dict[str, str]) -> Alert:
            repaired = [name for name in names if found[name]["repairs"]]
            return damaged_alert({name: found[name]["lines"] for name in names}, repaired, self.ui)

        self._send({name: Noted(one["mark"], [DAMAGED]) for name, one in found.items()}, alert, once=True)

    def _send(self, noted: Mapping[str, Noted], alert_of: _AlertOf, *, once: bool = False) -> list[str]:
        """With `once`, what was alerted on an earlier day is not repeated."""
        claims = self.sender.claims(noted)
        if once:
            claims = {name: claim for name, claim in claims.items() if claim is None or claim.last is None}
        if not claims:
            return []
        repeated = {name: claim.spoken() for name, claim in claims.items() if claim}
        alerts = [(alert_of(names, repeated), people) for names, people in self._by_people(claims)]
        reached = self.sender.send(alerts) | self.sender.notify(alert_of(list(claims), repeated))
        unreached = [name for name in claims if name not in reached]
        self.sender.give_back([claims[name] for name in unreached])
        return unreached

    def _by_people(self, names: Iterable[str]) -> list[tuple[tuple[str, ...], list[str]]]:
        """Exports, and the people whose mail is about exactly these."""
        of_person: dict[str, list[str]] = {}
        for name in names:
            for person in {address.lower() for address in self.sender.recipients(self._owner(name))}:
                of_person.setdefault(person, []).append(name)
        people: dict[tuple[str, ...], list[str]] = {}
        for person, theirs in of_person.items():
            people.setdefault(tuple(theirs), []).append(person)
        return list(people.items())

    def _owner(self, name: str) -> str | None:
        export = self.exports.get(name)
        return export.owner if export else owner_in(file_of(name))
