"""What the receipts of an export say is at its target."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from data_export.config.models import CustomerExport
from data_export.layout import MANIFESTS, data_folder, data_key
from data_export.window import ExportWindow

Kind = Literal["data", "receipt", "manifest", "image list", "linked file", "image"]
_REVISION = re.compile(r"\.r\d+(?=\.[a-z-]+(\.[a-z]+)?$)")


class Delivery(NamedTuple):
    """One receipt, as Airflow keeps it, and the run that brought it."""

    receipt: dict[str, Any]
    dag_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Expected:
    """One object that a run left at the target; `start` and `end` of its window are ISO 8601 in UTC, end exclusive."""

    kind: Kind
    uri: str
    bytes: int
    #: Empty for a file that was kept unread, of which nobody knew it.
    sha256: str
    start: str
    end: str
    site_id: str
    delivered_at: datetime
    dag_id: str
    run_id: str
    #: Whether no newer revision of the file stands next to it.
    newest: bool = True
    #: What the receipt says of the images that a data file refers to; None if none were exported.
    images: dict[str, Any] | None = field(default=None, compare=False)
    records_sha256: str = ""
    work_orders: int | None = 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What an audit looks at: the newest windows first; `cut` says that older receipts were left out."""

    files: list[Expected]
    cut: bool = False


def expected(deliveries: Iterable[Delivery], most: int) -> Delivered:
    """What is at the target if nothing was lost: each address as the newest receipt has it, at most `most` in all.

    A file that was packed otherwise later, or went to another target since, is left out: nobody promised to keep it.

    Args:
        deliveries: the newest first.
    """
    found: dict[str, Expected] = {}
    newest: dict[tuple[str, ...], str] = {}
    for delivery in deliveries:
        for one in _of(delivery):
            if one.uri in found:
                continue
            later = newest.setdefault((one.kind, one.start, one.end, one.site_id), one.uri)
            if _without_revision(later) == _without_revision(one.uri):
                found[one.uri] = one if later == one.uri else replace(one, newest=False)
        if len(found) >= most:
            return Delivered([*found.values()][:most], cut=True)
    return Delivered([*found.values()])


def sampled(delivered: Delivered, export: CustomerExport, target_uri: str, most: int | None) -> list[Expected]:
    """The newest data files, of sites and of the type that the export has now: others it would extract otherwise."""
    folders = tuple(f"{target_uri}{data_folder(site, export.export_type)}/" for site in export.sites)
    return [one for one in delivered.files if one.kind == "data" and one.newest and one.uri.startswith(folders)][:most]


def _of(delivery: Delivery) -> list[Expected]:
    """Nothing for an event that somebody else made."""
    try:
        return [*_parts(delivery)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _parts(delivery: Delivery) -> Iterator[Expected]:
    receipt = delivery.receipt
    window = ExportWindow.from_dict(receipt["window"]).to_dict()
    at = datetime.fromisoformat(receipt["delivered_at"])
    if at.tzinfo is None:
        raise ValueError("no instant")
    common: dict[str, Any] = {**window, "delivered_at": at, "dag_id": delivery.dag_id, "run_id": delivery.run_id}
    for site in receipt["sites"]:
        if site["outcome"] == "staged":
            continue
        yield Expected(
            kind="data",
            uri=_text(site["uri"]),
            bytes=int(site["bytes"]),
            sha256=_text(site["sha256"]),
            records_sha256=site.get("records_sha256") or site["sha256"],
            work_orders=None if is_unread(site) else int(site["work_orders"]),
            site_id=str(UUID(str(site["site_id"]))),
            images=site.get("images"),
            **common,
        )
    for document in receipt.get("documents") or ():
        uri, target = _text(document["uri"]), _text(receipt["target"])
        # What is not below the target is in the staging area, where a mailed link leads to.
        kind, site_id = _kind_of(uri.removeprefix(target)) if uri.startswith(target) else ("linked file", "")
        yield Expected(kind, uri, int(document["bytes"]), document["sha256"], site_id=site_id, **common)


def is_unread(site: dict[str, Any]) -> bool:
    """Whether a receipt's site has a file that stays and whose work orders nobody could count."""
    return bool(site["outcome"] in ("kept", "unchanged") and site["work_orders"] is None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _kind_of(key: str) -> tuple[Kind, str]:
    if key.startswith(f"{MANIFESTS}/"):
        return "manifest", ""
    return "image list" if key.endswith(".missing-images.txt") else "receipt", str(UUID(key.partition("/")[0]))


def fix_of(file: Expected, kind: Kind, found: str, export: CustomerExport, target_uri: str) -> str:
    """What to do where a new run of the window cannot make it good; empty where it can.

    A run delivers what the customer file and the source say today, within the rights and by the rules of any run.
    """
    wanted = {"receipt": "delivery_receipt", "image list": "delivery_receipt", "manifest": "manifest"}
    if kind == "linked file":
        return "clear the run: it mails another link"
    if found == "unreadable":
        return "let the export's identity read it, or restore it if it is archived"
    if file.site_id and UUID(file.site_id) not in export.sites:
        return "its site is no longer in the customer file"
    if not file.newest:
        return "restore it from a copy: a newer revision is next to it, and the source no longer has what this one held"
    if kind in wanted and not getattr(export, wanted[kind]):
        return f"{wanted[kind]} is false in the customer file now"
    if kind == "image" and not export.export_images:
        return "export_images is false in the customer file now"
    if kind == "data" and not _is_named_so(file, export, target_uri):
        return "the customer file says another name for it now: another format, type or folder"
    rule = export.connector_config.if_exists
    if found != "missing" and (rule == "keep" if kind == "data" else kind == "image" and rule != "replace"):
        return f"if_exists is {rule}: remove it at the target, or set replace, and repair it then"
    return ""


def _is_named_so(file: Expected, export: CustomerExport, target_uri: str) -> bool:
    window = ExportWindow.from_dict({"start": file.start, "end": file.end})
    name = data_key(UUID(file.site_id), export.export_type, window, 1, export.encoding)
    return _without_revision(file.uri) == target_uri + name


def _without_revision(uri: str) -> str:
    return _REVISION.sub("", uri)
