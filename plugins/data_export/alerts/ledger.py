"""Which alerts were sent lately: small objects in staging, shared by all workers.

Below `alerts/<export>/`: `<cause>/<day>/mail` for that day's mail, empty until it is out or not needed, `<occurrence>`
beside it each time it happened, `told/<window>` for each window whose failure was alerted, `open/` the failed runs that
people know of until the export delivers again, `recovered/<day>` where that, or that late windows came, was reported,
empty until that is out. Below `alerts/.alike/`: the places of a cause that many exports share. Days are UTC. Whoever
creates one first sends, or `mail.1` and so on where it stays empty; the store's create-only write decides.
"""

import asyncio
import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Self

from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import ObjectExists, TargetNotFound
from data_export.layout import ALIKE_PREFIX, alerts_prefix
from data_export.pipeline.staging import remove_older
from data_export.window import ExportWindow

_KEPT = timedelta(days=35)  # so that a monthly export's mail still says that it happened the month before
_MAIL = "mail"
_SENT = Content.of_bytes(b"sent")
_SENDING = timedelta(minutes=20)  # longer than any mail takes: whoever had the claim to it was killed
#: So many exports that fail alike on a day are reported to the platform's list one by one.
MOST_ALIKE = 10


@dataclass(frozen=True, slots=True)
class SendClaim:
    """The right to send this day's mail about one cause, within 20 minutes; `last` is the day of the one before."""

    key: str
    last: date | None = None
    #: How often it has happened since that mail, this time included.
    times: int = 0
    #: Whether a recovery was reported this day, so that this is news even if there was a mail like it before.
    after_recovery: bool = False

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
    if not await _take(store, today + _MAIL, now):
        return None
    await remove_older(store, prefix, now - _KEPT)
    recovered = await store.stat(f"{prefix}recovered/{day}")
    claim = SendClaim(today + _MAIL, after_recovery=bool(recovered and recovered.digests.size))
    noted = [(each.key.split("/")[-2:], each.digests.size) async for each in store.list(f"{prefix}{cause}/")]
    mails = [on for (on, name), size in noted if name == _MAIL and size and on < day.isoformat()]
    if not mails:
        return claim
    since = [name for (on, name), _ in noted if not name.startswith(_MAIL) and max(mails) <= on]
    return replace(claim, last=date.fromisoformat(max(mails)), times=len(since) - 1)  # that mail was about one of them


async def note_sent(store: Store, claim: SendClaim) -> None:
    """Remembers that the mail is out."""
    await store.replace(claim.key, _SENT)


async def was_sent(store: Store, export: str, cause: str, now: datetime) -> bool:
    """Whether this day's mail is out; who has the claim to it may still fail."""
    claim = await store.stat(f"{alerts_prefix(export)}{cause}/{now.date()}/{_MAIL}")
    return bool(claim and claim.digests.size)


async def _take(store: Store, key: str, now: datetime) -> bool:
    """Whether the right that this object stands for is ours: nobody has it, or whoever had it was killed."""
    with suppress(ObjectExists):
        await store.create(key, Content.of_bytes(b""))
        return True
    marks = [stored async for stored in store.list(key)]  # with those of who took over
    if all(not mark.digests.size and mark.modified and mark.modified < now - _SENDING for mark in marks):
        with suppress(ObjectExists):
            await store.create(f"{key}.{len(marks)}", Content.of_bytes(b""))
            return True
    return False


async def take_place(store: Store, cause: str, now: datetime) -> Place:
    """A place among the exports that fail for the same cause this day, so that a fault of the platform's own, such as
    a source that is down, is not a mail for each of thousands of exports."""
    today = f"{ALIKE_PREFIX}{cause}/{now.date()}/"
    taken = {stored.key async for stored in store.list(today)}
    if not taken:
        await remove_older(store, ALIKE_PREFIX, now - _KEPT)
    for number in range(1, MOST_ALIKE + 1):
        if (key := f"{today}{number}") not in taken:
            with suppress(ObjectExists):
                await store.create(key, Content.of_bytes(b""))
                return Place(number, key)
    return Place(0)


async def give_back(store: Store, taken: "SendClaim | Place | Recovered") -> None:
    """Lets the next time report it, since nobody was reached this time."""
    if taken.key:
        await store.delete(taken.key)


async def note_alerted(store: Store, export: str, window: ExportWindow) -> None:
    """Remembers that an alert of this window's failure was sent, in a mail of its own or as a repeat."""
    await store.replace(_alerted_key(export, window), Content.of_bytes(b""))


async def was_alerted(store: Store, export: str, window: ExportWindow) -> bool:
    return await store.stat(_alerted_key(export, window)) is not None


def _alerted_key(export: str, window: ExportWindow) -> str:
    return f"{alerts_prefix(export)}told/{window.stamp}"


@dataclass(frozen=True, slots=True)
class Known:
    """A failed run that people know of: `people` were sent an alert, and notifiers if `notified`."""

    run: str
    cause: str
    #: None where the run failed before it had one.
    window: ExportWindow | None
    people: tuple[str, ...] = ()
    notified: bool = False
    delivered: bool = False
    #: Whether no backfill makes the run again.
    by_hand: bool = False

    @property
    def key(self) -> str:
        """Of its own for who was alerted and for mere repeats, so that neither takes the other's place."""
        digest = hashlib.sha256(f"{self.run}\n{self.cause}".encode()).hexdigest()[:32]
        return f"open/{digest}{'-known' * bool(self.people or self.notified)}"

    def written(self) -> Content:
        window = self.window and self.window.to_dict()
        return Content.of_bytes(json.dumps(asdict(self) | {"window": window}).encode(), "application/json")

    @classmethod
    def read(cls, text: bytes) -> Self:
        values = json.loads(text)
        window = values["window"] and ExportWindow.from_dict(values["window"])
        return cls(**values | {"window": window, "people": tuple(values["people"])})


@dataclass(frozen=True, slots=True)
class Recovered:
    """The right to report that an export delivers again, after these failures."""

    key: str
    failures: tuple[Known, ...]

    @property
    def runs(self) -> int:
        return len({failure.run for failure in self.failures})

    @property
    def people(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(person for failure in self.failures for person in failure.people))

    @property
    def missing(self) -> dict[ExportWindow, bool]:
        """Windows that failed and are not delivered, oldest first, and whether their run was by hand."""
        found = {each.window: each.by_hand for each in self.failures if each.window and not each.delivered}
        return dict(sorted(found.items(), key=lambda item: item[0].start))


async def note_known(store: Store, export: str, failure: Known) -> None:
    """Remembers a failure that people know of until the export delivers again."""
    await store.replace(alerts_prefix(export) + failure.key, failure.written())


async def has_known(store: Store, export: str) -> bool:
    """Whether people know of failures of the export, so that the next delivery is to be reported."""
    return bool([stored.key async for stored in store.list(f"{alerts_prefix(export)}open/")])


async def take_recovered(store: Store, export: str, window: ExportWindow | None, now: datetime) -> Recovered | None:
    """What people knew of the export's failures, now that a run has delivered this window; None where there is nothing
    to report: people know of none, a window newer than this one has failed, or this day's recovery was reported.

    Once a day, so that an export that fails and delivers in turn is no storm. Whoever gets an answer calls
    `note_recovered`, or `give_back` where nobody was reached.
    """
    prefix = alerts_prefix(export)
    failures = [
        failure if failure.delivered or not _covers(window, failure.window) else replace(failure, delivered=True)
        for failure in await _known(store, prefix)
    ]
    left = [failure.window.start for failure in failures if failure.window and not failure.delivered]
    is_over = not left or (window is not None and window.start > max(left))
    recovered = Recovered(f"{prefix}recovered/{now.date()}", tuple(failures))
    is_known = recovered.people or any(failure.notified for failure in failures)
    if is_over and is_known and await _take(store, recovered.key, now):
        return recovered
    for failure in failures:
        if failure.delivered:
            await note_known(store, export, failure)
    return None


async def take_late_recovered(store: Store, export: str, cause: str, now: datetime) -> Recovered | None:
    """The right to report that windows which were late are delivered; None where this day's recovery was reported."""
    recovered = Recovered(f"{alerts_prefix(export)}recovered/{now.date()}", (Known("", cause, None),))
    return recovered if await _take(store, recovered.key, now) else None


async def note_recovered(store: Store, export: str, recovered: Recovered, now: datetime) -> None:
    """Lets go of the failures; the next one of the same causes is reported at once, since people think it is over."""
    await store.replace(recovered.key, _SENT)
    prefix = alerts_prefix(export)
    keys = {prefix + failure.key for failure in recovered.failures}
    keys |= {f"{prefix}{failure.cause}/{now.date()}/{_MAIL}" for failure in recovered.failures}
    for key in keys:
        await store.delete(key)


def _covers(window: ExportWindow | None, failed: ExportWindow | None) -> bool:
    return failed is None or (window is not None and window.start <= failed.start and failed.end <= window.end)


async def _known(store: Store, prefix: str) -> list[Known]:
    at_once = asyncio.Semaphore(store.concurrency)

    async def read(key: str) -> Known | None:
        async with at_once:
            try:
                return Known.read(b"".join([chunk async for chunk in store.read(key)]))
            except (TargetNotFound, ValueError, TypeError, KeyError):  # taken meanwhile, or of another version
                return None

    keys = [stored.key async for stored in store.list(f"{prefix}open/")]
    return [failure for failure in await asyncio.gather(*map(read, keys)) if failure is not None]
