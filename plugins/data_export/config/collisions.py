"""Finds customer files that would write the same objects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from heapq import merge
from uuid import UUID

from data_export.config.models import CustomerExport
from data_export.config.platform import load_platform
from data_export.errors import ConfigError

_NEVER = datetime.max.replace(tzinfo=UTC)
_ALL_SITES = UUID(int=0)
_Key = tuple[tuple[str, ...], str, UUID]
#: The platform's connection for targets of a scheme.
ConnIdOf = Callable[[str], str]


def default_conn_id(scheme: str) -> str:
    """The platform's connection for targets of this scheme; empty where it has none, or platform.yaml is broken."""
    with suppress(ConfigError):
        return load_platform().targets.conn_id_of(scheme)
    return ""


def with_conn_id(identity: tuple[str, ...], conn_id_of: ConnIdOf = default_conn_id) -> tuple[str, ...]:
    """A target's identity, of a file or as a receipt keeps it, with the connection that it leaves to the platform."""
    scheme = "".join(identity[:1]).partition("://")[0]
    return tuple(part or conn_id_of(scheme) for part in identity)


def colliding(exports: Mapping[str, CustomerExport]) -> Iterator[tuple[str, str, UUID]]:
    """`(name, other, site)` for every export that shares target, type and site with others, with the first such in name
    order.

    Both of two are named: which of them is the newer is not in the files (`data_export.config.precedence`).
    """
    groups, conn_id_of = dict[_Key, list[str]](), cache(default_conn_id)
    for name in sorted(exports):
        for key in _keys(exports[name], conn_id_of):
            groups.setdefault(key, []).append(name)
    for name in sorted(exports):
        for other in merge(*(groups[key] for key in _keys(exports[name], conn_id_of))):
            if other != name and (sites := contested(exports[name], exports[other], conn_id_of)):
                yield name, other, min(sites)
                break


def contested(one: CustomerExport, other: CustomerExport, conn_id_of: ConnIdOf) -> frozenset[UUID]:
    """The sites of which both would write data files into the same folder; none where they cannot meet.

    Their intervals are not compared: two that never coincide today do after the next edit, and a loader reads the
    folder as one sequence. But an export may follow one that has ended. Exports that are not enabled write nothing,
    and mailed links have names of their own. The same images from two exports are the same bytes, so they do not
    collide.
    """
    if max(one.start, other.start) >= min(one.end or _NEVER, other.end or _NEVER):
        return frozenset()
    common = {*_keys(one, conn_id_of)} & {*_keys(other, conn_id_of)}
    if any(site == _ALL_SITES for *_, site in common):
        return frozenset((*one.site_id, *other.site_id))
    return frozenset(site for *_, site in common)


def _keys(export: CustomerExport, conn_id_of: ConnIdOf) -> list[_Key]:
    """What two exports have in common where they would write the same objects."""
    target = export.connector_config.identity() if export.enabled else None
    # One manifest has all sites of a window, so that two exports with manifests meet without a site in common.
    sites = (*export.site_id, _ALL_SITES) if export.manifest else export.site_id
    place = () if target is None else with_conn_id(target, conn_id_of)
    return [] if target is None else [(place, export.export_type, site) for site in sites]
