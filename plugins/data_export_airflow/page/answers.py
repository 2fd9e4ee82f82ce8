"""What the page and commands are answered from: made once for all who ask, see `Cached`."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Generic, TypeVar

from fastapi import Depends
from sqlalchemy.orm import Session

from data_export_airflow.metadata import failures as faults
from data_export_airflow.metadata import receipts
from data_export_airflow.metadata.airflow_database import airflow_session
from data_export_airflow.metadata.exports import Volume, Volumes
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import Deliveries, ExportRow, Overview, at_a_glance

T = TypeVar("T")
log = logging.getLogger(__name__)

#: How old an answer may be, and how old one may be that is shown while the next is made.
_SECONDS, _STALE = 10.0, 60.0
_FLEET_SECONDS, _FLEET_STALE = 30.0, 300.0
_PATIENCE = 50.0  # seconds; the page's own requests give up after 60, and would not see why


class Cached(Generic[T]):
    """Calls `make` in a thread of its own, one call at a time, whatever number of requests wait for it.

    A value younger than `seconds` is the answer. An older one is too, up to `stale` seconds, while the next is made; a
    still older one is not: the caller waits. What `make` raises is not kept, and goes to a caller who waits.

    A call that takes twice the patience is given up, for all that one can tell, and another begins.

    Who waits holds no thread. The API server has 40 for all that it is asked, by workers too: a slow database and a few
    open pages would take them all.
    """

    def __init__(self, make: Callable[[], T], seconds: float, stale: float, patience: float = _PATIENCE) -> None:
        self._make, self._seconds, self._stale, self._patience = make, seconds, stale, patience
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None
        self._making: Future[T] | None = None
        self._began, self._lost = 0.0, 0

    async def __call__(self) -> T:
        """The value.

        Raises:
            TimeoutError: there is none, and the next was not made in time.
        """
        if (made := self._known(self._seconds)) is not None:
            return made[1]
        making = self.refresh()
        if (made := self._known(self._stale)) is not None:
            return made[1]
        return await asyncio.wait_for(asyncio.wrap_future(making), self._patience)

    def refresh(self) -> Future[T]:
        """The next value, which a thread begins to make, unless one is at it or the last is young."""
        with self._lock:
            if self._making is None or self._is_lost() or (self._making.done() and self._known(self._seconds) is None):
                self._lost = self._lost + 1 if self._is_lost() else 0
                self._making, self._began = Future(), time.monotonic()
                self._making.set_running_or_notify_cancel()  # so that none who gives up ends it for the others
                threading.Thread(target=self._renew, args=(self._making,), daemon=True).start()
            return self._making

    def _is_lost(self) -> bool:
        """Whether so much time has passed that the database's answer may never come: a network may lose it.

        Each time four times as long is waited: every thread has one of the API server's few connections.
        """
        under_way = self._making is not None and not self._making.done()
        return under_way and time.monotonic() - self._began > 2 * self._patience * 4**self._lost

    def _known(self, seconds: float) -> tuple[float, T] | None:
        made = self._made
        return made if made is not None and time.monotonic() - made[0] <= seconds else None

    def _renew(self, making: Future[T]) -> None:
        try:
            value = self._make()
        except Exception as error:
            log.exception("the page's next answer cannot be made; whoever asks when the last is too old gets the error")
            making.set_exception(error)
        else:
            with self._lock:
                if making is self._making:  # else it had been given up, and is older than what came after it
                    self._made = (time.monotonic(), value)
            making.set_result(value)


_missing = MissingWindows()
_volumes = Volumes()
_receipts = receipts.Receipts()


def _overview() -> Overview:
    with airflow_session() as session:
        return at_a_glance(session, datetime.now(UTC), _missing)


def _failures() -> list[faults.Failure]:
    with airflow_session() as session:
        return faults.failures_since(session, datetime.now(UTC) - timedelta(days=1))


def _volume() -> dict[date, Volume]:
    with airflow_session() as session:
        return _volumes(session, datetime.now(UTC))


overview = Cached(_overview, _SECONDS, _STALE)
failures = Cached(_failures, _FLEET_SECONDS, _FLEET_STALE)
volume = Cached(_volume, _FLEET_SECONDS, _FLEET_STALE)
OverviewDep = Annotated[Overview, Depends(overview)]


def deliveries(session: Session, rows: list[ExportRow]) -> Deliveries:
    """What the last delivered window of each of the exports held."""
    return _receipts(session, [row.delivered_key for row in rows if row.delivered_key])
