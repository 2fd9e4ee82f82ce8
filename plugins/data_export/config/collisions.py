"""Finds customer files that would write the same objects."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from heapq import merge
from uuid import UUID

from data_export.config.models import CustomerExport

_NEVER = datetime.max.replace(tzinfo=UTC)
_ALL_SITES = UUID(int=0)
_Key = tuple[tuple[str, ...], str, UUID]


def colliding(exports: Mapping[str, CustomerExport]) -> Iterator[tuple[str, str, UUID]]:
    """`(name, other, site)` for every export that shares target, type and site with others, with the first such in name
    order.

    Both of two are named: which of them is the newer is not in the files (`data_export.config.precedence`).
    """
    groups: dict[_Key, list[str]] = {}
    for name in sorted(exports):
        for key in _keys(exports[name]):
            groups.setdefault(key, []).append(name)
    for name in sorted(exports):
        for other in merge(*(groups[key] for key in _keys(exports[name]))):
            if other != name and (sites := contested(exports[name], exports[other])):
                yield name, other, min(sites)
                break


def contested(one: CustomerExport, other: CustomerExport) -> frozenset[UUID]:
    """The sites of which both would write data files into the same folder; none where they cannot meet.

    Their intervals are not compared: two that never coincide today do after the next edit, and a loader reads the
    folder as one sequence. But an export may follow one that has ended. Exports that are not enabled write nothing,
    and mailed links have names of their own. The same images from two exports are the same bytes, so they do not
    collide.
    """
    if max(one.start, other.start) >= min(one.end or _NEVER, other.end or _NEVER):
        return frozenset()
    common = {*_keys(one)} & {*_keys(other)}
    if any(site == _ALL_SITES for *_, site in common):
        return frozenset((*one.site_id, *other.site_id))
    return frozenset(site for *_, site in common)


def _keys(export: CustomerExport) -> list[_Key]:
    """What two exports have in common where they would write the same objects."""
    target = export.connector_config.identity() if export.enabled else None
    # One manifest has all sites of a window, so that two exports with manifests meet without a site in common.
    sites = (*export.site_id, _ALL_SITES) if export.manifest else export.site_id
    return [] if target is None else [(target, export.export_type, site) for site in sites]
