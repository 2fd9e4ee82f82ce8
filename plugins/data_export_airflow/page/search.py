"""Search, filter, sort and cut the list of exports."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from data_export_airflow.metadata.access import Rights
from data_export_airflow.metadata.overview import OF_RUNS, Deliveries, ExportRow, with_delivery

SortKey = Literal["name", "connector", "interval", "state", "window", "lag", "rows", "bytes", "images", "next"]

BY_TOTALS: dict[SortKey, str] = {"rows": "work_orders", "bytes": "bytes", "images": "images"}

#: The most urgent first.
STATES = (
    "broken",
    "failed",
    "late",
    "retrying",
    "running",
    "new",
    "incomplete",
    "paused",
    "off",
    "unwatched",
    "ended",
    "delivered",
    "hidden",
)

#: Connectors as the page shows them, where that is not their name (`CONNECTORS` in shell.js).
LABELS = {"gs": "Cloud Storage", "abfs": "Azure Blob Storage", "file": "Local folder"}

_KEYS: dict[SortKey, Callable[[ExportRow], Any]] = {
    "name": lambda row: row.name,
    "connector": lambda row: row.connector,
    "interval": lambda row: row.interval,
    "state": lambda row: STATES.index(row.state),
    "window": lambda row: row.delivered_end,
    "lag": lambda row: row.lag_seconds,
    "next": lambda row: row.next_run,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of the list."""

    search: str = ""
    state: str = ""
    connector: str = ""
    sort: SortKey = "name"
    descending: bool = False
    offset: int = 0
    limit: int = 100


def listing(rows: list[ExportRow], asked: Asked, deliveries: Callable[[list[ExportRow]], Deliveries]) -> dict[str, Any]:
    """`rows` come in order of names, which stays the order among equals; what is unknown comes last either way.

    `deliveries` is called for the rows shown, or for all that match where they are sorted by what was delivered.
    """
    words = asked.search.lower().split()
    searched = [row for row in rows if all(word in _text(row) for word in words)]
    matching = [row for row in searched if asked.state in ("", row.state) and asked.connector in ("", row.connector)]
    key = _KEYS.get(asked.sort) or _by_total(BY_TOTALS[asked.sort], deliveries(matching))
    known = sorted((row for row in matching if key(row) is not None), key=key, reverse=asked.descending)
    ordered = known + [row for row in matching if key(row) is None]
    page = ordered[asked.offset : asked.offset + asked.limit]
    delivered = deliveries(page)
    return {
        "total": len(rows),
        "matching": len(matching),
        "states": Counter(row.state for row in searched),
        "connectors": sorted({row.connector for row in rows if row.connector}),
        "exports": [with_delivery(row, delivered) for row in page],
    }


def permitted(row: ExportRow, rights: Rights) -> ExportRow:
    """What remains of the row for a user who may read its DAG, but perhaps not its runs, or why their tasks failed."""
    if not rights.runs:
        state = "broken" if row.state == "broken" else "paused" if row.paused else "hidden"
        nothing: dict[str, Any] = dict.fromkeys(OF_RUNS)
        return replace(row, state=state, **nothing)
    if row.retry and not rights.reasons:
        return replace(row, retry=replace(row.retry, error="", message=""))
    return row


def _by_total(name: str, deliveries: Deliveries) -> Callable[[ExportRow], Any]:
    def key(row: ExportRow) -> int | None:
        found = deliveries.get(row.delivered_key) if row.delivered_key else None
        return (found.totals or {}).get(name) if found else None

    return key


def _text(row: ExportRow) -> str:
    label = LABELS.get(row.connector, "")
    return f"{row.name} {row.connector} {label} {row.interval} {row.export_type} {row.state}".lower()
