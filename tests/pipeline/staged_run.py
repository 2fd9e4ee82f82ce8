"""A run whose files are in staging already, as `transform` leaves them: what follows needs no source."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from data_export import layout
from data_export.config.models import EXPORT, CustomerExport
from data_export.config.platform import PlatformSettings, load_platform
from data_export.content import Content
from data_export.delivery.base import Destination, Store
from data_export.delivery.local.store import LocalStore
from data_export.limits import limits_of
from data_export.pipeline.receipts import deliver_receipts, make_receipt, site_receipt
from data_export.pipeline.site import DATA, IMAGES, copy_site_images, deliver_site
from data_export.pipeline.staging import clean_up, upload
from data_export.plan import ExportPlan, prepare
from data_export.receipt import Receipt, SiteReceipt, Transformed
from data_export.window import ExportWindow

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
NOW = datetime(2025, 6, 1, tzinfo=UTC)


def export_to(connector_type: str, *sites: UUID, **config: object) -> CustomerExport:
    defaults: dict[str, dict[str, Any]] = {
        "cloud_storage": {"storage_uri": "file:///target", "export_images": True},
        "sftp": {"conn_id": "sftp_customer", "sftp_remote_path": "/exports", "export_images": True},
        "email": {"emails": ["bob@customer.example", "eve@customer.example"]},
    }
    return EXPORT.validate_python(
        {
            "site_id": list(sites or (SITE,)),
            "interval": "daily",
            "start_date": "2025-03-15",
            "connector_type": connector_type,
            "connector_config": defaults[connector_type] | config,
        }
    )


def plan_of(exported: CustomerExport) -> ExportPlan:
    return prepare("acme", exported, WINDOW, limits_of("acme", exported, load_platform().limits), NOW)


def stage(
    staging: Store, plan: ExportPlan, folder: Path, data: bytes, images: list[str] | None = None, site_id: UUID = SITE
) -> Transformed:
    """Puts a data file and the list of its images where `transform` does."""
    listed = images or []
    prefix = layout.staging_site_prefix(plan.staging_prefix, site_id, 1)
    (folder / DATA).write_bytes(data)
    columns = {"input_id": pa.array(listed, pa.string()), "file_extension": pa.array([".png"] * len(listed))}
    pq.write_table(pa.table(columns), folder / IMAGES)

    async def store() -> None:
        async with staging:
            for name in (DATA, IMAGES):
                await upload(staging, folder / name, f"{prefix}/{name}")

    asyncio.run(store())
    digests = Content.of_bytes(data).digests
    return Transformed(
        site_id=site_id,
        data_key=f"{prefix}/{DATA}",
        images_key=f"{prefix}/{IMAGES}",
        work_orders=data.count(b"\n"),
        images=len(listed),
        bytes=digests.size,
        sha256=digests.sha256 or "",
        crc32c=digests.crc32c or "",
    )


class StagedRuns:
    """Runs of one export from staging to `target`, whose images are files below `images`."""

    def __init__(self, folder: Path, target: Destination | None = None, **config: object) -> None:
        self.target = target or LocalStore(folder / "target")
        self.staging = LocalStore(folder / "staging")
        self.images = LocalStore(folder / "images")
        self.settings: PlatformSettings = load_platform()
        self.export = export_to("cloud_storage", **config)
        self._folder = folder

    def image(self, input_id: str, content: bytes) -> None:
        path = self._folder / "images" / f"{input_id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def deliver(self, plan: ExportPlan, transformed: Transformed) -> SiteReceipt:
        images = copy_site_images(
            plan, transformed, self.images, "{input_id}{file_extension}", self.target, self.staging
        )
        return site_receipt(transformed, images, deliver_site(plan, transformed, self.target, self.staging))

    def whole(self, data: bytes, images: list[str] | None = None, now: datetime = NOW) -> Receipt:
        """One run with a receipt at the target."""
        plan = plan_of(self.export)
        transformed = stage(self.staging, plan, self._folder, data, images)
        receipt = make_receipt(plan, self.target.uri, [self.deliver(plan, transformed)], now)
        receipt = deliver_receipts(plan, receipt, self.target, self.staging)
        clean_up(plan, receipt, self.staging)
        return receipt
