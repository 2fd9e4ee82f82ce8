"""Which alerts were sent lately: small objects in staging, shared by all workers.

Below `alerts/<export>/`: `<cause>/<day>/mail` where that day's mail was sent, `<cause>/<day>/<occurrence>` each time it
happened, `told/<window>` for each window whose failure was alerted. Below `alerts/.alike/`: the places of a cause
that many exports share. Days are UTC. Whoever creates `mail` or a place first sends; the store's create-only write
decides between two workers.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import ObjectExists
from data_export.layout import ALIKE_PREFIX, alerts_prefix
from data_export.pipeline.staging import remove_older
from data_export.window import ExportWindow

_KEPT = timedelta(days=35)  # so that a monthly export's mail still says that it happened the month before
_MAIL = "mail"
#: So many exports that fail alike on a day are reported to the platform's list one by one.
MOST_ALIKE = 10


@dataclass(frozen=True, slots=True)
class SendClaim:
    """The right to send this day's mail about one cause; `last` is the day of the mail before, if any."""

    key: str
    last: date | None = None
    #: How often it has happened since that mail, this time included.
    times: int = 0

    def spoken(self) -> str:
        """For the mail; empty the first time."""
        if self.last is None:
            return ""
        times = f"{self.times:,} more time{'s' * (self.times != 1)}"
        return f"You were alerted about this on {self.last}; since then it has happened {times}."


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the day's exports that fail for one cause this is, from 1 to `MOST_ALIKE`; 0 for all that follow."""

    number: int
    key: str = ""


async def claim_send(store: Store, export: str, cause: str, occurrences: list[str], now: datetime) -> SendClaim | None:
    """Notes what happened; a claim where no mail about it was sent this day (UTC), else None.

    Args:
        occurrences: what distinguishes one occurrence from another, e.g. run and task; noted twice it counts once.
    """
    prefix, day = alerts_prefix(export), now.date()
    today = f"{prefix}{cause}/{day}/"
    for occurrence in occurrences:
        name = hashlib.sha256(occurrence.encode()).hexdigest()[:32]
        await store.replace(today + name, Content.of_bytes(b""))
    try:
        await store.create(today + _MAIL, Content.of_bytes(b""))
    except ObjectExists:
        return None
    await remove_older(store, prefix, now - _KEPT)
    earlier = [stored.key.removeprefix(f"{prefix}{cause}/") async for stored in store.list(f"{prefix}{cause}/")]
    return _claim(today + _MAIL, [entry.split("/") for entry in earlier], day)


async def take_place(store: Store, cause: str, now: datetime) -> Place:
    """A place among the exports that fail for the same cause this day, so that a fault of the platform's own, such as
    a source that is down, is not a mail for each of thousands of exports."""
    today = f"{ALIKE_PREFIX}{cause}/{now.date()}/"
    taken = {stored.key async for stored in store.list(today)}
    if not taken:
        await remove_older(store, ALIKE_PREFIX, now - _KEPT)
    for number in range(1, MOST_ALIKE + 1):
        key = f"{today}{number}"
        if key not in taken:
            with suppress(ObjectExists):
                await store.create(key, Content.of_bytes(b""))
                return Place(number, key)
    return Place(0)


async def give_back(store: Store, taken: SendClaim | Place) -> None:
    """Lets the next time send the mail, since this one could not."""
    if taken.key:
        await store.delete(taken.key)


async def note_alerted(store: Store, export: str, window: ExportWindow) -> None:
    """Remembers that an alert of this window's failure was sent, in a mail of its own or as a repeat."""
    await store.replace(_alerted_key(export, window), Content.of_bytes(b""))


async def was_alerted(store: Store, export: str, window: ExportWindow) -> bool:
    return await store.stat(_alerted_key(export, window)) is not None


def _alerted_key(export: str, window: ExportWindow) -> str:
    return f"{alerts_prefix(export)}told/{window.stamp}"


def _claim(key: str, entries: list[list[str]], today: date) -> SendClaim:
    """From `[day, name]` of everything noted about a cause."""
    mails = [day for day, name in entries if name == _MAIL and day < today.isoformat()]
    if not mails:
        return SendClaim(key)
    last = max(mails)
    since = [name for day, name in entries if name != _MAIL and last <= day]
    return SendClaim(key, date.fromisoformat(last), len(since) - 1)  # that mail was about one of them
