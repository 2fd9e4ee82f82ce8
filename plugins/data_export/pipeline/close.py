"""A run's last step: the receipt, the mail, the cleaning."""

import asyncio
import hashlib
import logging
import smtplib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data_export import layout
from data_export.config.connectors import EmailConfig
from data_export.config.platform import PlatformSettings
from data_export.content import CHUNK_BYTES, Content
from data_export.delivery.base import Destination, Store
from data_export.delivery.deliver import deliver
from data_export.delivery.mail import compose, send
from data_export.errors import OverwriteRefused
from data_export.pipeline.staged import clear, download, scratch, sweep
from data_export.pipeline.steps import MEDIA_TYPE
from data_export.plan import ExportPlan
from data_export.receipt import Delivered, ImagesCopied, Receipt, SiteReceipt, Transformed

_log = logging.getLogger(__name__)
_LONGEST_LINK = timedelta(hours=168)  # what a customer file may ask for; a link is never cleaned before


def site_receipt(transformed: Transformed, images: ImagesCopied | None, delivered: Delivered) -> SiteReceipt:
    """One site's part of the receipt, from what its steps returned."""
    return SiteReceipt(
        site_id=transformed.site_id,
        work_orders=transformed.work_orders,
        quarantined=transformed.quarantined,
        bytes=transformed.bytes,
        sha256=transformed.sha256,
        uri=delivered.uri,
        outcome=delivered.outcome,
        images=images,
    )


def make_receipt(plan: ExportPlan, target_uri: str, sites: Sequence[SiteReceipt], now: datetime) -> Receipt:
    """The receipt of a run, its sites in the order of `site_id`."""
    return Receipt(
        export=plan.name,
        export_type=plan.export.export_type,
        window=plan.window.to_dict(),
        connector=plan.export.scheme,
        target=target_uri,
        config_hash=plan.config_hash,
        sites=sorted(sites, key=lambda site: site.site_id),
        delivered_at=now.astimezone(UTC).isoformat(timespec="seconds"),
    )


def deliver_receipts(plan: ExportPlan, receipt: Receipt, target: Destination) -> None:
    """Puts each site's part of the receipt beside its data file, where the customer asked for it.

    A target that lets us create but not replace keeps the receipt of the first delivery: its data file is the one that
    the receipt speaks of, since it could not be replaced either, and a repeated window must work there too.
    """

    async def run() -> None:
        async with target:
            for site in receipt.sites:
                part = receipt.model_copy(update={"sites": [site]})
                content = Content.of_bytes(part.model_dump_json(indent=2).encode() + b"\n", "application/json")
                key = layout.receipt_key(site.site_id, receipt.export_type, plan.window)
                await _deliver_receipt(target, key, content)

    asyncio.run(run())


def mail_link(
    plan: ExportPlan,
    receipt: Receipt,
    staging: Store,
    settings: PlatformSettings,
    connect: Callable[[], smtplib.SMTP],
    now: datetime,
) -> None:
    """Joins the sites' files in staging, signs one link to it and mails it, once to each recipient.

    Which recipients have their mail is remembered in staging, so a retry writes to the others only.
    """
    config = plan.export.connector_config
    assert isinstance(config, EmailConfig)  # noqa: S101 - the factory calls this for the email connector only
    lifetime = timedelta(hours=config.link_ttl_hours or settings.mail.link_ttl_hours)
    file_name = layout.link_file_name(plan.name, plan.export.export_type, plan.window)
    key = layout.link_key(plan.name, plan.run_token, file_name)

    async def offer(folder: Path) -> str:
        async with staging:
            path = await _joined(staging, receipt, folder)
            await staging.replace(key, Content.of_file(path, MEDIA_TYPE))
            return await staging.sign(key, lifetime, file_name)

    with scratch() as folder:
        link = asyncio.run(offer(folder))
    messages = compose(receipt, link, now + lifetime, settings.mail.sender, config.emails)
    sent = _SentMails(plan, staging)
    send(messages, connect, sent, sent.add)


def clean_up(plan: ExportPlan, settings: PlatformSettings, staging: Store, now: datetime, *, quarantined: bool) -> int:
    """Removes what this run staged, and what old failed runs of the export left; returns how many objects.

    A run with quarantined records keeps its files for `staging.keep_failed_days`, since somebody must look at them.
    """

    async def run() -> int:
        async with staging:
            removed = 0 if quarantined else await clear(staging, plan.staging_prefix + "/")
            keep_failed = timedelta(days=settings.staging.keep_failed_days)
            return removed + await sweep(staging, plan.name, keep_failed, _LONGEST_LINK + timedelta(days=1), now)

    return asyncio.run(run())


async def _deliver_receipt(target: Destination, key: str, content: Content) -> None:
    try:
        await deliver(target, lambda _revision: key, content, "replace")
    except OverwriteRefused as refusal:
        _log.warning("the earlier receipt stays: %s", refusal)


async def _joined(staging: Store, receipt: Receipt, folder: Path) -> Path:
    """One local file with the sites' lines one after the other, in the order of `site_id`."""
    whole = folder / "joined.json"
    with whole.open("wb") as joined:
        for site in receipt.sites:
            part = await download(staging, site.uri.removeprefix(staging.uri), folder / "part.json")
            with part.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    joined.write(chunk)
    return whole


class _SentMails:
    """The mails of a run that a server has accepted, remembered as empty objects in staging."""

    def __init__(self, plan: ExportPlan, staging: Store) -> None:
        self._prefix = f"{plan.staging_prefix}/mail/"
        self._staging = staging

    def __contains__(self, message_id: object) -> bool:
        return asyncio.run(self._stat(str(message_id)))

    def add(self, message_id: str) -> None:
        asyncio.run(self._mark(message_id))

    async def _stat(self, message_id: str) -> bool:
        async with self._staging:
            return await self._staging.stat(self._key(message_id)) is not None

    async def _mark(self, message_id: str) -> None:
        async with self._staging:
            await self._staging.replace(self._key(message_id), Content.of_bytes(b""))

    def _key(self, message_id: str) -> str:
        return self._prefix + hashlib.sha256(message_id.encode()).hexdigest()
