"""What all exports delivered, day by day (UTC).

Events have no index by time, but ids grow with it: a day's are found by halving. Days that are over are read once.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from airflow.models.asset import AssetEvent
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export_airflow.metadata.exports import ours
from data_export_airflow.metadata.receipts import TOTALS, first_event

DAYS = 14
KEYS = ("work_orders", "bytes", "images", "image_bytes", "images_missing", "refused_recipients")
Volume = dict[str, list[int]]  # by dag_id: number of deliveries, then one sum per KEYS


class Volumes:
    """Remembers finished days; a day counts as finished two hours after its end, when no transaction of it is open."""

    def __init__(self) -> None:
        self._finished: dict[date, Volume] = {}

    def __call__(self, session: Session, now: datetime) -> dict[date, Volume]:
        """Today and the days before it, oldest first."""
        days = [(now - timedelta(days=back)).date() for back in reversed(range(DAYS))]
        found = {day: self._finished[day] if day in self._finished else _read(session, day) for day in days}
        over = (now - timedelta(hours=2)).date()
        self._finished = {day: volume for day, volume in found.items() if day < over}
        return found


def totals(volume: Volume, readable: set[str]) -> dict[str, int]:
    """The sums over the exports that the user may read."""
    sums = [sum(column) for column in zip(*(volume[dag_id] for dag_id in volume.keys() & readable), strict=True)]
    return dict(zip(("deliveries", *KEYS), sums or [0] * (1 + len(KEYS)), strict=True))


def _read(session: Session, day: date) -> Volume:
    first = first_event(session, datetime.combine(day, time(), UTC))
    last = first_event(session, datetime.combine(day + timedelta(days=1), time(), UTC))
    rows = session.execute(
        select(AssetEvent.source_dag_id, TOTALS).where(
            AssetEvent.id >= first, AssetEvent.id < last, ours(AssetEvent.source_dag_id)
        )
    )
    volume: Volume = defaultdict(lambda: [0] * (1 + len(KEYS)))
    for dag_id, sums in rows:
        for place, number in enumerate((1, *(_number(sums, key) for key in KEYS))):
            volume[dag_id][place] += number
    return dict(volume)


def _number(sums: dict[str, Any] | None, key: str) -> int:
    return int((sums or {}).get(key) or 0)
