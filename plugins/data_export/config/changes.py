"""What an edit of the customer files does to the exports: two sets of files, compared by what they mean."""

from dataclasses import dataclass
from typing import Any, Literal

from data_export.config.connectors import SftpConfig
from data_export.config.consequences import consequences, renamed
from data_export.config.load import Loaded
from data_export.config.models import AnyExport
from data_export.config.problems import ConfigProblem

Kind = Literal["added", "changed", "removed", "broken", "mended"]
_PASSPHRASE = "connector_config.sftp_private_key_passphrase"  # noqa: S105 - the key's name


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

    A file that is broken in both is told too, since it does not run.
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
            # A file beside that of the same export, such as its .yml, is told by its own name.
            is_beside = problem.name in loaded.exports and problem.path.name != f"{problem.name}.yaml"
            name = None if is_beside else problem.name
            found.setdefault(name or problem.path.name, []).append(problem)
    return found


def _keys(old: AnyExport, new: AnyExport) -> tuple[KeyChange, ...]:
    one, two = _flat(old), _flat(new)
    changed = {key for key in {*one, *two} if one.get(key) != two.get(key)}
    if _literal(old) != _literal(new):
        changed.add(_PASSPHRASE)
    order = [*two, *one]
    return tuple(KeyChange(key, one.get(key), two.get(key)) for key in sorted(changed, key=order.index))


def _flat(export: AnyExport) -> dict[str, Any]:
    """Values by key, `connector_config.` before the nested ones; a key without value is not there."""
    values: dict[str, Any] = {}
    for key, value in export.model_dump(mode="json", exclude_none=True).items():
        nested = {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
        values |= nested
    return values | {"site_id": sorted(values["site_id"])}  # whose order means nothing


def _literal(export: AnyExport) -> str | None:
    config = export.connector_config
    secret = config.sftp_private_key_passphrase if isinstance(config, SftpConfig) else None
    return secret.get_secret_value() if secret else None
