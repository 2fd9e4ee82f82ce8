"""docs/commands.md says what the commands say."""

import argparse

import pytest

from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import main, parser
from data_export_airflow.commands.reference import FILE, reference


def test_the_checked_in_page_is_what_the_commands_say() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), "stale: make commands"


COMMANDS = [
    name for action in parser()._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "None" not in capsys.readouterr().out
    assert f"## {name}\n" in reference()
    assert f"| `{name}" in (ROOT / "README.md").read_text(encoding="utf-8")
