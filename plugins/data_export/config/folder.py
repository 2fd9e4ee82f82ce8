"""The folder of the customer files: which files are in there, and whether one is as it was."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath

from data_export.config.fields import SUFFIXES, name_meant, quoted
from data_export.config.models import dag_id, name_of
from data_export.config.platform import customers_dir
from data_export.config.problems.explain import near_key

#: Nanoseconds of the last change of what the file holds and of the file itself, bytes, inode.
Stamp = tuple[int, int, int, int]
_OTHERS = (".yaml.txt", ".yml.txt", ".json")
# A file may change once more within what its file system takes for one moment.
_SETTLED_NS = 1_000_000_000


def customer_names(folder: Path | None = None) -> list[str]:
    """The names of all customer files, without reading them; an empty list where the folder cannot be listed."""
    with suppress(OSError):
        return [path.stem for path in listed(customers_dir() if folder is None else folder)]
    return []


def file_of(name: str, folder: Path | None = None) -> Path:
    """The file of the export of this name, under a wrong name where no file has the right one."""
    folder = customers_dir() if folder is None else folder
    right = folder / f"{name}.yaml"
    if not os.path.lexists(right):
        with suppress(OSError):
            return next((path for path in listed(folder) if name_meant(path) == name), right)
    return right


def near_name(name: str, known: Iterable[str]) -> str:
    """` (did you mean acme?)`, or nothing; a file's path and the id of a DAG stand for an export too."""
    bare = PurePath(name).name
    bare = bare[: -len(PurePath(bare).suffix)] if bare.lower().endswith(SUFFIXES) else bare
    found = near_key(name_of(bare) or bare, sorted(known))
    return f" (did you mean {found}?)" if found else ""


def unknown_to_airflow(name: str, known: Iterable[str] = ()) -> str:
    """What to do where Airflow has no DAG of that name; `known` are the exports of which it has one."""
    files = customer_names()
    if name in files:
        wait = "it comes within half a minute of its file, as long as the dag-processor runs"
        return f"{name}: Airflow has no DAG {dag_id(name)} yet: {wait}"
    return f"Airflow knows no export {quoted(name)}{near_name(name, {*known, *files})}: correct the name"


def listed(folder: Path, only_dag_id: str | None = None) -> list[Path]:
    """The files of the folder that are customers', also under a wrong name, or the one of a DAG.

    Raises:
        OSError: the folder cannot be listed.
    """
    if only_dag_id is not None:
        name = name_of(only_dag_id)
        return [] if name is None else [folder / f"{name}.yaml"]
    return [folder / name for name in names_in(folder)]


def names_in(folder: Path) -> list[str]:
    """The names of the files that are customers', sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))


def overlooked(folder: Path) -> list[str]:
    """Names that look like customer files with another ending than theirs, which some editors and mailers add.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(_OTHERS) and not e.name.startswith("."))


def stamp(path: Path | str) -> Stamp | None:
    """Changes with the file, also where a link leads to another one, as when a ConfigMap is updated; None without."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of paths cost half of it
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_settled(stamped: Stamp | None) -> bool:
    """Whether a later change of the file would give it another stamp."""
    return stamped is None or max(stamped[:2]) < time.time_ns() - _SETTLED_NS
