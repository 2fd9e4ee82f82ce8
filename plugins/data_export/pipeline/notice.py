"""Notices that data arrived: one mail and one webhook a window, kept in staging until each has its notice.

`close` records a notice, `notify` sends it, and the watch sends again what is left, for a day. Files that the window's
last notice told of are not told of again; those that an earlier one told of are, if others came between.
"""

import asyncio
import hashlib
import json
import logging
import smtplib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import escape
from secrets import SystemRandom
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from data_export import layout
from data_export.config.models import CustomerExport
from data_export.config.platform import MailSettings
from data_export.config.sections import OnDelivery
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.delivery.email.message import Letterhead, message
from data_export.delivery.email.send import send
from data_export.delivery.threads import run_blocking
from data_export.delivery.webhook import post
from data_export.errors import DataExportError, PermanentError, RecipientsRefused, TargetNotFound, TargetUnavailable
from data_export.receipt import Receipt
from data_export.window import ExportWindow
from data_export.wording import count_in_words

LONGEST = timedelta(days=1)  # that a notice is tried
_LISTED_IN = "`on_delivery.emails` in the customer file"
_SHOWN = 20
_PATIENCE_SECONDS = 60.0  # after which nothing further is begun: a receiver that hangs keeps others waiting
_AT_ONCE = 4  # mails over one connection: then who has them is remembered
_OTHERS_WAIT = "other recipients wait, since these took long"
_random = SystemRandom()
_log = logging.getLogger(__name__)


class Means(NamedTuple):
    """What sending needs of this installation."""

    mail: MailSettings
    connect: Callable[[], smtplib.SMTP]
    #: The webhook's secret by its reference.
    secret: Callable[[OnDelivery], str]
    private: bool = False


class Notice(BaseModel):
    """One window's notice, as it is kept in staging; `done` are those who have it.

    Once all have it an empty object is kept; an earlier version kept the notice without its receipt.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    since: datetime
    receipt: Receipt | None
    done: list[str] = []
    timezone: str = "UTC"
    #: The customer and the place that it was made for; an earlier version did not note them.
    whose: tuple[str, ...] = ()

    @classmethod
    def of(cls, receipt: Receipt, export: CustomerExport, now: datetime, after: str = "") -> Self:
        """A notice of the same files of the same window has the same id, where it comes after the same notice."""
        files = [f"{site.uri} {site.records_sha256 or site.sha256}" for site in receipt.sites]
        text = json.dumps([receipt.export, receipt.export_type, receipt.window, files])
        its_id = f"msg_{hashlib.sha256((text + after).encode()).hexdigest()[:32]}"
        since, whose = now.astimezone(UTC), _whose(export)
        return cls(id=its_id, since=since, receipt=receipt, timezone=export.timezone, whose=whose)

    def is_for(self, export: CustomerExport) -> bool:
        """Whether the export is still of the same customer, where it had one, and delivers to the same place."""
        customer, *place = _whose(export)
        return self.whose in ((), (customer, *place), ("", *place))

    def body(self) -> bytes:
        """What the webhook is sent: the same bytes with each repeat."""
        return b"" if self.receipt is None else self.receipt.outward().model_dump_json().encode()


def _whose(export: CustomerExport) -> tuple[str, ...]:
    """The customer, and the target or, for links by mail, the recipients' domains."""
    config = export.connector_config
    place = config.identity() or sorted({to.rpartition("@")[2].lower() for to in config.recipients()})
    return (export.customer or "", *place)


async def record(receipt: Receipt, export: CustomerExport, staging: Store, now: datetime) -> None:
    """Keeps the notice of a delivery, unless the window's last one was of these files.

    Raises:
        DataExportError: of staging. What is not kept nobody gets: a delivery is tried again until it is.
    """
    files, last_key = Notice.of(receipt, export, now).id, layout.told_key(receipt.export, receipt.export_window)
    async with staging:
        last, _, its_files = (await _text(staging, last_key)).partition(" ")
        if its_files == files:
            return
        notice = Notice.of(receipt, export, now, after=last)
        key = layout.notice_key(receipt.export, notice.id)
        if await staging.stat(key) is None:
            await _write(staging, key, notice)
        await staging.replace(last_key, Content.of_bytes(f"{notice.id} {files}".encode()))


async def send_left(
    name: str,
    export: CustomerExport,
    staging: Store,
    means: Means,
    now: datetime,
    given_up: dict[str, str],
    *,
    window: ExportWindow | None = None,
    older: timedelta = timedelta(),
) -> int:
    """Sends what is left of an export's notices, each to those who do not have it; returns how many are complete.

    Args:
        export: as the customer file is now. Notices are let go of if it names nobody, or another customer or target.
        given_up: gets by key what is given up after a day; where it is reported, and not before, `let_go` of it.
        window: leaves those of other windows alone, whose own runs are at it, with files that may say otherwise.
        older: leaves those alone that were recorded later than that ago: `notify` is at it.

    Raises:
        TargetUnavailable: a receiver does not take its notice, or takes so long that others wait for the next call; it
            is tried again for a day from its delivery.
    """
    complete, left, end = 0, list[str](), monotonic() + _PATIENCE_SECONDS
    async with staging:
        async for key, notice in _waiting(name, staging, now - older if older else None, window):
            if monotonic() > end:
                left.append("other notices wait, since these took long")
                break
            if not (ours := notice.is_for(export)) and window is not None:
                continue  # the plan is an earlier one; the watch goes by the file as it is now
            if not ours:
                _log.warning("%s: drops notice %s: the file's customer or target is another by now", name, notice.id)
            on = (ours and export.on_delivery) or OnDelivery()
            faults = await _send(key, notice, on, staging, means, end)
            if faults and (now - notice.since <= LONGEST or _OTHERS_WAIT in faults):
                left += faults
            elif faults:
                given_up[key] = f"{name}: notice {notice.id}, given up after a day: {'; '.join(faults)}"
            else:
                await staging.replace(key, Content.of_bytes(b""))
                complete += ours
    if left:
        raise TargetUnavailable(f"{name}: {'; '.join(left)}; the data was delivered, the notice is tried for a day")
    return complete


async def let_go(staging: Store, keys: Iterable[str]) -> None:
    """Of notices nothing is needed any more but that they are there; an empty one is not read again."""
    async with staging:
        for key in keys:
            await staging.replace(key, Content.of_bytes(b""))


async def _waiting(
    name: str, staging: Store, before: datetime | None, window: ExportWindow | None
) -> AsyncIterator[tuple[str, Notice]]:
    """The notices that are left, by key; in another order each time, so that none is always behind the same one."""
    keys = [stored.key async for stored in staging.list(layout.notices_prefix(name)) if stored.digests.size]
    _random.shuffle(keys)
    for key in keys:
        notice = await _read(staging, key)
        if notice is None or notice.receipt is None or (before is not None and notice.since > before):
            continue
        if window in (None, notice.receipt.export_window):
            yield key, notice


async def _text(staging: Store, key: str) -> str:
    try:
        return b"".join([chunk async for chunk in staging.read(key)]).decode(errors="replace")
    except TargetNotFound:
        return ""  # there is no such object


async def _read(staging: Store, key: str) -> Notice | None:
    try:
        return Notice.model_validate_json(await _text(staging, key))
    except ValueError:  # another version's, or swept meanwhile
        _log.warning("%s%s cannot be read as a notice and is left alone", staging.uri, key)
        return None


async def _write(staging: Store, key: str, notice: Notice) -> None:
    await staging.replace(key, Content.of_bytes(notice.model_dump_json().encode(), "application/json"))


async def _send(key: str, notice: Notice, on: OnDelivery, staging: Store, means: Means, end: float) -> list[str]:
    """Why some do not have it now. Who takes it is remembered at once: a kill must give nobody a second one."""
    done, faults, loop = list(notice.done), list[str](), asyncio.get_running_loop()
    mails = {mark: _mail(notice, to, means.mail) for to in on.emails if (mark := _mark(to)) not in done}
    marks = {str(mail["Message-ID"]): mark for mark, mail in mails.items()}
    left = _random.sample([*mails.values()], len(mails))  # so that nobody is always behind the same slow one

    def remember(mark: str) -> None:
        done.append(mark)
        asyncio.run_coroutine_threadsafe(_write(staging, key, notice.model_copy(update={"done": done})), loop).result()

    def send_all(stop: Event) -> None:
        if on.webhook is not None and "webhook" not in done:
            try:
                post(on.webhook.url, means.secret(on), notice.id, notice.body(), private=means.private)
                remember("webhook")
            except DataExportError as error:
                faults.append(str(error))
        for first in range(0, len(left), _AT_ONCE):
            if stop.is_set() or (first and monotonic() > end):  # a webhook that hangs keeps not every mail back
                faults.append(_OTHERS_WAIT)
                break
            try:
                send(left[first : first + _AT_ONCE], means.connect, lambda sent: remember(marks[sent]), _LISTED_IN)
            except DataExportError as error:
                faults.append(str(error))
                if isinstance(error, PermanentError) and not isinstance(error, RecipientsRefused):
                    break  # a login that is refused once more for each few may be locked out

    await run_blocking(send_all)
    return [*dict.fromkeys(faults)]


def _mark(address: str) -> str:
    return hashlib.sha256(address.lower().encode()).hexdigest()


def _mail(notice: Notice, recipient: str, mail: MailSettings) -> EmailMessage:
    receipt, head = Receipt.model_validate_json(notice.body()), Letterhead(mail.platform, mail.contact, notice.timezone)
    window, utc = head.window(receipt.export_window), Letterhead().window(receipt.export_window)
    shown = [(": ".join(filter(None, (site.name, site.uri or f"{site.site_id}"))), site) for site in receipt.sites]
    files = [f"  {name} ({count_in_words(site.work_orders)}, {site.outcome})" for name, site in shown[:_SHOWN]]
    files += [f"  and {len(receipt.sites) - _SHOWN} more, see the receipt"] * (len(receipt.sites) > _SHOWN)
    also = f"; {utc}" * (window != utc)
    lines = [f"Data of {window} (end exclusive{also}) has arrived: {receipt.summary()}.", "", *files, ""]
    lines += ["The receipt is attached.", *([f"Questions? Write to {mail.contact}."] if mail.contact else [])]
    text, message_id = "\n".join(lines), f"{notice.id}.{_mark(recipient)[:16]}"
    subject = f"{mail.platform or 'Data'} export delivered: {receipt.export}, {window}"
    composed = message(subject, mail.sender, recipient, message_id, text, f"<pre>{escape(text)}</pre>", mail.contact)
    attached: dict[str, Any] = {"maintype": "application", "subtype": "json", "filename": "receipt.json"}
    composed.add_attachment(notice.body(), **attached)
    return composed
