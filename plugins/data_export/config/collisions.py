"""Finds customer files that would write the same objects."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from data_export.config.connectors import CloudStorageConfig, SftpConfig
from data_export.config.models import CustomerExport

_SHIFT = timedelta(hours=3)  # how far a change of a zone's offset may stretch or shorten a window
_LENGTHS = {
    "hourly": (timedelta(hours=1), timedelta(hours=1)),
    "daily": (timedelta(days=1) - _SHIFT, timedelta(days=1) + _SHIFT),
    "weekly": (timedelta(days=7) - _SHIFT, timedelta(days=7) + _SHIFT),
    "monthly": (timedelta(days=28) - _SHIFT, timedelta(days=31) + _SHIFT),
}
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

Target = tuple[str, ...]


def colliding(exports: Mapping[str, CustomerExport]) -> Iterator[tuple[str, str, UUID]]:
    """`(later, earlier, site)` for every export that would write data files of an export before it, in name order.

    Only the later of two is named, so that a copied file never stops the export it was copied from. Exports that are
    not enabled write nothing, and mailed links have names of their own. The same images from two exports are the same
    bytes, hence no collision.
    """
    holders: dict[tuple[Target, str, UUID], list[str]] = {}
    for name in sorted(exports):
        export = exports[name]
        target = target_of(export)
        if target is None or not export.enabled:
            continue
        groups = [holders.setdefault((target, export.export_type, site), []) for site in export.sites]
        pairs = zip(groups, export.sites, strict=True)
        found = ((other, site) for group, site in pairs for other in group if _may_coincide(exports[other], export))
        if first := next(found, None):
            yield name, *first
            continue
        for group in groups:
            group.append(name)


def target_of(export: CustomerExport) -> Target | None:
    """What tells one target folder from another, however it is spelled; None where names cannot meet (email).

    A user's name belongs to an SFTP target, since servers commonly show each user another root; a connection belongs to
    an S3 target, since it may name another server than Amazon's.
    """
    config = export.connector_config
    if isinstance(config, CloudStorageConfig):
        return (config.storage_uri, (config.conn_id or "") if config.scheme == "s3" else "")
    if isinstance(config, SftpConfig):
        path = config.sftp_remote_path.rstrip("/")
        if config.conn_id is not None:
            return ("sftp", config.conn_id, path)
        host = (config.sftp_host or "").lower()
        return ("sftp", f"{host}:{config.sftp_port}", config.sftp_username or "", path)
    return None


def _may_coincide(one: CustomerExport, other: CustomerExport) -> bool:
    """Whether both may have a window of the same two bounds, which is what gives a data file its name."""
    begins, ends = max(one.start, other.start), min(one.end or _END_OF_TIME, other.end or _END_OF_TIME)
    shortest, longest = (pick(a, b) for pick, a, b in zip((max, min), _lengths(one), _lengths(other), strict=True))
    return begins < ends and shortest <= longest


def _lengths(export: CustomerExport) -> tuple[timedelta, timedelta]:
    if export.interval == "once" and export.end is not None:
        return export.end - export.start, export.end - export.start
    return _LENGTHS.get(export.interval, (timedelta(), timedelta.max))
