"""Checks an export before its first window: the core's steps with clients from Airflow connections."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from traceback import extract_tb

from data_export.alerts.alert import LISTED_IN
from data_export.check.check import (
    check_images,
    check_mail,
    check_source,
    check_staging,
    check_target,
    check_update_dates,
)
from data_export.check.results import CheckResult
from data_export.config.load import load_named
from data_export.config.models import CustomerExport
from data_export.config.platform import PlatformSettings, load_platform
from data_export.config.sections import NotifierSettings
from data_export.delivery.webhook import check_webhook
from data_export.errors import DataExportError
from data_export.images import split_images_uri
from data_export.layout import MANIFESTS, data_folder, images_folder
from data_export_airflow.alerting.notifiers import make
from data_export_airflow.connections.clients import destination, smtp_factory, store
from data_export_airflow.connections.source import source_dsn
from data_export_airflow.execution.steps import notice_means


def check_export(name: str) -> list[CheckResult]:
    """Every step an export needs, each tried whatever the others said.

    Raises:
        ConfigError: the customer file or platform.yaml is broken, so that there is nothing to try.
    """
    export, settings = load_named(name), load_platform()
    source = settings.source
    results = _tried(
        "source: connection", lambda: check_source(source_dsn(source.conn_id), export, source.row_security)
    )
    if all(result.ok for result in results):
        results += _tried("source: update_date", lambda: _update_dates(export, settings))
    hours = export.connector_config.link_hours(settings.mail.link_ttl_hours)
    lifetime = None if hours is None else timedelta(hours=hours)
    staging = settings.staging
    results += _tried("staging: connection", lambda: check_staging(store(staging.uri, staging.conn_id), lifetime))
    if export.export_images:
        root, _ = split_images_uri(source.images_uri)
        results += _tried("images: connection", lambda: check_images(store(root, source.images_conn_id)))
    return results + _target(name, export, settings) + _notices(name, export, settings) + _alerts(export, settings)


def _update_dates(export: CustomerExport, settings: PlatformSettings) -> list[CheckResult]:
    source = settings.source
    # one site stands for all: it is the same platform
    return check_update_dates(source_dsn(source.conn_id), export.sites[0], export.export_type, source.row_security)


def _target(name: str, export: CustomerExport, settings: PlatformSettings) -> list[CheckResult]:
    config, mail = export.connector_config, settings.mail
    if emails := config.recipients():
        return _tried("mail: connection", lambda: check_mail(smtp_factory(mail.smtp_conn_id), mail.sender, emails))
    site = export.sites[0]  # one stands for all: what a server grants in the folder of one it grants in all
    folders = [data_folder(site, export.export_type)] + ([images_folder(site)] if export.export_images else [])
    folders += [f"{MANIFESTS}/{export.export_type}"] if export.manifest else []
    return _tried(
        "target: connection", lambda: check_target(destination(name, export, settings), folders, config.check)
    )


def _notices(name: str, export: CustomerExport, settings: PlatformSettings) -> list[CheckResult]:
    """Whether those of `on_delivery` can be reached; nothing is sent."""
    results, on, mail = list[CheckResult](), export.on_delivery, settings.mail
    if on and on.emails:
        results += _tried(
            "notice: connection", lambda: check_mail(smtp_factory(mail.smtp_conn_id), mail.sender, on.emails, "notice")
        )
    if on and on.webhook:
        url, means = on.webhook.url, notice_means(name, settings)
        results += _tried("notice: webhook", lambda: check_webhook(url, means.secret(on), private=means.private))
    return results


def _alerts(export: CustomerExport, settings: PlatformSettings) -> list[CheckResult]:
    """Whether somebody can be alerted when it fails; nothing is sent."""
    results: list[CheckResult] = []
    people = (*([export.owner] if export.owner else []), *settings.alerts.emails)
    if people:
        smtp, sender = settings.mail.smtp_conn_id, settings.mail.sender
        results += _tried(
            "alerts: connection", lambda: check_mail(smtp_factory(smtp), sender, people, "alerts", LISTED_IN)
        )
    for setting in settings.alerts.notifiers:
        results += _tried("alerts: notifier", partial(_notifier, setting))
    if not results:
        results.append(CheckResult("alerts", True, "nobody is alerted: no owner, alerts.emails or alerts.notifiers"))
    return results


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
        fits, has = slots_that_fit(name, at_once), slots.get(name)
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
            results.append(CheckResult(f"pool {name}", True, f"{has} slots"))
            continue
        results.append(CheckResult(f"pool {name}", False, told))
    return results
