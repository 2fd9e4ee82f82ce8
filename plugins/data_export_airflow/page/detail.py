"""One export: the calendar of its windows, what they held, and where the files are."""

from collections import Counter
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from data_export_airflow.metadata.access import ALL, Rights
from data_export_airflow.metadata.failures import reasons
from data_export_airflow.metadata.late import retries
from data_export_airflow.metadata.overview import ExportRow
from data_export_airflow.metadata.receipts import receipts
from data_export_airflow.metadata.windows import Schedule, WindowRow, sample, schedule, totals, usual_length, windows
from data_export_airflow.operators.links import console_address
from data_export_airflow.page.periods import Period, kind_of, period_around

_LISTED = 20
_SITES = 200
_INSTANT = timedelta(microseconds=1)


def detail(
    session: Session,
    dag_id: str,
    export: ExportRow | None,
    now: datetime,
    before: datetime | None,
    rights: Rights = ALL,
) -> dict[str, Any] | None:
    """The period that ends at `before`, or the current one; None where Airflow knows no such DAG.

    `export` tells of the newest windows where there is no schedule, and all are in the past. `rights` are the user's
    who asks, who may read its runs.
    """
    plan = schedule(session, dag_id)
    if plan is None:
        return None
    newest = _newest(plan, export, now)
    last = before - _INSTANT if before else newest
    length = plan.length(now) or usual_length(session, dag_id)
    last = min(last, newest) if plan.periodic else last
    period = period_around(kind_of(length), plan.timezone, last, length)
    rows, by_hand = windows(session, dag_id, plan, period.start, period.end, now, rights.receipts)
    failed_runs = [row.run_id for row in (*rows, *by_hand) if row.state == "failed" and row.run_id]
    failed = reasons(session, dag_id, failed_runs) if rights.reasons else {}
    again = {run_id: retry.words if rights.reasons else "" for (_, run_id), retry in retries(session, dag_id).items()}
    rows, by_hand = ([_retried(row, again) for row in some] for some in (rows, by_hand))
    failed |= again
    return {
        "kind": period.kind,
        "timezone": period.zone.key,
        "older": period.start if plan.start and plan.start < period.start else None,
        "newer": min(_after(period), now) if period.end <= newest else None,
        "periodic": plan.periodic,
        "rows": _rows(period, plan, rows),
        "windows": [_placed(row, period, failed) for row in rows],
        "by_hand": [_placed(row, period, failed) for row in by_hand],
        "states": Counter(row.state for row in rows),
        "totals": totals(rows, by_hand) if rights.receipts else None,
        "sample": sample(rows),
        "about": plan.about,
        "max_active_runs": plan.max_active_runs,
        "missing_images": _missing_images(session, rows),
        "refused": _refused(session, [*rows, *by_hand]),
        "unheard": _unheard(session, dag_id, [*rows, *by_hand]) if rights.reasons else [],
        "files": _files(session, [*rows, *by_hand]),
    }


def _retried(row: WindowRow, again: dict[str, str]) -> WindowRow:
    return replace(row, state="retrying") if row.state in ("running", "queued") and row.run_id in again else row


def _newest(plan: Schedule, export: ExportRow | None, now: datetime) -> datetime:
    """An instant in the newest row that the calendar has."""
    if not plan.periodic:
        return (export and export.last_window_start) or plan.start or now
    return min(now, plan.end - _INSTANT) if plan.end else now


def _rows(period: Period, plan: Schedule, rows: list[WindowRow]) -> list[str]:
    """Of the period those in which the export was there."""
    begin = min((instant for instant in (plan.start, *(row.start for row in rows)) if instant), default=period.start)
    first, _ = period.place(max(begin, period.start))
    return [label for label in period.rows() if label >= first]


def _after(period: Period) -> datetime:
    """An instant in the last row of the next newer period; a little early, since years and months differ in length."""
    return period.end + (period.end - period.start) * 0.98


def _placed(row: WindowRow, period: Period, failed: dict[str, str]) -> dict[str, Any]:
    label, column = period.place(row.start)
    local = row.start.astimezone(period.zone)
    reason = failed.get(row.run_id) if row.run_id else None
    return {**asdict(row), "row": label, "column": column, "local": local.isoformat(), "reason": reason}


def _missing_images(session: Session, rows: list[WindowRow]) -> list[dict[str, Any]]:
    """The newest windows whose receipts name images that were not at the source."""
    listed = []
    for row, count, receipt in _newest_with(session, rows, "images_missing"):
        images = [site.get("images") or {} for site in receipt.get("sites", [])]
        names = [name for each in images for name in each.get("missing", [])]
        lists = [each["missing_list"] for each in images if each.get("missing_list")]
        listed.append({"start": row.start, "count": count, "names": names[:100], "lists": lists})
    return listed


def _refused(session: Session, rows: list[WindowRow]) -> list[dict[str, Any]]:
    """The newest windows whose link did not reach everybody, with the recipients as the receipt masks them."""
    return [
        {"start": row.start, "end": row.end, "recipients": receipt.get("refused_recipients", [])}
        for row, _, receipt in _newest_with(session, rows, "refused_recipients")
    ]


def _unheard(session: Session, dag_id: str, rows: list[WindowRow]) -> list[dict[str, Any]]:
    """The newest delivered windows whose notice was not taken, with the reason: the one task that fails no run."""
    delivered = [row for row in rows if row.run_id and row.state in ("delivered", "empty")]
    found = reasons(session, dag_id, [row.run_id for row in delivered if row.run_id])
    missed = sorted(
        (row for row in delivered if found.get(row.run_id or "", "").startswith("notify: ")), key=lambda row: row.start
    )[-_LISTED:][::-1]
    return [
        {"start": row.start, "end": row.end, "run_id": row.run_id, "reason": found[row.run_id or ""]} for row in missed
    ]


def _newest_with(session: Session, rows: list[WindowRow], key: str) -> list[tuple[WindowRow, int, dict[str, Any]]]:
    """Windows with one of a receipt's sums, and their receipts, the newest first."""
    affected = [row for row in rows if row.event_id is not None and (row.totals or {}).get(key)]
    affected = sorted(affected, key=lambda row: row.start)[-_LISTED:][::-1]
    found = receipts(session, [row.event_id for row in affected if row.event_id is not None])
    return [(row, (row.totals or {})[key], found.get(row.event_id or 0, {})) for row in affected]


def _files(session: Session, rows: list[WindowRow]) -> dict[str, Any] | None:
    """Those of the newest delivered window."""
    newest = max((row for row in rows if row.event_id is not None), key=lambda row: row.end, default=None)
    if newest is None or newest.event_id is None:
        return None
    receipt = receipts(session, [newest.event_id]).get(newest.event_id, {})
    return {"event_id": newest.event_id, **files_of(receipt)}


def files_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """Target, window and data files of a receipt, each file with its address in the provider's console, if any."""
    sites, has_console = receipt.get("sites", []), receipt.get("console", False)
    keys = ("site_id", "name", "uri", "bytes", "work_orders", "sha256", "outcome", "revision", "offered")
    return {
        "target": receipt.get("target"),
        "window": receipt.get("window"),
        "sites": [
            {**{key: site.get(key) for key in keys}, "console": console_address(site["uri"]) if has_console else ""}
            for site in sites[:_SITES]
        ],
        "more_sites": max(0, len(sites) - _SITES),
    }
