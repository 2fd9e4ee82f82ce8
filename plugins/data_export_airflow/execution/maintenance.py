"""The steps of the maintenance, each bounded in time and number, and switched in `maintenance` of platform.yaml."""

import asyncio
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk.configuration import conf

from data_export.config.folder import require_listed
from data_export.config.load import load_customers
from data_export.config.models import AnyExport
from data_export.config.platform import PlatformSettings, load_platform
from data_export.delivery.base import WithLeftOvers
from data_export.delivery.threads import run_async
from data_export.errors import DataExportError
from data_export.layout import data_folder, images_folder, manifests_folder, receipts_folder
from data_export.pipeline.staging import sweep_all
from data_export.wording import harmless
from data_export_airflow.connections.clients import destination, store

_MOST_OBJECTS = 100_000
_MOST_LOGS = 100_000
#: For all targets, for one of them, and for Airflow's logs.
_TARGETS_SECONDS, _TARGET_SECONDS, _LOGS_SECONDS = 1800, 120, 600
_MOST_NAMED = 20
_OFF = {"off": "switched off in `maintenance` of platform.yaml"}


def maintain(step: str) -> dict[str, Any]:
    """Does one step of `MAINTENANCE_STEPS`; returns what was removed, and `seconds`.

    Raises:
        ConfigError: platform.yaml is broken.
        DataExportError: staging is not reached.
    """
    began, settings = time.monotonic(), load_platform()
    steps = {"sweep_staging": _sweep_staging, "tidy_targets": _tidy_targets, "remove_logs": _remove_logs}
    done = steps[step](settings)
    return done | {"seconds": round(time.monotonic() - began, 1)}


def _sweep_staging(settings: PlatformSettings) -> dict[str, Any]:
    if not settings.maintenance.staging:
        return _OFF

    async def sweep() -> int:
        async with store(settings.staging.uri, settings.staging.conn_id) as staging:
            return await sweep_all(staging, settings, datetime.now(UTC), _MOST_OBJECTS)

    return {"removed": run_async(sweep()), "limit": _MOST_OBJECTS}


def _tidy_targets(settings: PlatformSettings) -> dict[str, Any]:
    """Staging first; then each export's target, one after the other, so that no customer's server has a rush."""
    if not settings.maintenance.targets:
        return _OFF
    removed = {"staging": run_async(_tidy_staging(settings))}
    require_listed()
    exports = load_customers().exports
    failed: dict[str, str] = {}
    end, left = time.monotonic() + _TARGETS_SECONDS, 0
    for name, export in _in_turn(exports, settings.mail.link_ttl_hours):
        if time.monotonic() > end:
            left += 1
            continue
        try:
            removed[name] = run_async(_tidy_target(name, export, settings))
        except (DataExportError, TimeoutError) as error:
            failed[name] = f"{type(error).__name__}: {harmless(error, 200)}"
    return {
        "removed": sum(removed.values()),
        "where": {name: count for name, count in removed.items() if count},
        "looked_at": len(removed),
        "not_reached": dict([*failed.items()][:_MOST_NAMED]),
        "not_reached_in_all": len(failed),
        "left_for_the_next_run": left,
    }


def _in_turn(exports: Mapping[str, AnyExport], hours: int) -> Iterator[tuple[str, AnyExport]]:
    """All exports that deliver somewhere, beginning with another one each day: time may not suffice for all."""
    names = sorted(
        name for name, one in exports.items() if one.enabled and one.connector_config.link_hours(hours) is None
    )
    first = datetime.now(UTC).toordinal() * 997 % len(names) if names else 0
    for name in (*names[first:], *names[:first]):
        yield name, exports[name]


async def _tidy_staging(settings: PlatformSettings) -> int:
    async with store(settings.staging.uri, settings.staging.conn_id) as staging:
        return await staging.tidy([""]) if isinstance(staging, WithLeftOvers) else 0


async def _tidy_target(name: str, export: AnyExport, settings: PlatformSettings) -> int:
    target = destination(name, export, settings)
    if not isinstance(target, WithLeftOvers):
        return 0
    kind = export.export_type
    folders = [
        folder
        for site in export.sites
        for folder in (data_folder(site, kind), images_folder(site), receipts_folder(site, kind))
    ]
    folders += [manifests_folder(kind)] if export.manifest else []
    async with asyncio.timeout(_TARGET_SECONDS), target:
        return await target.tidy(folders)


def _remove_logs(settings: PlatformSettings) -> dict[str, Any]:
    """Of this machine, or of the volume that all share; Airflow itself keeps them for ever."""
    if settings.maintenance.log_days is None:
        return _OFF
    folder = Path(conf.get("logging", "base_log_folder"))
    limit, end = time.time() - settings.maintenance.log_days * 86_400, time.monotonic() + _LOGS_SECONDS
    removed = freed = 0
    for path, seen in _old(folder, limit, end):
        if removed == _MOST_LOGS:
            break
        with suppress(OSError):  # another worker's, gone, or a folder that is not empty
            if stat.S_ISDIR(seen.st_mode):
                path.rmdir()
            else:
                path.unlink()
                removed, freed = removed + 1, freed + seen.st_size
    return {"removed": removed, "bytes": freed, "folder": str(folder), "limit": _MOST_LOGS}


def _old(folder: Path, limit: float, end: float) -> Iterator[tuple[Path, os.stat_result]]:
    """Log files and folders below, to which nothing was written since `limit`, until `end`; a folder after what is in
    it. Not what else somebody may have put there."""
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (*(Path(parent, name) for name in names if ".log" in name), Path(parent)):
            if time.monotonic() > end:
                return
            with suppress(OSError):
                seen = path.stat(follow_symlinks=False)
                if path != folder and seen.st_mtime < limit:
                    yield path, seen
