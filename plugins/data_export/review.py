"""What an edit of the customer files does to the exports, and what they will write: said before it happens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data_export import layout
from data_export.config.collisions import with_conn_id
from data_export.config.load import Loaded
from data_export.config.models import AnyExport, CustomerExport
from data_export.config.problems.problems import ConfigProblem
from data_export.window import ExportWindow

Kind = Literal["added", "changed", "removed", "broken", "mended"]


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key's two values as a file would spell them; a secret is masked in both."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One export that is another than before. `broken` has problems and no `after`; `mended` had no `before`."""

    name: str
    kind: Kind
    before: AnyExport | None = None
    after: AnyExport | None = None
    keys: tuple[KeyChange, ...] = ()
    consequences: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


def compare(before: Loaded, after: Loaded) -> list[Change]:
    """Every export that differs, in order of names; comments, order of keys and written-out defaults are no change.

    A file that is broken in both is reported too, since it does not run.
    """
    was_broken, is_broken = _broken(before), _broken(after)
    names = sorted({*before.exports, *after.exports, *was_broken, *is_broken})
    changes = []
    for name in names:
        old, new = before.exports.get(name), after.exports.get(name)
        if name in is_broken:
            changes.append(Change(name, "broken", old, None, problems=tuple(is_broken[name])))
        elif new is None:
            changes.append(Change(name, "removed", old, consequences=consequences(old, None)))
        elif old is None:
            kind: Kind = "mended" if name in was_broken else "added"
            origin = renamed(new, {n: e for n, e in before.exports.items() if n not in after.exports})
            changes.append(Change(name, kind, None, new, consequences=(*consequences(None, new), *origin)))
        elif keys := _keys(old, new):
            words = consequences(old, new)
            changes.append(Change(name, "changed", old, new, keys, words))
    return changes


def _broken(loaded: Loaded) -> dict[str, list[ConfigProblem]]:
    """Errors by export, or by file name where that cannot be an export's."""
    found: dict[str, list[ConfigProblem]] = {}
    for problem in loaded.problems:
        if problem.is_error:
            # A second file of the same export, such as its .yml, is reported by its own name.
            is_beside = problem.name in loaded.exports and problem.path.name != f"{problem.name}.yaml"
            name = None if is_beside else problem.name
            found.setdefault(name or problem.path.name, []).append(problem)
    return found


def _keys(old: AnyExport, new: AnyExport) -> tuple[KeyChange, ...]:
    one, two = _flat(old), _flat(new)
    changed = {key for key in {*one, *two} if one.get(key) != two.get(key)}
    before, after = _secrets(old), _secrets(new)
    changed |= {key for key in {*before, *after} if before.get(key) != after.get(key)}
    order = [*two, *one]
    return tuple(KeyChange(key, one.get(key), two.get(key)) for key in sorted(changed, key=order.index))


def _flat(export: AnyExport) -> dict[str, Any]:
    """Values by key, `connector_config.` before the nested ones; a key without value is not there."""
    values: dict[str, Any] = {}
    for key, value in export.model_dump(mode="json", exclude_none=True).items():
        is_section = isinstance(value, dict) and key != "site_id"
        values |= {f"{key}.{inner}": each for inner, each in value.items()} if is_section else {key: value}
    sites = values["site_id"]  # whose order means nothing
    return values | {"site_id": dict(sorted(sites.items())) if isinstance(sites, dict) else sorted(sites)}


def _secrets(export: AnyExport) -> dict[str, str]:
    """By key what `_flat` masks, to be compared and never shown."""
    secrets = export.connector_config.secrets().items()
    return {f"connector_config.{key}": secret.get_secret_value() for key, secret in secrets}


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
    before, after = old.connector_config, new.connector_config
    moved = (before.kind, with_conn_id(before.identity() or ())) != (after.kind, with_conn_id(after.identity() or ()))
    if moved:
        yield "new target: history is not moved, it stays at the old one; backfill what the new one is to have"
    if old.export_type != new.export_type:
        yield f"new files go to data/{new.export_type}/, the earlier ones stay in data/{old.export_type}/; {_AGAIN}"
    yield from _files(old, new)
    if (old.interval, old.timezone) != (new.interval, new.timezone):
        yield "windows are cut anew: new files have different bounds and names; delivered files stay"
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
    if type(before) is type(after):
        yield from after.consequences(before)


def _files(old: AnyExport, new: AnyExport) -> Iterator[str]:
    if old.encoding != new.encoding:
        was, ends = layout.DATA_SUFFIXES[old.encoding], layout.DATA_SUFFIXES[new.encoding]
        yield (
            f"new files end in {ends}, the earlier ones stay and end in {was}: a window that is exported again is then "
            f"there under both names, and a loader must take the {ends} only; {_AGAIN}"
        )
    if new.manifest and not old.manifest:
        yield f"manifests come with the next windows; for delivered ones {_AGAIN}"
    if old.manifest and not new.manifest:
        yield "no more manifests: a loader that reads them alone gets no more files; those delivered stay"


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
        yield f"windows from {new.start_date} on may be backfilled; they do not run by themselves"
    if new.start > old.start:
        yield f"windows before {new.start_date} cannot be exported any more; those delivered stay"
    if old.end != new.end:
        yield f"windows end at {new.end_date}, exclusive" if new.end else "windows have no end any more"


@dataclass(frozen=True, slots=True)
class SampleObjects:
    """Full addresses of the first site's objects; of a mailed link the name under which the file is saved."""

    data: str
    image: str | None
    receipt: str | None


def sample_objects(name: str, export: CustomerExport, window: ExportWindow) -> SampleObjects:
    """The objects of one window; `<input_id>` and `<file_extension>` stand for what the source says."""
    site, root = export.sites[0], export.connector_config.address()
    if root is None:
        return SampleObjects(layout.link_file_name(name, export.export_type, window, export.encoding), None, None)
    image = layout.image_key(site, "<input_id>", None) + "<file_extension>"
    return SampleObjects(
        data=root + layout.data_key(site, export.export_type, window, encoding=export.encoding),
        image=root + image if export.export_images else None,
        receipt=root + layout.receipt_key(site, export.export_type, window) if export.delivery_receipt else None,
    )
