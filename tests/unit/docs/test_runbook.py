"""Of every error that the service can raise people read what it means and what to do, at an anchor that stays."""

import importlib
import re
from pathlib import Path

import pytest

from data_export.alerts.guide import GUIDES, OTHER, anchor_of, fix_of, kind_of
from data_export.config.platform import ROOT
from data_export.config.problems.problems import BrokenFile
from data_export.delivery.sftp.errors import TooManyAtOnce
from data_export.errors import DataExportError
from data_export_airflow.commands.reference import ERRORS_FILE, ERRORS_PAGE, errors, errors_page

CORE = ROOT / "plugins" / "data_export"


def tree(root: type[DataExportError]) -> set[type[DataExportError]]:
    return {root} | {found for child in root.__subclasses__() for found in tree(child)}


def every_error() -> set[type[DataExportError]]:
    """Those of the connectors too, each of which is imported with its connector only."""
    for path in CORE.rglob("*.py"):
        if re.search(r"^class \w+\(\w*\.?\w+\):", path.read_text(), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(CORE.parent).with_suffix("").parts))
    return tree(DataExportError)


def test_the_checked_in_pages_are_what_the_errors_say() -> None:
    assert ERRORS_FILE.read_text(encoding="utf-8") == errors(), "stale: make commands"
    assert ERRORS_PAGE.read_text(encoding="utf-8") == errors_page(), "stale: make commands"


def test_every_error_has_its_section_and_refinements_that_of_what_they_refine() -> None:
    named = {kind.__name__ for kind in every_error() if kind.__module__ == DataExportError.__module__}
    assert named | {BrokenFile.__name__, "AirflowTaskTimeout", "NotStarted", "WorkerLost", OTHER} == set(GUIDES)
    for kind in every_error():
        told = kind_of(kind.__new__(kind))
        assert told in GUIDES
        assert told in [each.__name__ for each in kind.__mro__]
    assert kind_of(TooManyAtOnce("full")) == "TargetUnavailable"
    assert (kind_of(OSError()), kind_of(ConnectionResetError())) == ("OSError", "ConnectionResetError")


@pytest.mark.parametrize("name", GUIDES)
def test_an_anchor_leads_to_its_section_on_the_page_and_in_the_documentation(name: str) -> None:
    assert f'id="{anchor_of(name)}"' in errors_page()
    heading = re.search(rf"^## {name}$", errors(), re.MULTILINE)
    assert heading is not None
    assert heading[0].removeprefix("## ").lower().replace(" ", "-") == anchor_of(name)  # as GitHub makes it


def test_an_error_of_others_leads_to_their_section() -> None:
    assert anchor_of("ZeroDivisionError") == "other-errors"
    assert "log" in fix_of("ZeroDivisionError", "acme")
    assert not [name for name in GUIDES if "{" in fix_of(name, "acme")]


def test_anchors_that_old_logs_link_to_are_kept() -> None:
    kept = (Path(__file__).parent / "anchors.txt").read_text().split()
    assert not {*kept} - {anchor_of(name) for name in GUIDES}
    assert not {anchor_of(name) for name in GUIDES} - {*kept}, "add the new one to anchors.txt: it stays for ever"
