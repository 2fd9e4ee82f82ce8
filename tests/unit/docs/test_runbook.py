"""The runbook tells what to do about every error that the service can raise."""

import re
from pathlib import Path

import pytest

from data_export.config.problems.problems import BrokenFile
from data_export.errors import DataExportError

RUNBOOK = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
ROWS = {name: row for row in re.findall(r"^\| `.*$", RUNBOOK, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


def tree(root: type[DataExportError]) -> set[type[DataExportError]]:
    """The errors that callers see; a connector's own refinements of them, where loaded, are told as their parents."""
    seen = {root} if root.__module__ == DataExportError.__module__ else set()
    return seen | {found for child in root.__subclasses__() for found in tree(child)}


@pytest.mark.parametrize("kind", sorted(tree(DataExportError) | {BrokenFile}, key=lambda kind: kind.__name__))
def test_every_error_has_its_row(kind: type[DataExportError]) -> None:
    assert kind.__name__ in ROWS, f"docs/operate.md, Runbook: add a row for {kind.__name__}"
