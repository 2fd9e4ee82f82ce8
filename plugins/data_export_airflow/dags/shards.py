"""The DAG files that share the exports: which export is in which file, and the folder that holds them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from hashlib import blake2b
from pathlib import Path

#: The highest number of files that may share the exports. Their names are always there, also those that hold nothing:
#: a task of a run under way is looked for in the file that held its DAG when it was queued, whatever the number then.
MOST = 99
_IGNORE = ".airflowignore"
#: What each of them says.
SHARD = '''"""One of {shards} DAG files that share the exports of include/customers/, written by CustomerFilesBundle."""

from data_export_airflow.dags.factory import customer_dags

globals().update(customer_dags(__file__, shards={shards}))
'''


def shard_files(shards: int) -> list[str]:
    """Names of the DAG files that share the exports; the first of them is also in the DAGs folder."""
    return ["customer_exports.py", *(f"customer_exports_{number:02}.py" for number in range(2, shards + 1))]


def shard_of(name: str, files: Sequence[str]) -> str:
    """The one of `files` that holds the export of this name.

    The same in every process, and whatever other exports there are. Each file draws a number for the name and the
    highest has it, so that one more file takes exports from the others, and moves none between these.
    """
    return max(files, key=lambda file: _draw(file, name))


def names_in(file: str, names: Set[str], shards: int | None) -> Set[str]:
    """Those of `names` that the DAG file of this name holds, where so many files share them.

    Without a number the file stands alone and holds them all, unless it is a copy that an older version left there.
    """
    if shards is None:
        return frozenset() if file.startswith("customer_exports_") else names
    files = shard_files(shards)
    if file not in files:
        return frozenset()
    # As `shard_of`, up to the first file that draws a higher number: after four of 32 on average.
    return {name for name in names if not any(map(_draw(file, name).__lt__, (_draw(other, name) for other in files)))}


def _draw(file: str, name: str) -> bytes:
    return blake2b(f"{file}/{name}".encode(), digest_size=8).digest()


def contents(shards: int, dags: Path) -> dict[str, str | Path]:
    """What a folder of shards holds, by name: the text of a file, or the path that a link leads to.

    These are the shards, and links to everything else in the folder `dags`, so that one bundle serves all DAGs. The
    dag-processor ignores the names that hold no export at this number, so that they cost it nothing.

    Raises:
        OSError: the folder `dags` cannot be read.
    """
    names, ignore = shard_files(MOST), dags / _IGNORE
    links = {path.name: path for path in dags.iterdir() if path.name != "__pycache__"}
    ignored = [ignore.read_text()] if ignore.exists() else []
    texts = {_IGNORE: "\n".join([*ignored, *_patterns_from(shards + 1), ""])}
    return links | dict.fromkeys(names, SHARD.format(shards=shards)) | texts


def _patterns_from(first: int) -> list[str]:
    """What the names of the files from this number on have in common, as a glob and as a regular expression alike.

    At every look for DAG files, one every few seconds, the dag-processor tries each line on each file: with a line for
    each of 91 names that took it a tenth of a CPU second.
    """
    tens, ones = divmod(first, 10)
    ranges = [f"{tens}[{ones}-9]"] * (tens < 10) + [f"[{tens + 1}-9][0-9]"] * (tens < 9)
    return [f"customer_exports_{numbers}.py" for numbers in ranges]


def is_complete(folder: Path, wanted: Mapping[str, str | Path]) -> bool:
    """Whether the folder holds just what is wanted: 3 ms, without a lock."""
    return folder.is_dir() and not _unwanted(folder, wanted) and not _missing(folder, wanted)


def seems_complete(folder: Path, wanted: Mapping[str, str | Path]) -> bool:
    """Whether everything that is wanted is there, by name, kind and size, whatever else is: 0.5 ms.

    Enough for a task, which parses one file that it knows the name of.
    """
    try:
        with os.scandir(folder) as found:
            sizes = {each.name: None if each.is_symlink() else each.stat().st_size for each in found}
    except OSError:
        return False
    lengths = {name: None if isinstance(what, Path) else len(what.encode()) for name, what in wanted.items()}
    return lengths.items() <= sizes.items()


def complete(folder: Path, wanted: Mapping[str, str | Path]) -> None:
    """Writes what is missing in the folder and removes what is not wanted; one process at a time.

    Others may read meanwhile: each file is replaced as a whole.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _missing(folder, wanted):
        temporary, what = folder / f".{name}.{os.getpid()}", wanted[name]
        temporary.unlink(missing_ok=True)
        if isinstance(what, Path):
            temporary.symlink_to(what)
        else:
            temporary.write_text(what)
        temporary.replace(folder / name)
    for path in _unwanted(folder, wanted):
        path.unlink(missing_ok=True)


#: So many broken customer files have a DAG file of their own, under whose name Airflow lists what is wrong with them.
MOST_BROKEN = 100
_BROKEN = re.compile(r"[\w@+ .-]{1,200}\.ya?ml\.py")
_DRAFT = re.compile(rf"\.{_BROKEN.pattern}\.\d+")
_LONGEST = 240  # bytes of a name; a file system takes 255, and a draft's name is longer by the process's number
_BROKEN_TEXT = '''"""Shows what is wrong with a customer file as an import error of its name; written by the bundle."""

from data_export_airflow.dags.config_errors import broken_file

globals().update(broken_file({problems!r}))
'''


def broken_files(problems: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """By name, `acme.yaml.py`, the text of the DAG files of broken customer files: of the first ones, if many are.

    Args:
        problems: by name of the customer file, its lines.
    """
    shown = [name for name in sorted(problems) if is_of_broken(f"{name}.py")][:MOST_BROKEN]
    return {f"{name}.py": _BROKEN_TEXT.format(problems=[*problems[name]]) for name in shown}


def is_of_broken(name: str) -> bool:
    """Whether a DAG file shows what is wrong with a customer file; the dag-processor alone makes and removes these."""
    return _BROKEN.fullmatch(name) is not None and len(name.encode()) <= _LONGEST


def show_broken(folder: Path, wanted: Mapping[str, str]) -> Iterator[str]:
    """Makes the folder hold just these of the DAG files of broken files; names each that is new once it is there.

    Raises:
        OSError: the folder cannot be written.
    """
    there = {path.name: path for path in folder.iterdir() if is_of_broken(path.name)}
    for name in there.keys() - wanted.keys():
        there[name].unlink(missing_ok=True)
    for name, text in wanted.items():
        if not _holds(folder / name, text):
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.write_text(text)
            temporary.replace(folder / name)
            yield name


def _missing(folder: Path, wanted: Mapping[str, str | Path]) -> list[str]:
    return [name for name, what in wanted.items() if not _holds(folder / name, what)]


def _holds(path: Path, what: str | Path) -> bool:
    try:
        if isinstance(what, Path):
            return path.readlink() == what
        return not path.is_symlink() and path.read_text() == what
    except (OSError, ValueError):
        return False


def _unwanted(folder: Path, wanted: Mapping[str, str | Path]) -> list[Path]:
    """What must go, but no draft of `show_broken`; a folder that is not a link is Python's own, of compiled files."""
    others = [path for path in folder.iterdir() if path.name not in wanted and not is_of_broken(path.name)]
    return [one for one in others if not _DRAFT.fullmatch(one.name) and (one.is_symlink() or not one.is_dir())]
