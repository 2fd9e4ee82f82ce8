"""The manifest of a window: all files of all sites, written after everything else, so that a loader needs no listing.

`python -m data_export.pipeline.manifest` writes its JSON Schema anew.
"""

import json
from functools import partial
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_export import layout
from data_export.config.platform import ROOT
from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.deliver import deliver, newest_revision
from data_export.delivery.threads import at_most, run_async
from data_export.errors import ObjectRefused, OverwriteRefused, TargetNotFound
from data_export.plan import ExportPlan
from data_export.receipt import COUNTED, RECORDS, Document, Receipt, SiteReceipt

SCHEMA_FILE = ROOT / "include" / "schemas" / "manifest.schema.json"
_LONGEST = 8 << 20  # bytes of an earlier manifest that are read; a thousand sites have about one MB


class _Part(BaseModel):
    """Keys may be added in later versions, so readers ignore those that they do not know."""

    model_config = ConfigDict(frozen=True)


class ManifestFile(_Part):
    """One data file."""

    key: str = Field(description="name of the file below the target's folder")
    revision: int = Field(ge=1, description="2 and later under if_exists: revision")
    work_orders: int | None = Field(ge=0, description=f"records in the file; {COUNTED}")
    bytes: int = Field(ge=0)
    sha256: str = Field(description="of the file")
    records_sha256: str = Field(description=RECORDS)

    @classmethod
    def of(cls, site: SiteReceipt, target_uri: str) -> Self:
        return cls(key=site.uri.removeprefix(target_uri), **site.model_dump(include=cls.model_fields.keys() - {"key"}))


class ManifestImages(_Part):
    """Images that a site's file refers to, by outcome."""

    delivered: int = Field(ge=0, description="are at the target")
    kept: int = Field(ge=0, description="are at the target with other content than at the platform, and left so")
    missing_at_source: int = Field(ge=0)
    failed: int = Field(ge=0, description="could not be read or stored; a repeat of the window tries again")


class ManifestSite(_Part):
    """One site's file, and what it took the place of."""

    site_id: UUID
    file: ManifestFile
    replaced: ManifestFile | None = Field(
        description="the file that the earlier manifest of the window had, if another"
    )
    newer_kept_back: bool = Field(description="if_exists: keep left this file, which is not what the platform has now")
    quarantined: int = Field(ge=0, description="records that the file does not contain, since the format has no place")
    images: ManifestImages | None = Field(description="null if images are not exported")


class Manifest(_Part):
    """All data files of one window of one export."""

    manifest_version: Literal[1] = 1
    record_version: Literal[1] = Field(default=1, description="of the records: include/schemas/record.schema.json")
    export: str
    export_type: str
    file_format: str
    compression: str
    window: dict[str, str] = Field(description="start and end, ISO 8601 in UTC, end exclusive")
    written_at: str = Field(description="ISO 8601 in UTC")
    sites: list[ManifestSite]

    def says_the_same(self, other: "Manifest") -> bool:
        return self.model_dump(exclude={"written_at"}) == other.model_dump(exclude={"written_at"})


def deliver_manifest(plan: ExportPlan, receipt: Receipt, target: Destination) -> Document:
    """Leaves the window's manifest at the target and returns what is there; one that says the same is left alone.

    A new one replaces the earlier. Under `if_exists: revision`, and where the target lets us create only, it becomes
    the next revision instead.
    """

    async def run() -> Document:
        async with target:
            number, text = await _newest(plan, target)
            earlier = _understood(text)
            manifest = _made(plan, receipt, target.uri, earlier)
            if text is not None and earlier is not None and manifest.says_the_same(earlier):
                return Document.of(target.uri + _key(plan, number), Content.of_bytes(text).digests)
            content = Content.of_bytes(manifest.model_dump_json(indent=1).encode() + b"\n", "application/json")
            return Document.of(await _write(plan, target, number, content), content.digests)

    return run_async(run())


async def _write(plan: ExportPlan, target: Destination, newest: int, content: Content) -> str:
    def key_of(revision: int) -> str:
        return _key(plan, max(newest, 1) + revision - 1)

    if plan.export.connector_config.if_exists != "revision":
        try:
            return target.uri + (await deliver(target, key_of, content, "replace")).key
        except OverwriteRefused:
            pass  # the next name is free
    return target.uri + (await deliver(target, key_of, content, "revision")).key


async def _newest(plan: ExportPlan, target: Destination) -> tuple[int, bytes | None]:
    """Number and text of the newest manifest of the window; 0 if there is none, and None if it is too long."""
    lists = plan.export.connector_config.if_exists == "revision"  # else one is all, but where we may create only
    number = await newest_revision(target, partial(_key, plan), lists=lists)
    key = _key(plan, number)
    if (stored := await target.stat(key)) is None:
        return 0, None
    if (size := stored.digests.size) > _LONGEST:
        return number, None
    try:
        return number, b"".join([chunk async for chunk in at_most(target.read(key), size, target.uri + key)])
    except (TargetNotFound, ObjectRefused):  # it is gone, or archived
        return number, None


def _understood(text: bytes | None) -> Manifest | None:
    try:
        return Manifest.model_validate_json(text) if text else None
    except ValidationError:  # another version's, or not ours
        return None


def _key(plan: ExportPlan, revision: int) -> str:
    return layout.manifest_key(plan.export.export_type, plan.window, revision)


def _made(plan: ExportPlan, receipt: Receipt, target_uri: str, earlier: Manifest | None) -> Manifest:
    before = {site.site_id: site for site in earlier.sites} if earlier else {}
    return Manifest(
        export=receipt.export,
        export_type=receipt.export_type,
        file_format=plan.export.file_format,
        compression=plan.export.compression,
        window=receipt.window,
        written_at=receipt.delivered_at,
        sites=[_site(site, target_uri, before.get(site.site_id)) for site in receipt.sites],
    )


def _site(site: SiteReceipt, target_uri: str, before: ManifestSite | None) -> ManifestSite:
    file = ManifestFile.of(site, target_uri)
    if before and file.work_orders is None and file.sha256 and file.sha256 == before.file.sha256:
        file = before.file  # archived since: its records were counted then
    same = before is not None and (before.file == file or not file.sha256)  # a file kept unread is not known as another
    replaced = None if before is None else before.replaced if same else before.file
    images = site.images and ManifestImages(
        delivered=site.images.copied + site.images.already_there,
        kept=site.images.kept,
        missing_at_source=site.images.missing_at_source,
        failed=site.images.failed,
    )
    return ManifestSite(
        site_id=site.site_id,
        file=file,
        replaced=replaced,
        newer_kept_back=site.offered is not None,
        quarantined=site.quarantined,
        images=images,
    )


def schema_text() -> str:
    """The JSON Schema of a manifest, draft 2020-12; it accepts keys that it does not list."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | Manifest.model_json_schema(mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
