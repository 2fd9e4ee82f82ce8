"""Notices that data arrived: one mail and one webhook a window, kept in staging until each has its notice.

`close` records a notice, `notify` sends it, and the watch sends again what is left, for a day. Files that the window's
last notice told of are not told of again; those that an earlier one told of are, if others came between.
"""

import hashlib
import json
import logging
import smtplib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import escape
from secrets import SystemRandom
from time import monotonic
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from data_export import layout
from data_export.config.platform import MailSettings
from data_export.config.sections import OnDelivery
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.delivery.email.message import Letterhead, message
from data_export.delivery.email.send import send
from data_export.delivery.webhook import post
from data_export.errors import DataExportError, TargetNotFound, TargetRefused, TargetUnavailable, line_of
from data_export.receipt import Receipt
from data_export.window import ExportWindow

LONGEST = timedelta(days=1)  # that a notice is tried
_LISTED_IN = "`on_delivery.emails` in the customer file"
_SHOWN = 20
_PATIENCE_SECONDS = 60.0  # after which no further notice is begun: a receiver that hangs keeps others waiting
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

    @classmethod
    def of(cls, receipt: Receipt, now: datetime, timezone: str = "UTC", after: str = "") -> Self:
        """A notice of the same files of the same window has the same id, where it comes after the same notice."""
        files = [f"{site.uri} {site.records_sha256 or site.sha256}" for site in receipt.sites]
        text = json.dumps([receipt.export, receipt.export_type, receipt.window, files])
        notice_id = f"msg_{hashlib.sha256((text + after).encode()).hexdigest()[:32]}"
        return cls(id=notice_id, since=now.astimezone(UTC), receipt=receipt, timezone=timezone)

    def body(self) -> bytes:
        """What the webhook is sent: the same bytes with each repeat."""
        return b"" if self.receipt is None else self.receipt.model_dump_json().encode()


async def record(receipt: Receipt, staging: Store, now: datetime, timezone: str = "UTC") -> None:
    """Keeps the notice of a delivery, unless the window's last one was of these files.

    Raises:
        DataExportError: of staging. What is not kept nobody gets: a delivery is tried again until it is.
    """
    files = Notice.of(receipt, now, timezone).id
    last_key = layout.told_key(receipt.export, receipt.export_window)
    async with staging:
        last, _, its_files = (await _text(staging, last_key)).partition(" ")
        if its_files == files:
            return
        notice = Notice.of(receipt, now, timezone, after=last)
        key = layout.notice_key(receipt.export, notice.id)
        if await staging.stat(key) is None:
            await _write(staging, key, notice)
        await staging.replace(last_key, Content.of_bytes(f"{notice.id} {files}".encode()))


async def send_left(
    name: str,
    on: OnDelivery | None,
    staging: Store,
    means: Means,
    now: datetime,
    *,
    window: ExportWindow | None = None,
    older: timedelta = timedelta(),
) -> int:
    """Sends what is left of an export's notices, each to those who do not have it; returns how many are complete.

    Args:
        on: as the customer file says now; None lets go of what is left.
        window: leaves those of other windows alone, whose own runs are at it, with files that may say otherwise.
        older: leaves those alone that were recorded later than that ago: `notify` is at it.

    Raises:
        TargetUnavailable: a receiver does not take its notice, or takes so long that others wait for the next call; it
            is tried again for a day from its delivery.
        TargetRefused: a notice was given up after a day, or its receiver is not public; each is reported once.
    """
    complete, left, given_up = 0, list[str](), list[str]()
    try:
        async with staging:
            end = monotonic() + _PATIENCE_SECONDS
            async for key, notice in _waiting(name, staging, now - older if older else None, window):
                if monotonic() > end:
                    left.append("other notices wait, since these took long")
                    break
                tried, faults = _sent(notice, on or OnDelivery(), means)
                if faults and now - notice.since <= LONGEST:
                    await _write(staging, key, tried)
                    left += faults
                    continue
                # Nothing of it is needed any more but that it is there; an empty one is not read again.
                await staging.replace(key, Content.of_bytes(b""))
                complete += 1
                given_up += [f"{notice.id}, given up after a day: {fault}" for fault in faults]
    except DataExportError as error:
        if not given_up:
            raise
        left.append(line_of(error))  # not raised: what was given up is emptied already, so it is told of now or never
    _require_none(name, left, given_up)
    return complete


def _require_none(name: str, left: list[str], given_up: list[str]) -> None:
    if given_up:
        raise TargetRefused(f"{name}: notice {'; '.join([*given_up, *left])}; the data was delivered")
    if left:
        raise TargetUnavailable(f"{name}: {'; '.join(left)}; the data was delivered, the notice is tried for a day")


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
    """Empty where there is no such object."""
    try:
        return b"".join([chunk async for chunk in staging.read(key)]).decode(errors="replace")
    except TargetNotFound:
        return ""


async def _read(staging: Store, key: str) -> Notice | None:
    try:
        return Notice.model_validate_json(await _text(staging, key))
    except ValueError:  # another version's, or swept meanwhile
        _log.warning("%s%s cannot be read as a notice and is left alone", staging.uri, key)
        return None


async def _write(staging: Store, key: str, notice: Notice) -> None:
    await staging.replace(key, Content.of_bytes(notice.model_dump_json().encode(), "application/json"))


def _sent(notice: Notice, on: OnDelivery, means: Means) -> tuple[Notice, list[str]]:
    """The notice with those who have it now, and why others have not."""
    done, faults = list(notice.done), list[str]()
    if on.webhook is not None and "webhook" not in done:
        try:
            post(on.webhook.url, means.secret(on), notice.id, notice.body(), private=means.private)
            done.append("webhook")
        except DataExportError as error:
            faults.append(str(error))
    waiting = {_mark(address): address for address in on.emails if _mark(address) not in done}
    mails = {mark: _mail(notice, address, means.mail) for mark, address in waiting.items()}
    if mails:
        marks = {str(mail["Message-ID"]): mark for mark, mail in mails.items()}
        try:
            send([*mails.values()], means.connect, lambda sent: done.append(marks[sent]), _LISTED_IN)
        except DataExportError as error:
            faults.append(str(error))
    return notice.model_copy(update={"done": done}), faults


def _mark(address: str) -> str:
    return hashlib.sha256(address.lower().encode()).hexdigest()


def _mail(notice: Notice, recipient: str, mail: MailSettings) -> EmailMessage:
    receipt = notice.receipt
    if receipt is None:
        raise ValueError("a notice without a receipt has been sent")
    head = Letterhead(mail.platform, mail.contact, notice.timezone)
    window, utc = head.window(receipt.export_window), Letterhead().window(receipt.export_window)
    named = [f"{site.name}: " if site.name else "" for site in receipt.sites]
    files = [
        f"  {name}{site.uri} ({site.work_orders:,} work orders, {site.outcome})"
        for name, site in zip(named[:_SHOWN], receipt.sites[:_SHOWN], strict=True)
    ]
    files += [f"  and {len(receipt.sites) - _SHOWN} more, see the receipt"] * (len(receipt.sites) > _SHOWN)
    also = "" if window == utc else f"; {utc}"
    lines = [f"Data of {window} (end exclusive{also}) has arrived: {receipt.summary()}.", "", *files, ""]
    lines += ["The receipt is attached.", *([f"Questions? Write to {mail.contact}."] if mail.contact else [])]
    text = "\n".join(lines)
    message_id = f"{notice.id}.{_mark(recipient)[:16]}"
    html = f"<pre>{escape(text)}</pre>"
    subject = f"{mail.platform or 'Data'} export delivered: {receipt.export}, {window}"
    composed = message(subject, mail.sender, recipient, message_id, text, html, mail.contact)
    attached: dict[str, Any] = {"maintype": "application", "subtype": "json", "filename": "receipt.json"}
    composed.add_attachment(notice.body(), **attached)
    return composed
