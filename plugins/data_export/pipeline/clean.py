"""Cleans the staging area after a run."""

import asyncio
import logging
from datetime import datetime, timedelta

from data_export import layout
from data_export.config.connectors import LONGEST_LINK_HOURS
from data_export.config.platform import PlatformSettings
from data_export.delivery.base import Store
from data_export.errors import DataExportError
from data_export.pipeline.staged import clear, sweep
from data_export.plan import ExportPlan
from data_export.receipt import Receipt

_log = logging.getLogger(__name__)


def clean_up(plan: ExportPlan, receipt: Receipt, settings: PlatformSettings, staging: Store, now: datetime) -> int:
    """Removes what this run staged, and what old failed runs of the export left; returns how many objects.

    For `staging.keep_failed_days` it leaves what somebody may still need: who has the mail, since this step may be
    repeated; lists of missing images that the receipt names; and everything where records were quarantined. A fault is
    logged and no more: what was delivered is delivered, and a later run sweeps.
    """

    async def run() -> int:
        async with staging:
            keep_failed = timedelta(days=settings.staging.keep_failed_days)
            keep_links = timedelta(hours=LONGEST_LINK_HOURS, days=1)
            removed = await sweep(staging, plan.name, keep_failed, keep_links, now)
            return removed + (0 if quarantined else await clear(staging, plan.staging_prefix + "/", kept))

    quarantined = any(site.quarantined for site in receipt.sites)
    lists = [site.images.missing_list for site in receipt.sites if site.images and site.images.missing_list]
    kept = (layout.mail_marks_prefix(plan.staging_prefix), *(uri.removeprefix(staging.uri) for uri in lists))
    try:
        return asyncio.run(run())
    except DataExportError as error:
        _log.warning("%s: staging is not cleaned now, a later run will: %s", plan.name, error)
        return 0
