"""The receipt of a run, and where the customer wants it, at the target."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from data_export import layout
from data_export.config.sites import names_of
from data_export.content import Content, Digests
from data_export.delivery.base import Destination, Store
from data_export.delivery.deliver import deliver
from data_export.delivery.threads import at_most, read_digests, run_async
from data_export.errors import ObjectRefused, OverwriteRefused, StagedFileGone, TargetNotFound
from data_export.pipeline.staging import download
from data_export.plan import ExportPlan
from data_export.receipt import DataFile, Delivered, Document, ImagesCopied, Receipt, SiteReceipt, Transformed
from data_export.scratch import scratch

_log = logging.getLogger(__name__)
_LONGEST = 1 << 20  # bytes of an earlier receipt that are read; one of ours has some ten thousand


def site_receipt(transformed: Transformed, images: ImagesCopied | None, delivered: Delivered) -> SiteReceipt:
    """One site's part of the receipt, from what its steps returned."""
    digests = transformed.digests
    ours = DataFile(
        work_orders=transformed.work_orders,
        bytes=digests.size,
        sha256=transformed.sha256,
        crc32c=transformed.crc32c,
        records_sha256=digests.records_sha256 or transformed.sha256,
    )
    there = delivered.kept or delivered.found or ours
    return SiteReceipt(
        site_id=transformed.site_id,
        work_orders=there.work_orders,
        quarantined=transformed.quarantined,
        bytes=there.bytes,
        sha256=there.sha256,
        crc32c=there.crc32c,
        records_sha256=there.records_sha256,
        uri=delivered.uri,
        outcome=delivered.outcome,
        revision=delivered.revision,
        offered=ours if delivered.kept else None,
        images=images,
        warning=transformed.warning,
    )


def make_receipt(plan: ExportPlan, target_uri: str, sites: Sequence[SiteReceipt], now: datetime) -> Receipt:
    """The receipt of a run, its sites in the order of their uuids, with their names."""
    names = names_of(plan.export.site_id)
    return Receipt(
        export=plan.name,
        export_type=plan.export.export_type,
        window=plan.window.to_dict(),
        connector=plan.export.scheme,
        target=target_uri,
        config_hash=plan.config_hash,
        sites=[
            site.model_copy(update={"name": names.get(site.site_id)})
            for site in sorted(sites, key=lambda site: site.site_id)
        ],
        delivered_at=now.astimezone(UTC).isoformat(timespec="seconds"),
    )


def deliver_receipts(plan: ExportPlan, receipt: Receipt, target: Destination, staging: Store) -> Receipt:
    """Delivers each site's part next to its data file, and returns the receipt with what went with it, and where.

    A receipt that says the same of the same file is left alone, so that a repeated window changes nothing at the
    target. A target that lets us create but not replace keeps the receipt of the first delivery.
    """

    documents: list[Document] = []

    async def run() -> list[SiteReceipt]:
        async with target, staging:
            return [await _deliver_site(plan, receipt, site, target, staging, documents) for site in receipt.sites]

    return receipt.model_copy(update={"sites": run_async(run()), "documents": tuple(documents)})


async def _deliver_site(
    plan: ExportPlan,
    receipt: Receipt,
    site: SiteReceipt,
    target: Destination,
    staging: Store,
    documents: list[Document],
) -> SiteReceipt:
    names = (site.site_id, receipt.export_type, plan.window, site.revision)
    key, list_key = layout.receipt_key(*names), layout.missing_images_key(*names)
    staged_list = site.images and site.images.missing_list
    if site.images and staged_list:
        images = site.images.model_copy(update={"missing_list": target.uri + list_key})
        site = site.model_copy(update={"images": images})
    part = receipt.model_copy(update={"sites": [site]})
    same = await _text_that_says_the_same(target, key, part)
    if staged_list:  # before a receipt that names it, and also where one does: the list may be gone, or another
        try:
            documents += await _deliver_list(target, list_key, staging, staged_list)
        except StagedFileGone:
            if same is None:
                raise
            documents += await _there(target, list_key)
    if same:
        documents.append(Document.of(target.uri + key, Content.of_bytes(same).digests))
        return site
    text = part.model_dump_json(indent=2).encode() + b"\n"
    documents += await _replace(target, key, Content.of_bytes(text, "application/json"))
    return site


async def _deliver_list(target: Destination, key: str, staging: Store, staged: str) -> list[Document]:
    with scratch() as folder:
        path = await download(staging, staged.removeprefix(staging.uri), folder / "missing-images.txt")
        return await _replace(target, key, Content.of_file(path, "text/plain; charset=utf-8"))


async def _there(target: Destination, key: str) -> list[Document]:
    """What an earlier try left there; nothing if it is gone, or archived."""
    if (stored := await target.stat(key)) is None:
        return []
    try:
        said, size = stored.digests, stored.digests.size
        return [Document.of(target.uri + key, said if said.sha256 else await read_digests(target.read(key), most=size))]
    except (TargetNotFound, ObjectRefused):
        return []


async def _replace(target: Destination, key: str, content: Content) -> list[Document]:
    try:
        await deliver(target, lambda _revision: key, content, "replace")
        return [Document.of(target.uri + key, content.digests)]
    except OverwriteRefused as refusal:
        _log.warning("the earlier receipt stays: %s", refusal)
        return []


async def counted_before(target: Destination, key: str, kept: DataFile) -> DataFile:
    """A kept file that cannot be read, as the earlier receipt at `key` has it, if that is of the same bytes."""
    _, earlier = await _earlier(target, key) or (b"", None)
    for site in earlier.sites if earlier else ():
        if _digests(site).matches(_digests(kept)):
            return DataFile(**site.model_dump(include={*DataFile.model_fields}))
    return kept


def _digests(file: DataFile | SiteReceipt) -> Digests:
    return Digests(file.bytes, file.sha256 or None, crc32c=file.crc32c)


async def _text_that_says_the_same(target: Destination, key: str, receipt: Receipt) -> bytes | None:
    text, earlier = await _earlier(target, key) or (None, None)
    return text if earlier and _lasting(earlier) == _lasting(receipt) else None


async def _earlier(target: Destination, key: str) -> tuple[bytes, Receipt] | None:
    """The receipt that is there, if it can be read."""
    stored = await target.stat(key)
    if stored is None or stored.digests.size > _LONGEST:
        return None
    try:
        text = b"".join([chunk async for chunk in at_most(target.read(key), stored.digests.size, target.uri + key)])
        return text, Receipt.model_validate_json(text)
    except (ValidationError, TargetNotFound, ObjectRefused):  # another version's, not ours, gone, or archived
        return None


def _lasting(receipt: Receipt) -> dict[str, Any]:
    """What a receipt says of the files that are there, without the run that brought them."""
    lasting = receipt.model_dump(mode="json", exclude={"delivered_at", "config_hash"})
    for site in lasting["sites"]:
        del site["outcome"]
        for file in (site, site["offered"] or {}):
            file.pop("crc32c", None)  # sha256 says as much, and receipts of earlier versions have none
        if images := site["images"]:
            images["there"] = images.pop("copied") + images.pop("already_there")
            del images["bytes"]
    return lasting
