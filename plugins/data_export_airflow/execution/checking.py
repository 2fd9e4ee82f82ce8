"""Checks an export before its first window: the core's steps with clients from Airflow connections."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import NamedTuple

from data_export.alerts.alert import LISTED_IN
from data_export.check.check import (
    check_connection,
    check_images,
    check_mail,
    check_queries,
    check_staging,
    check_target,
    check_update_dates,
)
from data_export.check.results import CheckResult
from data_export.config.load import load_beside, load_named
from data_export.config.models import AnyExport, CustomerExport
from data_export.config.platform import PlatformSettings, load_platform
from data_export.config.sections import NotifierSettings
from data_export.delivery.webhook import check_webhook
from data_export.errors import DataExportError, LimitExceeded
from data_export.images import split_images_uri
from data_export.layout import data_folder, images_folder, manifests_folder, receipts_folder
from data_export.limits import check_window, limits_of, windows_too_long
from data_export_airflow.alerting.notifiers import make
from data_export_airflow.connections.clients import destination, smtp_factory, store
from data_export_airflow.connections.source import source_dsn
from data_export_airflow.execution.steps import notice_means
from data_export_airflow.schedule.windows import last_complete

#: What several exports need alike, by step: which of them it was tried for first, and what was found.
Shared = dict[Hashable, tuple[str, list[CheckResult]]]


class _Step(NamedTuple):
    """Something to try. Steps of one `key` are the same for all exports that have it; None is an export's own."""

    name: str
    key: Hashable | None
    check: Callable[[], Sequence[CheckResult]]


def check_export(
    name: str, shared: Shared | None = None, on_step: Callable[[str], object] = lambda _: None
) -> Iterator[CheckResult]:
    """Every step an export needs, as they end, each tried whatever the others said.

    Args:
        shared: of exports that are checked together: what one of them has tried is not tried again, and repeated only
            where it failed.
        on_step: hears what is tried next.

    Raises:
        ConfigError: the customer file or platform.yaml is broken, so that there is nothing to try.
    """
    export, settings = load_named(name), load_platform()
    shared = {} if shared is None else shared
    for step in _steps(name, export, settings, shared):
        on_step(step.name)
        if step.key in shared:
            first, found = shared[step.key]
            yield from (CheckResult(each.step, False, f"as for {first}") for each in found if not each.ok)
            continue
        results = _tried(step.name, step.check)
        if step.key is not None:
            shared[step.key] = name, results
        yield from results


def _steps(name: str, export: AnyExport, settings: PlatformSettings, shared: Shared) -> Iterator[_Step]:
    source, staging = settings.source, settings.staging
    yield _Step("customer file", None, lambda: _files(name, export, settings))
    connected = _Step("source: connection", "source", lambda: _source(settings))
    yield connected
    _, found = shared.get(connected.key, (name, []))
    if all(result.ok for result in found):
        yield _Step("source: queries", None, lambda: _queries(export, settings))
    hours = export.connector_config.link_hours(settings.mail.link_ttl_hours)
    lifetime = None if hours is None else timedelta(hours=hours)
    opened = partial(store, staging.uri, staging.conn_id)
    yield _Step("staging: connection", ("staging", lifetime), lambda: check_staging(opened(), lifetime))
    if export.export_images:
        root, _ = split_images_uri(source.images_uri)
        yield _Step("images: connection", "images", lambda: check_images(store(root, source.images_conn_id)))
    yield _target(name, export, settings)
    yield from _notices(name, export, settings)
    yield from _alerts(export, settings)
    yield _Step("pools", "pools", check_pools)
    yield _Step("queue", "queue", check_queue)


def _files(name: str, export: AnyExport, settings: PlatformSettings) -> list[CheckResult]:
    """Whether no other file would write the same objects, and the windows keep the limits."""
    results = [CheckResult("customer file", False, error) for error in load_beside(name).errors().get(name, [])]
    limits, now = limits_of(name, export, settings.limits), datetime.now(UTC)
    try:
        if found := windows_too_long(export, lambda: settings.limits.max_window_days):
            raise LimitExceeded(found[0])
        window = last_complete(export, limits.settle, now)
        if export.start <= window.start and (export.end is None or window.end <= export.end):
            check_window(name, export, window, limits, max(now, window.end))
    except LimitExceeded as error:
        results.append(CheckResult("limits", False, str(error)))
    return results or [CheckResult("customer file", True, "no other file writes the same, and windows keep the limits")]


def _source(settings: PlatformSettings) -> list[CheckResult]:
    return check_connection(source_dsn(settings.source.conn_id), settings.source.row_security)


def _queries(export: CustomerExport, settings: PlatformSettings) -> list[CheckResult]:
    source = settings.source
    dsn = source_dsn(source.conn_id)
    results = check_queries(dsn, export, source.row_security)
    # one site stands for all: it is the same platform
    dates = partial(check_update_dates, dsn, export.sites[0], export.export_type, source.row_security)
    return results + (_tried("source: update_date", dates) if all(result.ok for result in results) else [])


def _target(name: str, export: AnyExport, settings: PlatformSettings) -> _Step:
    config, mail = export.connector_config, settings.mail
    if emails := config.recipients():
        return _Step("mail: connection", None, lambda: check_mail(smtp_factory(mail.smtp_conn_id), mail.sender, emails))
    folders = [data_folder(site, export.export_type) for site in export.sites]
    folders += [images_folder(site) for site in export.sites] if export.export_images else []
    folders += [receipts_folder(site, export.export_type) for site in export.sites] if export.delivery_receipt else []
    folders += [manifests_folder(export.export_type)] if export.manifest else []
    return _Step(
        "target: connection", None, lambda: check_target(destination(name, export, settings), folders, config.check)
    )


def _notices(name: str, export: AnyExport, settings: PlatformSettings) -> Iterator[_Step]:
    """Whether those of `on_delivery` can be reached; nothing is sent."""
    on, mail = export.on_delivery, settings.mail
    if on and on.emails:
        emails = on.emails
        yield _Step(
            "notice: connection",
            None,
            lambda: check_mail(smtp_factory(mail.smtp_conn_id), mail.sender, emails, "notice"),
        )
    if on and on.webhook:
        means, url = notice_means(name, settings), on.webhook.url
        yield _Step("notice: webhook", None, lambda: check_webhook(url, means.secret(on), private=means.private))


def _alerts(export: CustomerExport, settings: PlatformSettings) -> Iterator[_Step]:
    """Whether somebody can be alerted when it fails; nothing is sent."""
    people = (*([export.owner] if export.owner else []), *settings.alerts.emails)
    if people:
        smtp, sender = settings.mail.smtp_conn_id, settings.mail.sender
        offer = partial(check_mail, sender=sender, recipients=people, what="alerts", listed_in=LISTED_IN)
        yield _Step("alerts: connection", ("alerts", people), lambda: offer(smtp_factory(smtp)))
    for setting in settings.alerts.notifiers:
        yield _Step("alerts: notifier", ("notifier", repr(setting)), partial(_notifier, setting))
    if not people and not settings.alerts.notifiers:
        nobody = "nobody is alerted: no owner, alerts.emails or alerts.notifiers"
        yield _Step("alerts", None, lambda: [CheckResult("alerts", True, nobody)])


def _notifier(setting: NotifierSettings) -> list[CheckResult]:
    make(setting)
    return [CheckResult("alerts: notifier", True, setting.class_path)]


def _tried(step: str, check: Callable[[], Sequence[CheckResult]]) -> list[CheckResult]:
    """The check's results; where not even its client can be made, that.

    Shows the class and place of an error that is not the service's own: its words may hold a secret.
    """
    try:
        return list(check())
    except DataExportError as error:
        return [CheckResult(step, False, str(error))]
    except Exception as error:  # one step must not keep the others, nor other exports, from being tried
        raised = extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(raised.filename).name}, line {raised.lineno}"
        return [CheckResult(step, False, f"fails with {where}: compare the connection with docs/deploy.md")]


def check_pools() -> list[CheckResult]:
    """Whether Airflow has the pools of our tasks, which else wait for ever with a line in the scheduler's log.

    And whether they leave room for other tasks. Asks Airflow's database, so on a worker, which may not, there is no
    result.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from data_export_airflow.metadata.airflow_database import pool_slots, tasks_at_once
    from data_export_airflow.operators.base import POOLS, slots_that_fit

    try:
        slots = pool_slots()
    except (SQLAlchemyError, RuntimeError):
        return []
    fix = "is missing, so that tasks wait for ever: create it with `python -m data_export_airflow init`"
    at_once, results = tasks_at_once(), []
    for name in POOLS:
        fits, has, most = slots_that_fit(name, at_once), slots.get(name), max(1, at_once * 3 // 4)
        if has is None:
            told = fix
        elif has == 0:
            told = "has no slots, so that tasks wait for ever: give it some under Admin, Pools"
        elif has < 0 or fits < has >= at_once:
            told = (
                f"has {has} slots, and Airflow runs {at_once} tasks at once ([core] parallelism): long transfers can "
                f"hold all of them; give the pool {fits} under Admin, Pools"
            )
        else:
            over = f", more than {most}, three quarters of the {at_once} tasks at once" if has > most else ""
            results.append(CheckResult(f"pool {name}", True, f"{has} slots{over}"))
            continue
        results.append(CheckResult(f"pool {name}", False, told))
    return results


#: A lost queue is noticed this soon, and workers may be away this long.
_QUEUE_LOST_SECONDS, _WORKERS_AWAY_HOURS = 600, 24


def check_queue() -> list[CheckResult]:
    """Whether the loss of the workers' queue is noticed soon, and tasks outlive workers that are away for a day.

    A task that waited that long counts as failed, whatever its retries say. Without a queue there is no result.
    """
    from data_export_airflow.metadata.airflow_database import queue_limits

    if (limits := queue_limits()) is None:
        return []
    seconds, times = limits
    needed = math.ceil(_WORKERS_AWAY_HOURS * 3600 / seconds)
    if seconds > _QUEUE_LOST_SECONDS:
        told = f"a lost message is noticed only after {seconds:.0f} s: set [scheduler] task_queued_timeout to 180"
    elif times < needed:
        told = (
            f"tasks that no worker begins within {seconds * (times + 1) / 60:.0f} minutes are failed, whatever their "
            f"retries: set [scheduler] num_stuck_in_queued_retries to {needed} or more, for a day"
        )
    else:
        return [CheckResult("queue", True, f"a lost message is noticed after {seconds:.0f} s")]
    return [CheckResult("queue", False, told)]
