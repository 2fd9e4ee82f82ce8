"""Which of several exports that would write the same objects does: the one that delivers there already.

The files cannot tell which of them is the newer: their times are those of a checkout or of an image, and a copy may
have any name. What was delivered can.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self
from uuid import UUID

from data_export.config.collisions import ConnIdOf, contested, default_conn_id, with_conn_id
from data_export.config.load import Loaded
from data_export.config.models import AnyExport, CustomerExport
from data_export.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LastDelivery:
    """Where an export delivered last, and since when it delivers."""

    place: tuple[str, ...]
    export_type: str
    sites: frozenset[UUID]
    since: datetime

    @classmethod
    def of(cls, newest: Mapping[str, Any], since: datetime) -> Self:
        """Args: newest: the record of the newest delivery, a receipt with `place`."""
        sites = frozenset(UUID(site["site_id"]) for site in newest.get("sites", ()))
        return cls(tuple(newest.get("place") or ()), newest.get("export_type", ""), sites, since)

    def holds(self, export: CustomerExport, sites: frozenset[UUID], conn_id_of: ConnIdOf) -> bool:
        """Whether the last delivery was to the export's present target, of one of the sites."""
        present, last = (
            with_conn_id(each, conn_id_of) for each in (export.connector_config.identity() or (), self.place)
        )
        return (last, self.export_type) == (present, export.export_type) and bool(self.sites & sites)


def require_owner(name: str, loaded: Loaded, last_delivery: Callable[[str], LastDelivery | None]) -> AnyExport:
    """The export of this name, where no other goes before it that would write the same objects.

    One that is not enabled, which a person may run by hand, stands back to every other.

    Raises:
        ConfigError: another does; both files are named.
    """
    export = loaded.exports[name]
    if export.enabled:
        other = other_owner(name, loaded.exports, last_delivery)
    else:
        run, others = export.model_copy(update={"enabled": True}), sorted(loaded.exports.keys() - {name})
        other = next((each for each in others if contested(run, loaded.exports[each], default_conn_id)), None)
    if other is None:
        return export
    refusal = f"{name}.yaml does not run, since {other}.yaml, which would write the same files, goes before it"
    fix = "change its target, site_id or export_type"  # of an export that is not enabled the files say nothing
    raise ConfigError("; ".join([refusal, *loaded.errors().get(name, [fix])]))


def other_owner(
    name: str, exports: Mapping[str, CustomerExport], last_delivery: Callable[[str], LastDelivery | None]
) -> str | None:
    """The export before which this one has to stand back; None where it may run.

    Of two, that one runs which delivered to the target last time. Where both did, the one that delivers for longer;
    where neither did, the first in name order. `last_delivery` is asked only where exports collide.
    """
    conn_id_of = cache(default_conn_id)
    for other in sorted(exports.keys() - {name}):
        if sites := contested(exports[name], exports[other], conn_id_of):
            ranks = {each: _rank(each, exports[each], sites, last_delivery(each), conn_id_of) for each in (name, other)}
            if ranks[other] < ranks[name]:
                return other
    return None


def _rank(
    name: str,
    export: CustomerExport,
    sites: frozenset[UUID],
    last_delivery: LastDelivery | None,
    conn_id_of: ConnIdOf,
) -> tuple[bool, float, str]:
    holds = last_delivery is not None and last_delivery.holds(export, sites, conn_id_of)
    return not holds, last_delivery.since.timestamp() if last_delivery is not None and holds else 0.0, name
