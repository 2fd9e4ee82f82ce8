"""Checks the files and folders that somebody names, which need not be all of the installation's."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data_export.config.load import listed, load_all, load_customers
from data_export.config.problems.problems import ConfigProblem


@dataclass(frozen=True, slots=True)
class Checked:
    """Which of the given files are without an error, and every problem of them all."""

    right: frozenset[Path]
    problems: tuple[ConfigProblem, ...]


def check_files(paths: Iterable[Path], beside: Path | None = None) -> Checked:
    """The given files, and all files of the given folders, each once. Never raises.

    The files beside a given one (or those of the folder `beside`) are read too, but only to tell which of them it
    collides with; what is wrong with them is not told.
    """
    given = list(paths)
    folders = {_real(path): path for path in given if path.is_dir()}
    found, problems, done = set[Path](), list[ConfigProblem](), set[Path]()
    for place, folder in folders.items():
        loaded = load_customers(folder)
        found |= {folder / f"{name}.yaml" for name in loaded.exports}
        problems += loaded.problems
        with suppress(OSError):  # that it cannot be listed is among the problems
            done |= {place / path.name for path in listed(folder)}
    files: dict[Path, dict[str, Path]] = {}
    for path in given:
        place = _real(path.parent)
        if not path.is_dir() and place / path.name not in done:
            files.setdefault(beside or place, {})[path.name] = path
    for folder, named in files.items():
        with suppress(OSError):  # that the file is not there is told below
            named = {path.name: path for path in listed(folder)} | named
        wanted = set(files[folder].values())
        loaded = load_all([named[name] for name in sorted(named)])
        found |= {path for path in wanted if path.stem in loaded.exports}
        problems += [problem for problem in loaded.problems if problem.path in wanted]
    return Checked(frozenset(found - {each.path for each in problems if each.is_error}), tuple(problems))


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # which raises for no loop of links, as `resolve` does
