"""What each step of a run hands to the next, and the receipt that sums them up.

All are frozen pydantic models that travel between tasks as small JSON dicts: URIs relative to staging, counts and
digests, never data, local paths or secrets.
"""

import re
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_export.content import Digests
from data_export.window import ExportWindow
from data_export.wording import count_in_words, size_in_words

_SUMMARY = re.compile(
    r"[\d,]+ sites?, ([\d,]+|an unknown number of) work orders, [\d,.]+ ([kMGTP])?B"
    r"(, [\d,]+ images \([\d,]+ new\), [\d,]+ missing)?"
    r"(, [\d,]+ (images failed|images kept that differ|files kept that differ|records quarantined|recipients refused))*"
)


CRC32C = "base64, as Cloud Storage has it of its object; null, and left out, if we do not know it"
COUNTED = "null for a kept file that cannot be read, such as an archived one, and that nothing there tells of"
RECORDS = "sha256 of the JSON Lines text, however the file is packed; empty for a file that we cannot read"


def records_of_plain(value: Any) -> Any:
    """Fills in what receipts of earlier versions lack: their files are JSON Lines as they are."""
    if isinstance(value, dict) and "records_sha256" not in value and "sha256" in value:
        return value | {"records_sha256": value["sha256"]}
    return value


def _left_out_if_none(description: str) -> Any:
    return Field(default=None, exclude_if=lambda value: value is None, description=description)


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Extracted(_Step):
    """A raw snapshot of one site and window in staging."""

    site_id: UUID
    prefix: str = Field(description="staging prefix of the snapshot's Parquet files")
    tables: dict[str, int] = Field(description="rows by table")
    bytes: int = Field(description="size of the snapshot in staging")
    left_out: bool = Field(default=False, description="whether the source could not read some work orders")
    warning: str | None = Field(default=None, description="what the source could not promise of the moment it shows")
    read_at: str | None = Field(default=None, description="when all was read and staged, ISO 8601 in UTC")

    @property
    def is_empty(self) -> bool:
        """Whether the window has no work order at all: then staging holds no snapshot."""
        return not (any(self.tables.values()) or self.left_out)


class Transformed(_Step):
    """The data file and the list of images, in staging."""

    site_id: UUID
    data_key: str = Field(description="staging key of the data file")
    images_key: str = Field(
        description="staging key of the Parquet list of images (input_id uuid text, file_extension)"
    )
    quarantine_key: str | None = Field(default=None, description="staging key of the records left out, if any")
    work_orders: int
    quarantined: int = 0
    images: int = Field(description="distinct images that the data file refers to")
    bytes: int
    sha256: str
    crc32c: str
    records_sha256: str | None = Field(default=None, description="of the JSON Lines text, if the file is packed")
    warning: str | None = Field(default=None, description="that of `Extracted`")
    read_at: str | None = Field(default=None, description="that of `Extracted`")

    @property
    def digests(self) -> Digests:
        return Digests(self.bytes, self.sha256, crc32c=self.crc32c, records_sha256=self.records_sha256)


class ImagesCopied(_Step):
    """Images of one site by outcome."""

    site_id: UUID
    copied: int = 0
    already_there: int = 0
    kept: int = Field(default=0, description="at the target with other content than at the source, and left so")
    missing_at_source: int = 0
    missing: list[str] = Field(default_factory=list, description="names missing at the source, the first 100 at most")
    missing_list: str | None = Field(default=None, description="address of all their names, one a line, where more")
    failed: int = Field(default=0, description="could not be read or stored; the next run of the window tries again")
    failures: list[str] = Field(default_factory=list, description="`name: reason` of those, the first 100 at most")
    bytes: int = Field(default=0, description="bytes of the images copied in this attempt")


class DataFile(_Step):
    """What a data file holds; `sha256` is empty for a file that we cannot read, if the target does not say it."""

    work_orders: int | None = Field(description=COUNTED)
    bytes: int
    sha256: str
    crc32c: str | None = _left_out_if_none(CRC32C)
    records_sha256: str = Field(default="", description=RECORDS)

    _same_if_plain = model_validator(mode="before")(records_of_plain)


class Delivered(_Step):
    """The data file of one site at the target."""

    site_id: UUID
    uri: str = Field(description="full address of the data file at the target")
    outcome: Literal["created", "unchanged", "replaced", "kept", "revision", "staged"]
    revision: int = 1
    kept: DataFile | None = Field(default=None, description="what the target's own file holds, where it was kept")
    found: DataFile | None = Field(
        default=None, description="the file that is there with the same records in other bytes, or of a later run"
    )


class SiteReceipt(_Step):
    """What one site's part of a run delivered; `work_orders`, `bytes` and `sha256` are of the file that is at `uri`."""

    site_id: UUID
    name: str | None = _left_out_if_none("where the customer file names the site")
    work_orders: int | None = Field(description=COUNTED)
    quarantined: int
    bytes: int
    sha256: str
    crc32c: str | None = _left_out_if_none(CRC32C)
    records_sha256: str = Field(default="", description=RECORDS)
    uri: str
    outcome: str
    revision: int = Field(default=1, description="2 and later under `if_exists: revision`")
    offered: DataFile | None = Field(default=None, description="`kept` only: the file that was not delivered")
    images: ImagesCopied | None = Field(default=None, description="null where images are not exported")
    warning: str | None = Field(default=None, description="what the file may lack, since the source was still writing")

    _same_if_plain = model_validator(mode="before")(records_of_plain)


class Document(_Step):
    """A receipt, list or manifest that the run left at the target, for the audit."""

    uri: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, uri: str, digests: Digests) -> Self:
        return cls(uri=uri, bytes=digests.size, sha256=digests.sha256 or "")


class Receipt(_Step):
    """What a run delivered; the run's result, its asset event and, where asked for, an object at the target."""

    export: str
    export_type: str
    window: dict[str, str] = Field(description="start and end, ISO 8601 in UTC, end exclusive")
    connector: str
    target: str
    config_hash: str
    sites: list[SiteReceipt]
    delivered_at: str = Field(description="ISO 8601 in UTC")
    refused_recipients: list[str] = Field(
        default_factory=list, description="mail only: whom the mail server refuses for good, masked"
    )
    documents: tuple[Document, ...] = Field(
        default=(), exclude=True, description="of the asset event only: what else is at the target"
    )

    @property
    def export_window(self) -> ExportWindow:
        return ExportWindow.from_dict(self.window)

    def outward(self) -> Self:
        """As it leaves the house: without addresses in staging, which nobody must know, and the words of our own
        stores."""
        told = self.to_dict()
        for site in told["sites"]:
            images = site["images"] or {"missing_list": None, "failures": []}
            for part, key, without in ((site, "uri", ""), (images, "missing_list", None)):
                if not (part[key] or "").startswith(self.target):
                    part[key] = without
            images["failures"] = [f"{line.partition(': ')[0]}: could not be copied" for line in images["failures"]]
        return self.model_validate(told)

    def totals(self) -> dict[str, int]:
        """The sums over all sites, so that nobody who only counts needs to read a thousand sites' parts.

        Without `work_orders` if one site's are not known: the others' alone would pass for all.
        """
        copied = [site.images for site in self.sites if site.images is not None]
        counts = [site.work_orders for site in self.sites if site.work_orders is not None]
        return {
            "sites": len(self.sites),
            **({"work_orders": sum(counts)} if len(counts) == len(self.sites) else {}),
            "quarantined": sum(site.quarantined for site in self.sites),
            "files_kept": sum(site.outcome == "kept" for site in self.sites),
            "bytes": sum(site.bytes for site in self.sites),
            "images": sum(images.copied + images.already_there + images.kept for images in copied),
            "images_copied": sum(images.copied for images in copied),
            "images_kept": sum(images.kept for images in copied),
            "images_missing": sum(images.missing_at_source for images in copied),
            "images_failed": sum(images.failed for images in copied),
            "image_bytes": sum(images.bytes for images in copied),
            "refused_recipients": len(self.refused_recipients),
        }

    def summary(self) -> str:
        """One line, e.g. `2 sites, 1,204 work orders, 3.1 MB, 2,310 images (12 new), 0 missing`."""
        totals = self.totals()
        text = f"{totals['sites']:,} site{'s' * (totals['sites'] != 1)}, {count_in_words(totals.get('work_orders'))}"
        text += f", {size_in_words(totals['bytes'])}"
        if any(site.images is not None for site in self.sites):
            missing = totals["images_missing"]
            images = totals["images"] + missing + totals["images_failed"]
            text += f", {images:,} images ({totals['images_copied']:,} new), {missing:,} missing"
        exceptions = {
            "images_failed": "images failed",
            "images_kept": "images kept that differ",
            "files_kept": "files kept that differ",
            "quarantined": "records quarantined",
            "refused_recipients": "recipients refused",
        }
        return text + "".join(f", {totals[name]:,} {words}" for name, words in exceptions.items() if totals[name])


def is_summary(text: str) -> bool:
    """Whether a text is what `summary` says of some run, and nothing more."""
    return _SUMMARY.fullmatch(text) is not None
