"""The four steps of one site."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from data_export import layout
from data_export.content import Content
from data_export.delivery.base import Destination, Store
from data_export.delivery.deliver import deliver
from data_export.delivery.threads import run_async
from data_export.errors import TargetNotFound, TargetRefused, TargetUnavailable
from data_export.images import CopyRules, copy_images, source_key_of
from data_export.layout import DATA_SUFFIXES
from data_export.pipeline.file import FilesThere, moment_of
from data_export.pipeline.staging import download, upload
from data_export.plan import ExportPlan
from data_export.receipt import Delivered, Extracted, ImagesCopied, Transformed
from data_export.scratch import scratch
from data_export.source.database import Dsn, RowSecurity
from data_export.source.extract import extract
from data_export.source.moment import Moment
from data_export.source.queries import MAX_RECORD_MB
from data_export.source.snapshot import LEFT_OUT, write_empty
from data_export.transform.encoding import MEDIA_TYPES
from data_export.transform.transform import TransformResult, transform
from data_export.wording import size_in_words

_log = logging.getLogger(__name__)
SNAPSHOT, DATA, IMAGES, QUARANTINE = "snapshot", "data", "images.parquet", "quarantine.json"
MISSING = "missing-images.txt"


def extract_site(
    plan: ExportPlan,
    site_id: UUID,
    attempt: int,
    dsn: Dsn,
    staging: Store,
    *,
    row_security: RowSecurity = "refuse",
    late_commit_minutes: float = 10,
    settle: timedelta = timedelta(0),
    max_record_mb: int = MAX_RECORD_MB,
) -> Extracted:
    """Lands one moment of one site and window in staging, as Parquet.

    `attempt` separates a retry's files from those of a try that may still be dying. Streamed; local disk holds the
    snapshot once. Of an empty window nothing is staged, neither here nor by the next step.
    """

    async def store(names: list[str]) -> int:
        async with staging:
            return sum([await upload(staging, folder / name, f"{prefix}/{SNAPSHOT}/{name}") for name in names])

    prefix = layout.staging_site_prefix(plan.staging_prefix, site_id, attempt)
    with scratch() as folder:
        kind, moment = plan.export.export_type, Moment(plan.window, late_commit_minutes * 60, settle)
        rows = extract(
            dsn,
            site_id,
            plan.window,
            kind,
            folder,
            row_security=row_security,
            moment=moment,
            on_invalid=plan.export.on_invalid,
            max_record_mb=max_record_mb,
        )
        left_out = (folder / LEFT_OUT).exists()
        made = Extracted(
            site_id=site_id, prefix=prefix, tables=rows, bytes=0, left_out=left_out, warning=moment.warning
        )
        size = 0 if made.is_empty else run_async(store(sorted(path.name for path in folder.iterdir())))
    _log.info("%s: site %s, window %s: %s rows, %s staged", plan.name, site_id, plan.window, rows, size_in_words(size))
    return made.model_copy(update={"bytes": size, "read_at": moment_of(datetime.now(UTC))})


def transform_site(
    plan: ExportPlan, extracted: Extracted, staging: Store, *, max_record_mb: int = MAX_RECORD_MB
) -> Transformed:
    """Turns a snapshot into the data file, packed as the export says, and the list of its images, in staging.

    Without images, there is no list. A data file without a byte is staged only if a mail links to it.
    """
    export, data = plan.export, DATA + DATA_SUFFIXES[plan.export.encoding]
    by_mail = export.connector_config.recipients() != ()

    async def run() -> TransformResult:
        # Transforms between two awaits, where a time limit does not wait for it: one client serves both ways.
        async with nullcontext() if extracted.is_empty and export.encoding == "json" and not by_mail else staging:
            if extracted.is_empty:
                write_empty(folder / SNAPSHOT)
            else:
                for name in (*(f"{table}.parquet" for table in extracted.tables), *[LEFT_OUT] * extracted.left_out):
                    await download(staging, f"{extracted.prefix}/{SNAPSHOT}/{name}", folder / SNAPSHOT / name)
            made = _transformed(plan, folder, data, max_record_mb)
            wanted = {data: made.digests.size or by_mail, IMAGES: made.images, QUARANTINE: made.quarantined}
            for name in filter(wanted.get, wanted):
                await upload(staging, folder / name, f"{extracted.prefix}/{name}")
        return made

    with scratch() as folder:
        folder.joinpath(SNAPSHOT).mkdir()
        result = run_async(run())
    quarantine_key = f"{extracted.prefix}/{QUARANTINE}" if result.quarantined else None
    if quarantine_key:
        _log.warning("%s: %d work orders quarantined: %s%s", plan.name, result.quarantined, staging.uri, quarantine_key)
    digests = result.digests
    return Transformed(
        site_id=extracted.site_id,
        data_key=f"{extracted.prefix}/{data}",
        images_key=f"{extracted.prefix}/{IMAGES}",
        quarantine_key=quarantine_key,
        work_orders=result.work_orders,
        quarantined=result.quarantined,
        images=result.images,
        warning=extracted.warning,
        read_at=extracted.read_at,
        bytes=digests.size,
        sha256=digests.sha256 or "",
        crc32c=digests.crc32c or "",
        records_sha256=digests.records_sha256,
    )


def _transformed(plan: ExportPlan, folder: Path, data: str, max_record_mb: int) -> TransformResult:
    return transform(
        *(folder / name for name in (SNAPSHOT, data, IMAGES, QUARANTINE)),
        export_type=plan.export.export_type,
        on_invalid=plan.export.on_invalid,
        encoding=plan.export.encoding,
        max_record_mb=max_record_mb,
    )


def copy_site_images(
    plan: ExportPlan,
    transformed: Transformed,
    images: Store,
    key_template: str,
    target: Destination,
    staging: Store,
    *,
    last_try: bool = True,
) -> ImagesCopied:
    """Copies every image that the site's data file refers to, those already at the target excepted.

    The names of missing images beyond those of the result are in staging, at its `missing_list`.
    """
    if not transformed.images:
        return ImagesCopied(site_id=transformed.site_id)

    report = partial(_log.info, "%s: site %s: %s", plan.name, transformed.site_id)

    async def run() -> ImagesCopied:
        async with staging, images, target:
            copied = await copy_images(
                await download(staging, transformed.images_key, folder / IMAGES),
                site_id=transformed.site_id,
                source=images,
                source_key=source_key_of(key_template, transformed.site_id),
                destination=target,
                rules=CopyRules(config.if_exists, config.reads_images_back()),
                missing_list=folder / MISSING,
                progress=report,
                last_try=last_try,
            )
            if copied.failed and plan.export.on_image_failure == "fail":
                raise TargetRefused(
                    f"{copied.failed} images cannot be copied, such as {copied.failures[0]}; the data waits for them: "
                    "fix that, or set on_image_failure: deliver"
                )
            if copied.missing_at_source > len(copied.missing):
                key = f"{transformed.images_key.rpartition('/')[0]}/{MISSING}"
                await upload(staging, folder / MISSING, key)
                return copied.model_copy(update={"missing_list": staging.uri + key})
            return copied

    config = plan.export.connector_config
    with scratch() as folder:
        return run_async(run())


def deliver_site(plan: ExportPlan, transformed: Transformed, target: Destination, staging: Store) -> Delivered:
    """Puts the site's data file at the target, after its images; the same records there are not sent again."""

    def key_of(revision: int) -> str:
        return plan.data_key(transformed.site_id, revision)

    receipt_key = layout.receipt_key(transformed.site_id, plan.export.export_type, plan.window)

    async def run() -> Delivered:
        async with target:
            digests = replace(transformed.digests, moment=plan.created_at)
            content = Content(folder / DATA, digests, MEDIA_TYPES[plan.export.encoding])
            if_exists = plan.export.connector_config.if_exists
            is_newer = partial(there.is_of_later_run, plan, transformed)
            placed = await deliver(target, key_of, content, if_exists, fetch, there.read, is_newer)
            try:
                kept = await there.kept(placed.key) if placed.outcome == "kept" else None
                found = await there.same(placed.key, transformed) if placed.outcome == "unchanged" else None
            except TargetNotFound:
                name = target.uri + placed.key
                raise TargetUnavailable(f"{name} was removed while it was looked at: try again") from None
            uri, outcome, revision = target.uri + placed.key, placed.outcome, placed.revision
            return Delivered(
                site_id=transformed.site_id, uri=uri, outcome=outcome, revision=revision, kept=kept, found=found
            )

    async def fetch() -> None:
        """Not before it is to be written: a task cleared after the run's success finds staging empty."""
        if not transformed.bytes:
            (folder / DATA).touch()
        elif not (folder / DATA).exists():
            async with staging:
                await download(staging, transformed.data_key, folder / DATA)

    with scratch() as folder:
        there = FilesThere(target, folder / "there", plan.export.encoding, receipt_key)
        return run_async(run())


def stage_site(transformed: Transformed, staging: Store) -> Delivered:
    """For a link by mail: the data file stays in staging until `close` joins the sites."""
    return Delivered(site_id=transformed.site_id, uri=staging.uri + transformed.data_key, outcome="staged")
