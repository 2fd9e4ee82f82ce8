"""Finds customer files that would write the same objects."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import merge
from uuid import UUID
from zoneinfo import ZoneInfo

from data_export.config.connectors import CloudStorageConfig, SftpConfig
from data_export.config.models import CustomerExport
from data_export.config.moments import CRON

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
    """`(name, other, site)` for every export that would write data files of another, with the first such in name order.

    Both of two are named: which of them is the newer is not in the files (`data_export.config.precedence`).
    """
    groups: dict[tuple[Target, str, UUID], list[str]] = {}
    for name in sorted(exports):
        for key in _keys(exports[name]):
            groups.setdefault(key, []).append(name)
    for name in sorted(exports):
        for other in merge(*(groups[key] for key in _keys(exports[name]))):
            if other != name and (sites := contested(exports[name], exports[other])):
                yield name, other, min(sites)
                break


def contested(one: CustomerExport, other: CustomerExport) -> frozenset[UUID]:
    """The sites of which both would write a data file of the same name; none where they cannot meet.

    Exports that are not enabled write nothing, and mailed links have names of their own. The same images from two
    exports are the same bytes, hence no collision.
    """
    shared = {site for *_, site in {*_keys(one)} & {*_keys(other)}}
    return frozenset(shared) if shared and _may_coincide(one, other) else frozenset()


def _keys(export: CustomerExport) -> list[tuple[Target, str, UUID]]:
    """What two exports have in common where they may write the same objects."""
    target = target_of(export) if export.enabled else None
    return [] if target is None else [(target, export.export_type, site) for site in export.site_id]


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
    return begins < ends and (shortest <= longest or _shares_cut(one, other) or _shares_cut(other, one))


def _shares_cut(one: CustomerExport, other: CustomerExport) -> bool:
    """Whether the first or the last window, which the export's dates may cut to any length, is one of the other's."""
    starts = [one.start]
    if one.end is not None and one.interval in CRON:
        starts.append(max(one.start, _tick(one, one.end, "get_prev")))
    return any(_window_end(one, start) == _window_end(other, start) for start in starts)


def _window_end(export: CustomerExport, start: datetime) -> datetime | None:
    """Where the window ends that begins at this moment; None where none does."""
    end = export.end or _END_OF_TIME
    if export.interval not in CRON:
        return end if start == export.start else None
    following = _tick(export, start, "get_next")
    begins = export.start < start < end and _tick(export, following, "get_prev") == start
    return min(end, following) if begins or start == export.start else None


def _tick(export: CustomerExport, moment: datetime, step: str) -> datetime:
    """The boundary before or after, of an interval that has a word: others may coincide with any."""
    from croniter import croniter  # late: few exports share a target

    cron = croniter(CRON[export.interval], moment.astimezone(ZoneInfo(export.timezone)))
    tick: datetime = getattr(cron, step)(datetime)
    return tick.astimezone(UTC)


def _lengths(export: CustomerExport) -> tuple[timedelta, timedelta]:
    if export.interval == "once" and export.end is not None:
        return export.end - export.start, export.end - export.start
    return _LENGTHS.get(export.interval, (timedelta(), timedelta.max))
