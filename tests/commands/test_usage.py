"""Wrong usage is one line and code 2, never a traceback."""

import pytest

from data_export_airflow.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "x.yaml", "--from", "2025-03-17", "--to", "2025-03-16"], "before it begins"),
        (["check"], "name an export"),
        (
            ["backfill", "acme", "--from", "2025-03-16", "--to", "2025-03-17", "--max-active-runs", "0"],
            "give 1 or more",
        ),
    ],
)
def test_told_by_the_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [["check", "--host-key", "host:ssh"], ["nonsense"], ["run", "x.yaml", "--from", "yesterday", "--to", "2025-03-16"]],
)
def test_told_by_the_parser(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
