"""Files that travel between tasks through the staging area."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data_export import layout
from data_export.config.platform import PlatformSettings
from data_export.content import Content
from data_export.delivery.base import LONGEST_LINK_HOURS, Store
from data_export.delivery.threads import run_async
from data_export.errors import DataExportError, StagedFileGone, TargetNotFound
from data_export.plan import ExportPlan
from data_export.receipt import Receipt

_KEEP_LINKS = timedelta(hours=LONGEST_LINK_HOURS, days=1)
_KEEP_SENT = timedelta(days=30)  # so long a repeat sends no second mail or notice


async def upload(staging: Store, path: Path, key: str) -> int:
    """Stores a local file, replacing what an earlier attempt left; returns its size in bytes."""
    stored = await staging.replace(key, Content.of_file(path))
    return stored.digests.size


async def download(staging: Store, key: str, path: Path) -> Path:
    """Streams a staged file to a local one.

    Raises:
        StagedFileGone: it was cleaned up, which happens after a run's success.
    """
    try:
        with path.open("wb") as file:
            async for chunk in staging.read(key):
                file.write(chunk)
    except TargetNotFound:
        raise StagedFileGone(
            f"staged file {staging.uri}{key} is gone (cleaned after success, or past staging.keep_failed_days): "
            "clear the run's `prepare` task with everything downstream to make it again"
        ) from None
    return path


async def clear(staging: Store, prefix: str, kept: tuple[str, ...] = ()) -> int:
    """Removes everything below a staging prefix but what begins with one of `kept`; returns how many objects."""
    keys = [stored.key async for stored in staging.list(prefix)]
    return await _delete(staging, [key for key in keys if not key.startswith(kept)])


async def sweep_all(staging: Store, settings: PlatformSettings, now: datetime, most: int) -> int:
    """Removes what failed runs left, links whose time is over, and marks of what was sent long ago; at most so many.

    Judged by each object's own age, so a run that is still going on keeps what it has just written.

    Raises:
        DataExportError: staging is not reached.
    """
    ages = {
        layout.RUNS_PREFIX: timedelta(days=settings.staging.keep_failed_days),
        layout.LINKS_PREFIX: _KEEP_LINKS,
        layout.MAILED_PREFIX: _KEEP_SENT,
        layout.NOTICES_PREFIX: _KEEP_SENT,
        layout.TOLD_PREFIX: _KEEP_SENT,
    }
    removed = 0
    for prefix, age in ages.items():
        removed += await remove_older(staging, prefix, now - age, most - removed)
    return removed


async def remove_older(staging: Store, prefix: str, limit: datetime, most: int | None = None) -> int:
    """Removes what was stored below a prefix before `limit`, at most `most`; returns how many objects."""
    keys: list[str] = []
    async for stored in staging.list(prefix):
        if len(keys) == most:
            break
        if stored.modified is not None and stored.modified.astimezone(UTC) < limit:
            keys.append(stored.key)
    return await _delete(staging, keys)


async def _delete(staging: Store, keys: Iterable[str]) -> int:
    removed = 0
    for key in keys:
        await staging.delete(key)
        removed += 1
    return removed


_log = logging.getLogger(__name__)


def clean_up(
    plan: ExportPlan,
    receipt: Receipt,
    staging: Store,
    then: Callable[[Store], Awaitable[None]] | None = None,
) -> int:
    """Removes what this run staged; returns how many objects.

    It leaves for `sweep_all` what somebody may still need: lists of missing images that the receipt names, and
    everything where records were quarantined. A fault is logged and no more: what was delivered is delivered.
    `then` uses the same client: making one costs more than all that is done with it.
    """

    async def run() -> int:
        async with staging:
            removed = 0 if quarantined else await clear(staging, plan.staging_prefix + "/", kept)
            if then:
                await then(staging)
            return removed

    quarantined = any(site.quarantined for site in receipt.sites)
    lists = [site.images.missing_list for site in receipt.sites if site.images and site.images.missing_list]
    kept = (layout.mailed_prefix_before(plan.staging_prefix), *(uri.removeprefix(staging.uri) for uri in lists))
    try:
        return run_async(run())
    except DataExportError as error:
        _log.warning("%s: staging is not cleaned now, the nightly maintenance will: %s", plan.name, error)
        return 0
