"""The page of all commands: `python -m data_export_airflow.commands.reference` writes it anew."""

import argparse

from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import PROGRAM, parser

FILE = ROOT / "docs" / "commands.md"
_HEAD = """\
<!-- Made by `make commands` from the commands themselves: do not edit. -->
# Commands

    {program} COMMAND ...

with `plugins/` of this checkout on the `PYTHONPATH`. Beside `make up`, `. .state/airflow.env` sets a shell up for it.
Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 a problem, 2 wrong usage.
Of what Airflow and its libraries log, only errors are shown; `AIRFLOW__LOGGING__LOGGING_LEVEL=INFO` shows more.
"""


def reference() -> str:
    """Markdown, the same whatever the version of Python, whose own help texts differ."""
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in commands._choices_actions}
    parts = [_HEAD.format(program=PROGRAM)]
    for name, command in commands.choices.items():
        parts.append(f"## {name}\n\n{_sentence(helps[name])}\n")
        if command.description:
            parts.append(f"{command.description}\n")
        rows = [_row(action) for action in command._actions if not isinstance(action, argparse._HelpAction)]
        if rows:
            parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _row(action: argparse.Action) -> str:
    values = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.metavar or action.dest.upper()
    names = ", ".join(action.option_strings)
    call = f"{names} {values}" if names and action.nargs != 0 else names or str(values)
    needed = "required; " if names and action.required else ""
    return f"| `{call.replace('|', chr(92) + '|')}` | {needed}{action.help} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
