"""What the hand-over sheet of an export says, put together from its customer file and the platform's settings."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from data_export import layout
from data_export.check.shared_steps import MAIL, WEBHOOK, Step
from data_export.config.models import CustomerExport
from data_export.config.platform import PlatformSettings, customers_dir, place_of
from data_export.delivery.handed_over import Handover
from data_export.handover.key_pair import keys_dir, public_half
from data_export.handover.loading import fields, loading
from data_export.limits import limits_of
from data_export.window import ExportWindow
from data_export.wording import FORMATS, duration_in_words

_SITES_IN_TREE = 3
_INTERVALS = {
    "hourly": "every hour, the hour before",
    "daily": "every day, the day before, from midnight to midnight",
    "weekly": "every week, the week before, from Monday to Monday",
    "monthly": "every month, the month before, from its first day on",
    "once": "once, one window",
}
_KINDS = {
    "work-orders-timeline": "work orders, each work item with all its images and their analyses",
    "work-orders-states": "work orders, each work item with its last image and the analyses of that",
}
_AGAIN = {
    "replace": "If a window is delivered again with other content, its file is replaced under the same name.",
    "keep": "If a window is delivered again with other content, the first file stays.",
    "revision": "If a window is delivered again with other content, a revision comes next to its file, `.r2` before "
    "the ending, then `.r3`: the highest number counts, as a number.",
}
_MAILED_AGAIN = (
    "If a window is mailed again, its file has the same name and takes the place of the earlier one: save it over "
    "that. A copy with `(1)` in its name is not read."
)


class Expected(NamedTuple):
    """A window, and when its file is due; None if nothing is scheduled."""

    window: ExportWindow
    at: datetime | None


class Sheet(NamedTuple):
    """`values` are what the templates show; `open` is what we still have to settle, one sentence each."""

    values: dict[str, Any]
    handover: Handover
    open: tuple[str, ...]


def make_sheet(
    name: str,
    export: CustomerExport,
    settings: PlatformSettings,
    expected: Sequence[Expected],
    now: datetime,
    engine: str | None = None,
) -> Sheet:
    """Everything that the customer needs to know, and nothing secret.

    Args:
        expected: the next windows, at least one.
        engine: the one whose part of the loader kit the sheet has; None: all.
    """
    handed = export.connector_config.handover()
    principal, public_key, still_open = _who_we_are(export, settings, handed)
    values = {
        "direct": False,
        **handed.values,
        "name": name,
        "made": f"{now.astimezone(ZoneInfo(export.timezone)):%Y-%m-%d}",
        "in_a_year": f"{now + timedelta(days=365):%Y-%m-%d}",
        "principal": principal,
        "public_key": public_key,
        "egress": settings.network.egress,
        **_of_mail(export, settings),
        **_what(export),
        **_where(export, handed, expected[0].window),
        **_when(name, export, settings, expected),
        "checks": [*handed.checks, *_notice_steps(export)],
        "fields": [*fields()],
        **loading(name, export, handed, engine),
    }
    return Sheet(values, handed, still_open)


def _of_mail(export: CustomerExport, settings: PlatformSettings) -> dict[str, Any]:
    config = export.connector_config
    return {
        "platform": settings.mail.platform,
        "contact": settings.mail.contact or settings.mail.sender,
        "sender": settings.mail.sender,
        "mailed": bool(config.recipients()),
        "hours": config.link_hours(settings.mail.link_ttl_hours),
        "notices": [*_notices(export)],
    }


def _what(export: CustomerExport) -> dict[str, Any]:
    config = export.connector_config
    return {
        "export_type": export.export_type,
        "kind": _KINDS[export.export_type],
        "format": FORMATS[export.encoding],
        "parquet": export.file_format == "parquet",
        "images": export.export_images,
        "if_exists": config.if_exists,
        "again": _MAILED_AGAIN if config.recipients() else _AGAIN[config.if_exists],
    }


def _where(export: CustomerExport, handed: Handover, window: ExportWindow) -> dict[str, Any]:
    address = export.connector_config.address() or ""
    bucket, _, folder = address.partition("://")[2].partition("/")
    return {
        "place": handed.place,
        "root": handed.root or address,
        "bucket": bucket,
        "folder": folder,
        "sites": [{"id": str(site), "label": export.site_label(site)} for site in export.sites],
        "tree": [*_tree(export, window)],
    }


def _when(
    name: str, export: CustomerExport, settings: PlatformSettings, expected: Sequence[Expected]
) -> dict[str, Any]:
    limits, zone = limits_of(name, export, settings.limits), ZoneInfo(export.timezone)
    return {
        "zone": export.timezone,
        "schedule": _schedule(export, limits.settle.total_seconds()),
        "first": _local(export.start, zone),
        "last": _local(export.end, zone) if export.end else "",
        "enabled": export.enabled,
        "late": duration_in_words(limits.late_after.total_seconds()),
        "files": [_file(name, export, each, zone) for each in expected],
    }


def _who_we_are(
    export: CustomerExport, settings: PlatformSettings, handed: Handover
) -> tuple[str, str, tuple[str, ...]]:
    """Our principal, our public key, and what is open about them and the rest of our side."""
    config = export.connector_config
    conn_id = getattr(config, "conn_id", None) or settings.targets.conn_id_of(config.kind)
    ours, still_open = settings.targets.principals.get(conn_id, ""), [*handed.still_open]
    principal = handed.principal or ours or handed.placeholder
    if principal and principal == handed.placeholder:
        where = place_of("targets", "principals")
        still_open.append(
            f"{principal} is whoever connection {conn_id} is: set targets.principals.{conn_id} in {where}"
        )
    if handed.principal:
        still_open.append(f"let {ours or f'connection {conn_id}'} act as {handed.principal}")
    public_key = public_half(handed.key_path, (keys_dir(), customers_dir())) if handed.key_path else None
    if handed.key_path and public_key is None:
        half = f"{Path(handed.key_path).name}.pub"
        still_open.append(
            f"OUR_PUBLIC_KEY is the public half of {handed.key_path}: `keys new` makes both, and "
            f"`ssh-keygen -y -f KEY > {half}` an existing key's; put {half} into {keys_dir()} or {customers_dir()}"
        )
    if not config.recipients() and not settings.network.egress:
        still_open.append(f"our addresses are not known: set network.egress in {place_of('network', 'egress')}")
    if settings.mail.contact is None:
        still_open.append(f"questions go to {settings.mail.sender}: set mail.contact in {place_of('mail', 'contact')}")
    return principal, public_key or "OUR_PUBLIC_KEY", tuple(still_open)


def _notices(export: CustomerExport) -> Iterator[str]:
    on = export.on_delivery
    if on and on.emails:
        yield f"one mail for each window to {len(on.emails)} address{'es' * (len(on.emails) != 1)}"
    if on and on.webhook:
        yield (
            f"one POST for each window to {urlsplit(on.webhook.url).hostname}, signed as Standard Webhooks say; we "
            "give you the secret through another channel"
        )


def _notice_steps(export: CustomerExport) -> Iterator[Step]:
    on = export.on_delivery
    if on and on.emails:
        yield from (step._replace(name=step.of("notice")) for step in MAIL)
    if on and on.webhook:
        host = urlsplit(on.webhook.url).hostname
        yield WEBHOOK._replace(name=WEBHOOK.of("notice"), tries=f"connects to `{host}` by TLS; nothing is sent")


def _schedule(export: CustomerExport, settle: float) -> str:
    words = _INTERVALS.get(export.interval, f"by the cron expression {export.interval}: the time since the one before")
    after = (
        f"{duration_in_words(settle)} after the window's end at the earliest" if settle else "from the window's end on"
    )
    return f"{words}; {after}"


def _local(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _file(name: str, export: CustomerExport, each: Expected, zone: ZoneInfo) -> dict[str, str | None]:
    window = each.window
    key = layout.data_key(export.sites[0], export.export_type, window, encoding=export.encoding)
    if export.connector_config.recipients():
        key = layout.link_file_name(name, export.export_type, window, export.encoding)
    return {
        "start": _local(window.start, zone),
        "end": _local(window.end, zone),
        "expected": _local(each.at, zone) if each.at else None,
        "key": key,
    }


def _tree(export: CustomerExport, window: ExportWindow) -> Iterator[str]:
    """The folders of the first sites, below the root."""
    for site in export.sites[:_SITES_IN_TREE]:
        keys = [layout.data_key(site, export.export_type, window, encoding=export.encoding)]
        keys += [layout.image_key(site, "<input id>", None) + "<file_extension>"] if export.export_images else []
        keys += [layout.receipt_key(site, export.export_type, window)] if export.delivery_receipt else []
        label = export.site_label(site)
        yield f"  {site}/" + ("" if label == str(site) else f"    {label}")
        for key in keys:
            folder, _, file = key.partition("/")[2].rpartition("/")
            yield from (f"    {folder}/", f"      {file}")
    if more := len(export.sites) - _SITES_IN_TREE:
        yield from [f"  and {more} more, alike"] * (more > 0)
    if export.manifest:
        folder, _, file = layout.manifest_key(export.export_type, window).rpartition("/")
        yield from (f"  {folder}/", f"    {file}")
