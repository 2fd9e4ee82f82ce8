"""What a change of a customer file means for what is and will be delivered, in words."""

from collections.abc import Iterator, Mapping

from data_export.config.collisions import target_of
from data_export.config.connectors import EmailConfig
from data_export.config.models import AnyExport

_AGAIN = "backfill with --reprocess completed"


def consequences(old: AnyExport | None, new: AnyExport | None) -> tuple[str, ...]:
    """One sentence each, the gravest first. Nothing that was delivered is ever moved or removed."""
    if new is None:
        return (
            "the DAG goes; delivered files stay, and its runs are in Airflow's database until somebody deletes them",
        )
    if old is None:
        return tuple(_new(new))
    return (*_of_change(old, new), "holds from the next run on; runs that have begun keep what they began with")


def renamed(new: AnyExport, gone: Mapping[str, AnyExport]) -> tuple[str, ...]:
    """A sentence where the new export is a removed one under another name."""
    origin = next((name for name, export in gone.items() if export.config_hash() == new.config_hash()), None)
    if origin is None:
        return ()
    return (f"is {origin} under another name: to Airflow a new DAG, without the history of the old one",)


def _new(export: AnyExport) -> Iterator[str]:
    if not export.enabled:
        yield "the DAG is there for runs by hand"
    elif export.interval == "once":
        yield "the DAG comes paused, as Airflow is set by default; unpaused, it runs once"
    else:
        yield "the DAG comes paused, as Airflow is set by default"


def _of_change(old: AnyExport, new: AnyExport) -> Iterator[str]:
    moved = (old.scheme, target_of(old)) != (new.scheme, target_of(new))
    if moved:
        yield "new target: history is not moved, it stays at the old one; backfill what the new one is to have"
    if old.export_type != new.export_type:
        yield f"new files go to data/{new.export_type}/, the earlier ones stay in data/{old.export_type}/; {_AGAIN}"
    if (old.interval, old.timezone) != (new.interval, new.timezone):
        yield "windows are cut anew: new files have other bounds, hence names, than those delivered, which stay"
    yield from _sites(old, new)
    yield from _bounds(old, new)
    if new.export_images and not old.export_images:
        yield f"images come with the next windows; for those of delivered ones {_AGAIN}"
    if old.export_images and not new.export_images and not moved:
        yield "no more images; those delivered stay"
    if old.enabled and not new.enabled:
        yield "nothing is scheduled any more; the DAG stays for runs by hand"
    if new.enabled and not old.enabled:
        yield "enabled again: windows that were left out meanwhile are a backfill"
    before, after = old.connector_config, new.connector_config
    if isinstance(before, EmailConfig) and isinstance(after, EmailConfig) and before.emails != after.emails:
        yield "the next links go to the new recipients only"


def _sites(old: AnyExport, new: AnyExport) -> Iterator[str]:
    more, fewer = len({*new.site_id} - {*old.site_id}), len({*old.site_id} - {*new.site_id})
    if more:
        yield f"{more} more site{'s' * (more != 1)}, from the next window on; for windows that were run {_AGAIN}"
    if fewer:
        yield f"{fewer} site{'s' * (fewer != 1)} fewer; delivered files stay"


def _bounds(old: AnyExport, new: AnyExport) -> Iterator[str]:
    if "once" in (old.interval, new.interval) and (old.start, old.end) != (new.start, new.end):
        yield "interval once runs by itself only once: if it has, trigger the new range by hand"
        return
    if new.start < old.start:
        yield f"windows from {new.start_date} on may be backfilled; none of them runs by itself"
    if new.start > old.start:
        yield f"windows before {new.start_date} cannot be exported any more; those delivered stay"
    if old.end != new.end:
        yield f"windows end at {new.end_date}, exclusive" if new.end else "windows have no end any more"
