"""Mails a temporary link to what a run staged."""

import asyncio
import hashlib
import logging
import smtplib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from threading import Event
from typing import Any

from data_export import layout
from data_export.config.platform import PlatformSettings
from data_export.content import Content, Digests
from data_export.delivery.base import Store
from data_export.delivery.email.errors import masked
from data_export.delivery.email.message import Letterhead
from data_export.delivery.email.send import Offer, compose, send
from data_export.delivery.threads import go_on, run_async, run_blocking
from data_export.errors import RecipientsRefused, StagedFileGone
from data_export.layout import Encoding
from data_export.pipeline.staging import download
from data_export.plan import ExportPlan
from data_export.receipt import Document, Receipt
from data_export.scratch import scratch
from data_export.transform.encoding import MEDIA_TYPES, join
from data_export.wording import FORMATS

_log = logging.getLogger(__name__)


def mail_link(
    plan: ExportPlan,
    receipt: Receipt,
    staging: Store,
    settings: PlatformSettings,
    connect: Callable[[], smtplib.SMTP],
    now: datetime,
) -> Receipt:
    """Joins the sites' files in staging, signs one link to it and mails it, once to each recipient.

    Who has the mail is remembered in staging by content and recipient, so a retry writes to the others only, and needs
    no staged data where there are none.

    Returns:
        The receipt, with the recipients that the mail server refuses for good while others have their mail, and with
        the staged file that the link leads to, whichever try mailed it; without that where it has been swept since.

    Raises:
        RecipientsRefused: all of them are refused.
        DataExportError: as `send` and the store raise.
    """
    config = plan.export.connector_config
    recipients = config.recipients()
    head = Letterhead(settings.mail.platform, settings.mail.contact, plan.export.timezone)
    lifetime = timedelta(hours=config.link_hours(settings.mail.link_ttl_hours) or settings.mail.link_ttl_hours)
    file_name = layout.link_file_name(plan.name, plan.export.export_type, plan.window, plan.export.encoding)
    key = layout.link_key(plan.name, plan.run_token, file_name)

    async def run() -> dict[str, Any]:
        async with staging:
            mailed = _Mailed(plan, receipt, staging)
            await mailed.look()
            pending = [recipient for recipient in recipients if recipient not in mailed]
            # Also where all have their mail: the try that sent it may have died before its receipt was noted.
            digests = await _linked(staging, key, receipt, plan.export.encoding, needed=bool(pending))
            if pending and digests:
                offer = Offer(await staging.sign(key, lifetime, file_name), FORMATS[plan.export.encoding], digests)
                messages = compose(receipt, offer, now + lifetime, settings.mail.sender, pending, head)
                await _send(messages, connect, mailed, recipients)
            refused = [masked(recipient) for recipient in recipients if recipient not in mailed]
            documents = (Document.of(staging.uri + key, digests),) if digests else ()
            return {"refused_recipients": refused, "documents": documents}

    return receipt.model_copy(update=run_async(run()))


async def _send(
    messages: Sequence[EmailMessage],
    connect: Callable[[], smtplib.SMTP],
    mailed: "_Mailed",
    everybody: Sequence[str],
) -> None:
    """In a thread of its own, since the library blocks; what is accepted is remembered before the next one is sent.

    At the task's time limit it ends with the mail that is being sent, so that this one is remembered too.
    """
    loop = asyncio.get_running_loop()
    recipients = {str(message["Message-ID"]): str(message["To"]) for message in messages}

    def send_all(stop: Event) -> None:
        def remember(message_id: str) -> None:
            asyncio.run_coroutine_threadsafe(mailed.add(recipients[message_id]), loop).result()
            go_on(stop)

        send(messages, connect, on_sent=remember)

    try:
        await run_blocking(send_all)
    except RecipientsRefused as refusal:
        if not any(recipient in mailed for recipient in everybody):
            raise
        _log.warning("others have their mail, but %s", refusal)


async def _linked(staging: Store, key: str, receipt: Receipt, encoding: Encoding, *, needed: bool) -> Digests | None:
    """Leaves the sites' records, in the order of `site_id`, where the link leads to; None if swept and not needed.

    What is there is written again: its age counts anew, and so it outlives a new link, and the audits of a new receipt.
    """
    with scratch() as folder:
        try:
            path = await _joined(staging, receipt, folder, encoding)
        except StagedFileGone:  # a repeat after the run's success: the file is there, until it is swept
            if not needed and await staging.stat(key) is None:
                return None
            path = await download(staging, key, folder / "offered")
        content = Content.of_file(path, MEDIA_TYPES[encoding])
        await staging.replace(key, content)
    return content.digests


async def _joined(staging: Store, receipt: Receipt, folder: Path, encoding: Encoding) -> Path:
    parts = []
    for number, site in enumerate(receipt.sites):
        parts.append(await download(staging, site.uri.removeprefix(staging.uri), folder / f"part-{number}"))
    await asyncio.to_thread(join, parts, folder / "joined", encoding)
    return folder / "joined"


class _Mailed:
    """The recipients who have this content's mail, remembered as empty objects in staging that show neither."""

    def __init__(self, plan: ExportPlan, receipt: Receipt, staging: Store) -> None:
        self._prefix = layout.mailed_prefix(plan.name, plan.window, plan.run_token)
        self._before = layout.mailed_prefix_before(plan.staging_prefix)
        self._content = [f"{site.site_id} {site.records_sha256}" for site in receipt.sites]
        self._staging = staging
        self._marks: set[str] = set()

    async def look(self) -> None:
        for prefix in (self._prefix, self._before):
            self._marks |= {self._prefix + stored.key.rpartition("/")[2] async for stored in self._staging.list(prefix)}

    def __contains__(self, recipient: object) -> bool:
        return self._mark(str(recipient)) in self._marks

    async def add(self, recipient: str) -> None:
        self._marks.add(self._mark(recipient))
        await self._staging.replace(self._mark(recipient), Content.of_bytes(b""))

    def _mark(self, recipient: str) -> str:
        text = "\n".join([*self._content, recipient.lower()])
        return self._prefix + hashlib.sha256(text.encode()).hexdigest()
