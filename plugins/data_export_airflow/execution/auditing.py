"""The audit of one export: what to look for, where, what it found, and which windows a run can make good."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from data_export.config.load import load_named
from data_export.config.models import CustomerExport, dag_id
from data_export.config.platform import PlatformSettings, load_platform
from data_export.config.tenants import require_bounds
from data_export.delivery.base import Destination
from data_export.errors import DataExportError, line_of
from data_export.images import source_key_of, split_images_uri
from data_export.limits import Limits, limits_of, refusal
from data_export.pipeline.audit import MOST, Audited, AuditRules, Finding, audit
from data_export.pipeline.audit_images import ImagesOf
from data_export.pipeline.drift import Drift, Source, drift
from data_export.pipeline.expected import Delivery, Expected, expected, fix_of, sampled
from data_export.window import ExportWindow
from data_export.wording import harmless
from data_export_airflow.connections.clients import destination, store
from data_export_airflow.connections.source import source_dsn
from data_export_airflow.metadata.assets import window_in
from data_export_airflow.metadata.task_runs import TaskRuns, window_if_cleared

log = logging.getLogger(__name__)

#: Findings, and windows that drifted, that a result lists, and that an alert names; both count all.
LISTED, _NAMED = 100, 10
MOST_REPAIRS = 100
ReceiptsSince = Callable[[datetime], Iterable[Delivery]]
#: Of a window, and the DAG and the id of the run that delivered it last: whether a run of it is not over.
IsUnderWay = Callable[[ExportWindow, str, str], bool]
#: Has Airflow run a window again, given the same; the id of its run, or None where one is not over.
RunAgain = Callable[[ExportWindow, str, str], str | None]


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What is asked for beyond, or in place of, the settings; None leaves them as they are."""

    since: datetime | None = None
    full: bool = False
    repair: bool | None = None
    drift: bool | None = None


@dataclass(slots=True)
class AuditReport:
    """What an audit of one export found; `drifts` are the windows that differ from the source today."""

    export: str
    at: datetime
    since: datetime
    full: bool
    seen: Audited
    findings: list[tuple[Expected, Finding]] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    drift_files: int | None = None
    repairs: list[str] = field(default_factory=list)
    #: Why nothing is repaired although it was asked for.
    note: str = ""
    under_way: int = 0

    @property
    def repairable(self) -> dict[tuple[str, str], Expected]:
        """By the bounds of each window that a run can make good, what brought it last; the newest window first."""
        found = {(file.start, file.end): file for file, finding in self.findings if not finding.fix}
        return dict(sorted(found.items(), reverse=True))

    @property
    def damaged(self) -> int:
        return sum(self.seen.counts.values()) - self.under_way

    def mark(self) -> str:
        """The same for the same findings, but another one where the files were delivered again in between."""
        lines = sorted(f"{finding.uri} {finding.found} {file.delivered_at}" for file, finding in self.findings)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def lines(self, most: int) -> Iterator[str]:
        """What was found, in words, at most so many findings."""
        for _, finding in self.findings[:most]:
            yield f"{finding}{finding.fix and f': {finding.fix}'}"
        if self.damaged > most:
            yield f"and {self.damaged - most:,} more"

    def to_dict(self) -> dict[str, Any]:
        """Small enough for an XCom."""
        seen = self.seen
        counted = ("objects", "read", "images", "left", "cut", "elsewhere", "unknown")
        totals = {name: sum(getattr(one, name) for one in self.drifts) for name in ("added", "changed", "gone")}
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "since": self.since.isoformat(timespec="seconds"),
            "full": self.full,
            **{name: getattr(seen, name) for name in counted},
            "unknown_reason": harmless(seen.unknown_reason, 300),
            "under_way": self.under_way,
            "damaged": self.damaged,
            "findings": [finding.to_dict() for _, finding in self.findings[:LISTED]],
            "repairable_windows": len(self.repairable),
            "repairs": len(self.repairs),
            "note": self.note,
            "drift": None
            if self.drift_files is None
            else {"files": self.drift_files, **totals, "windows": [one.to_dict() for one in self.drifts[:LISTED]]},
        }


def audit_export(
    name: str,
    export: CustomerExport,
    settings: PlatformSettings,
    asked: AuditRequest,
    receipts: ReceiptsSince,
    is_under_way: IsUnderWay,
    run_again: RunAgain | None,
) -> AuditReport:
    """Looks, writes nothing, and has Airflow run windows again where a repair is asked for.

    Args:
        receipts: what was delivered since a moment, the newest first.
        is_under_way: whether a run of the window is not over: what it has delivered is not in a receipt yet.
        run_again: None where the export's DAG is paused: runs would wait, and surprise whoever unpauses it.

    Raises:
        DataExportError: the target, the source or a setting does not let it look.
    """
    require_bounds(name, export, settings)
    rules = export.audit.over(settings.audit) if export.audit else settings.audit
    began, end = datetime.now(UTC), time.monotonic() + rules.minutes * 60
    hours = export.connector_config.link_hours(settings.mail.link_ttl_hours)
    since = began - (timedelta(days=rules.days) if hours is None else timedelta(hours=hours))
    since = asked.since if asked.since is not None and hours is None else since
    delivered = expected(receipts(since), MOST)
    # Of a link by mail the staging area, where the file waits.
    staging, by_mail = settings.staging, hours is not None
    target = store(staging.uri, staging.conn_id) if by_mail else destination(name, export, settings)
    look = AuditRules(asked.full, rules.sample, rules.minutes * 60, f"{name} {began.date()}")
    seen = audit(target, delivered, look, _images(export, settings), began)
    report = AuditReport(name, began, since, asked.full, seen)
    limits = limits_of(name, export, settings.limits)
    _judge(report, export, limits, target, receipts, is_under_way)
    if asked.drift if asked.drift is not None else rules.drift:
        files = sampled(delivered, export, target.uri, None if asked.full else rules.sample)
        _drift(report, files, _source(export, settings), target, end)
    if asked.repair if asked.repair is not None else rules.repair:
        _repair(report, run_again)
    return report


def _images(export: CustomerExport, settings: PlatformSettings) -> ImagesOf | None:
    if not export.export_images:
        return None
    root, template = split_images_uri(settings.source.images_uri)
    return ImagesOf(store(root, settings.source.images_conn_id), lambda site: source_key_of(template, site))


def _source(export: CustomerExport, settings: PlatformSettings) -> Source:
    source = settings.source
    return Source(partial(source_dsn, source.conn_id), export, source.row_security, settings.limits.max_record_mb)


def _judge(
    report: AuditReport,
    export: CustomerExport,
    limits: Limits,
    target: Destination,
    receipts: ReceiptsSince,
    is_under_way: IsUnderWay,
) -> None:
    """Leaves out what a run is delivering or has since, and says of the rest what makes it good."""
    running: dict[ExportWindow | None, bool] = {}
    windows = [ExportWindow.from_dict({"start": file.start, "end": file.end}) for file, _ in report.seen.findings]
    for window, (file, _) in zip(windows, report.seen.findings, strict=True):
        if window not in running:
            running[window] = is_under_way(window, file.dag_id, file.run_id)
    if running:  # after that, since what is over has its receipt
        running |= {window_in(one.receipt): True for one in receipts(report.at)}
    for window, (file, finding) in zip(windows, report.seen.findings, strict=True):
        if running[window]:
            report.under_way += 1
            continue
        fix = fix_of(file, finding.kind, finding.found, export, target.uri)
        fix = fix or refusal(report.export, export, window, limits, report.at)
        if not fix and finding.detail.startswith("and no longer"):
            fix = "the platform has the image no longer"
        report.findings.append((file, finding.with_fix(fix)))
    report.findings.sort(key=lambda found: (found[1].start, found[1].end, found[1].uri))


def _drift(report: AuditReport, files: list[Expected], source: Source, target: Destination, end: float) -> None:
    report.drift_files = 0
    for file in files:
        if time.monotonic() > end:
            return
        try:
            found = drift(source, file, target)
        except DataExportError as error:
            words = f"{type(error).__name__}: {harmless(error, 300)}"
            found = Drift(file.start, file.end, file.site_id, file.work_orders, unknown=words)
        report.drift_files += 1
        if found:
            report.drifts.append(found)


def _repair(report: AuditReport, run_again: RunAgain | None) -> None:
    if run_again is None:
        report.note = "nothing is delivered again while the DAG is paused" if report.repairable else ""
        return
    for (start, end), file in [*report.repairable.items()][:MOST_REPAIRS]:
        run_id = run_again(ExportWindow.from_dict({"start": start, "end": end}), file.dag_id, file.run_id)
        if run_id is not None:
            report.repairs.append(run_id)


def audit_in_task(name: str, asked: AuditRequest, ti: Any) -> dict[str, Any]:
    """Audits one export inside a task, keeps the result as the XCom of its name, and returns what an alert says of it:
    `lines`, `repairs` and `mark`."""
    runs = TaskRuns(ti)
    try:
        export, settings = load_named(name), load_platform()
        again = partial(runs.run_again, name, window_if_cleared(name, export, settings))
        may_run = runs.standing(name) == "active"
        receipts, is_under_way = partial(runs.receipts, name), partial(runs.is_under_way, name)
        report = audit_export(name, export, settings, asked, receipts, is_under_way, again if may_run else None)
    except DataExportError as error:
        log.warning("%s is not audited: %s", name, error)
        ti.xcom_push(name, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "error": line_of(error)})
        return {}
    found = report.to_dict()
    log.info("%s: %s", name, {key: value for key, value in found.items() if key != "findings"})
    ti.xcom_push(name, found)
    return {"lines": [*report.lines(_NAMED)], "repairs": len(report.repairs), "mark": report.mark()}


def audit_with_database(
    name: str, export: CustomerExport, settings: PlatformSettings, asked: AuditRequest
) -> AuditReport:
    """The same where Airflow's database may be asked, as a command may."""
    from data_export_airflow.metadata import backfills, receipts  # late: a worker has no database
    from data_export_airflow.metadata.airflow_database import airflow_session

    own, window_of = dag_id(name), window_if_cleared(name, export, settings)

    def delivered(since: datetime) -> Iterator[Delivery]:
        with airflow_session() as session:
            yield from receipts.newest_first(session, own, since)

    with airflow_session() as session:
        paused = backfills.is_paused(session, own)
    is_under_way = partial(backfills.is_under_way, own, window_of)
    again = None if paused else partial(backfills.run_again, own, window_of)
    return audit_export(name, export, settings, asked, delivered, is_under_way, again)
