"""docs/commands.md says what the commands say."""

import pytest

from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import COMMANDS, main
from data_export_airflow.commands.reference import FILE, reference


def test_the_checked_in_page_is_what_the_commands_say() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), "stale: make commands"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
def test_every_command_explains_itself(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = command.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "None" not in capsys.readouterr().out
    assert f"## {name}\n" in reference()
    assert f"| `{name}" in (ROOT / "README.md").read_text(encoding="utf-8")
