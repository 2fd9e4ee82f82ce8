"""One look of the watch at all exports: what is late or broken, and alerting people."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from airflow.sdk.configuration import conf

from data_export.alerts.ledger import was_alerted
from data_export.alerts.watch import Late, Watched, ask_again, look
from data_export.config.load import Loaded, load_customers
from data_export.config.platform import customers_dir
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import ConfigError, TargetNotFound
from data_export.layout import WATCH_KEY
from data_export.limits import limits_of
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.alerting.summary import AlertSummary
from data_export_airflow.connections.clients import store
from data_export_airflow.metadata.task_runs import TaskRuns
from data_export_airflow.schedule.windows import Schedules

log = logging.getLogger(__name__)


def watch(context: Mapping[str, Any]) -> dict[str, int]:
    """One look. Returns how many exports are watched, late and broken.

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
    watched, late = _look_at_all(loaded, known, runs, sender)
    ui = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    summary = AlertSummary(sender, loaded.exports, ui)
    late = asyncio.run(_not_alerted(staging, late))
    for name in summary.late(late):
        watched[name] = ask_again(watched[name], late[name], sender.now)
    broken = _broken(loaded, runs)
    summary.broken(broken)
    asyncio.run(_save(staging, watched))
    return {"watched": len(watched), "late": len(late), "broken": len(broken)}


def _look_at_all(
    loaded: Loaded, known: Mapping[str, Watched], runs: TaskRuns, sender: AlertSender
) -> tuple[dict[str, Watched], dict[str, list[Late]]]:
    broken = loaded.broken()
    watched = {name: known[name] for name in known if name in broken}  # as they were, until their files are fixed
    late: dict[str, list[Late]] = {}
    schedules = Schedules()
    for name, export in loaded.exports.items():
        if not export.enabled:
            continue
        schedule = schedules.of(export, limits_of(name, export, sender.settings.limits))
        try:
            after, found = look(name, known.get(name), schedule, runs, sender.now)
        except (ValueError, ArithmeticError):  # of one export's schedule: the others are watched all the same
            log.exception("%s: its windows are not known", name)
            continue
        if after is not None:
            watched[name] = after
        if found:
            late[name] = found
    return watched, late


async def _not_alerted(staging: Store, late: Mapping[str, list[Late]]) -> dict[str, list[Late]]:
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
        log.warning("what was watched is not understood (%s): it begins anew", error)
        return {}


async def _save(staging: Store, watched: Mapping[str, Watched]) -> None:
    text = json.dumps({name: value.to_dict() for name, value in sorted(watched.items())})
    async with staging:
        await staging.replace(WATCH_KEY, Content.of_bytes(text.encode(), "application/json"))
