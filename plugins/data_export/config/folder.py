"""The folder of the customer files: which files are in there."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath

from data_export.config.fields import SUFFIXES, name_meant, quoted
from data_export.config.models import dag_id, name_of
from data_export.config.platform import customers_dir
from data_export.config.problems.explain import near_key
from data_export.errors import ConfigError

_OTHERS = (".yaml.txt", ".yml.txt", ".json")


def customer_names(folder: Path | None = None) -> list[str]:
    """The names of all customer files, without reading them; an empty list where the folder cannot be listed.

    Bytes that are not UTF-8 are spelled out: a DAG whose form offers the names could not be stored with them.
    """
    with suppress(OSError):
        files = listed(customers_dir() if folder is None else folder)
        return [os.fsencode(path.stem).decode("utf-8", "backslashreplace") for path in files]
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


def require_listed() -> None:
    """Passes where the customers' folder can be listed, which a count of files takes for an empty one else.

    Raises:
        ConfigError: it cannot.
    """
    folder = customers_dir()
    try:
        names_in(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: {unlisted(error)}") from None


def unlisted(error: OSError) -> str:
    return f"cannot be listed ({error.strerror}): create it, or set DATA_EXPORT_CUSTOMERS_DIR"


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
