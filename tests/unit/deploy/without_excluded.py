"""Run as a program: what requirements.txt does not list cannot be imported, and then runs what standard input asks for.

Standard input holds `{"modules": [...], "commands": [[...]]}`: modules to import, and commands of the service.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import ModuleType

import importlib_metadata  # takes the standard library's place as the finder of what is installed

ROOT = Path(__file__).parents[3]


def listed() -> set[str]:
    """Names of all that the service's requirements install."""
    return set(re.findall(r"^([a-z0-9][a-z0-9.-]*)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


def modules(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        if file.suffix in (".py", ".so") and ".." not in file.parts:
            yield ".".join((*file.parts[:-1], *([] if file.stem == "__init__" else [file.name.partition(".")[0]])))


class Absent(MetaPathFinder):
    """Makes modules of other packages fail to import as if their packages were not installed."""

    def __init__(self, names: set[str]) -> None:
        self.names, self.asked = names, set[str]()

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name in self.names:
            self.asked.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def key(distribution: Distribution) -> str:
    return distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")


def absent() -> Absent:
    installed = {key(each): each for each in distributions()}
    ours = listed()
    there = {name for key, each in installed.items() if key in ours for name in modules(each)}
    others = {name for key, each in installed.items() if key not in ours for name in modules(each)}
    return Absent(others - there)


def hide_entry_points() -> None:
    """Packages that are not listed offer nothing either: Airflow asks all of them for providers."""
    finder, ours = importlib_metadata.MetadataPathFinder, listed()
    find = finder.find_distributions
    finder.find_distributions = staticmethod(lambda *context: (each for each in find(*context) if key(each) in ours))


def main() -> int:
    asked = json.load(sys.stdin)
    sys.meta_path.insert(0, absent())
    hide_entry_points()
    for name in asked["modules"]:
        import_module(name)
    from data_export_airflow.commands.cli import main as command

    return max([command(words) for words in asked["commands"]], default=0)


if __name__ == "__main__":
    sys.exit(main())
