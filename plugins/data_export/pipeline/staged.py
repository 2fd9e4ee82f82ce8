"""Files that travel between tasks through the staging area."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data_export import layout
from data_export.content import Content
from data_export.delivery.base import Store
from data_export.errors import StagedFileGone, TargetNotFound


@contextmanager
def scratch() -> Iterator[Path]:
    """A local folder for one step, in TMPDIR, removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="data-export-") as folder:
        yield Path(folder)


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


async def sweep(staging: Store, export: str, keep_failed: timedelta, keep_links: timedelta, now: datetime) -> int:
    """Removes what old failed runs left and links whose time is over; returns how many objects.

    Judged by each object's own age, so a run that is still going on keeps what it has just written.
    """
    return await remove_older(staging, layout.staging_export_prefix(export), now - keep_failed) + await remove_older(
        staging, layout.staging_links_prefix(export), now - keep_links
    )


async def remove_older(staging: Store, prefix: str, limit: datetime) -> int:
    """Removes what was stored below a prefix before `limit`; returns how many objects."""
    return await _delete(
        staging,
        [
            stored.key
            async for stored in staging.list(prefix)
            if stored.modified is not None and stored.modified.astimezone(UTC) < limit
        ],
    )


async def _delete(staging: Store, keys: Iterable[str]) -> int:
    removed = 0
    for key in keys:
        await staging.delete(key)
        removed += 1
    return removed
