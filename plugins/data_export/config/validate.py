"""Checks settings from elsewhere than the installation's folder: files that somebody names, and a program's dict."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from data_export.config.folder import listed, overlooked
from data_export.config.load import load_all, load_customers, local_refusal, warnings_of
from data_export.config.models import EXPORT, AnyExport
from data_export.config.problems.diagnose import diagnose
from data_export.config.problems.problems import ConfigProblem
from data_export.config.reading.yaml_lines import Document
from data_export.config.tenants import bounds
from data_export.errors import ConfigError

_OVERLOOKED = "is not read: rename it to NAME.yaml if it is a customer file"


@dataclass(frozen=True, slots=True)
class Checked:
    """Which of the given files are without an error, and every problem of them all."""

    right: frozenset[Path]
    problems: tuple[ConfigProblem, ...]


def check_files(paths: Iterable[Path], beside: Path | None = None) -> Checked:
    """The given files, and all files of the given folders, each once. Never raises.

    The other files of its folder (or of the folder `beside`) are read too, but only to find collisions with it; their
    own problems are not reported.
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
            problems += [ConfigProblem(folder / name, None, None, _OVERLOOKED, False) for name in overlooked(folder)]
    files: dict[Path, dict[str, Path]] = {}
    for path in given:
        place = _real(path.parent)
        if not path.is_dir() and place / path.name not in done:
            files.setdefault(beside or place, {})[path.name] = path
    for folder, named in files.items():
        with suppress(OSError):  # a missing file is reported below
            named = {path.name: path for path in listed(folder)} | named
        wanted = set(files[folder].values())
        loaded = load_all([named[name] for name in sorted(named)])
        found |= {path for path in wanted if path.stem in loaded.exports}
        problems += [problem for problem in loaded.problems if problem.path in wanted]
    return Checked(frozenset(found - {each.path for each in problems if each.is_error}), tuple(problems))


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # which raises for no loop of links, as `resolve` does


def load_values(name: str, values: object) -> AnyExport:
    """An export whose settings a program gives in place of a customer file, checked as those of a file are.

    A plan keeps references to secrets only, and there is no file to read a literal one from again.

    Raises:
        ConfigError: naming every key that is wrong, or that holds a secret itself.
    """
    try:
        values = json.loads(json.dumps(values, default=str))  # dates, uuids and tuples as a file would hold them
    except (TypeError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"config of {name} is not a mapping of a customer file's keys: give a dict")
    document, problems = Document(Path(name), values, {}), list[ConfigProblem]()
    try:
        export: AnyExport = EXPORT.validate_python(values)
        problems += warnings_of(document, export)
        if export.scheme == "file" and (refusal := local_refusal()):
            problems.append(document.problem(("connector_config", "storage_uri"), refusal))
        problems += [document.problem(*refusal) for refusal in bounds().refusals(export)]
    except ValidationError:
        problems += diagnose(document)
    if problems:
        raise ConfigError("; ".join(f"config of {replace(each, line=None, is_error=True)}" for each in problems))
    return export
