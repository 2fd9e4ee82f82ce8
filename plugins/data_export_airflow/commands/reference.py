"""The page of all commands: `python -m data_export_airflow.commands.reference` writes it anew."""

import argparse

from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import PROGRAM, parser

FILE = ROOT / "docs" / "commands.md"
_HEAD = """\
<!-- Made by `make commands` from the commands themselves: do not edit. -->
# Commands

    {program} COMMAND ...

with `plugins/` of this checkout on the `PYTHONPATH`. While `make up` runs, `. .state/airflow.env` sets up a shell.
Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 a problem, 2 wrong usage.
Of what Airflow and its libraries log, only errors are shown; `AIRFLOW__LOGGING__LOGGING_LEVEL=INFO` shows more.

Colours show on terminals only, and not where `NO_COLOR` is set. With `--json` a command prints one JSON value and
nothing else on standard output. What takes longer than a second says on standard error what is under way: on a
terminal in a line that vanishes, elsewhere after ten seconds, so that a quick cron job mails nothing.

## What a start costs

CPU seconds before a command does its work, by `PYTHONPATH=plugins python -m benchmarks.startup --first` on two shared
cores. `make install` and the Dockerfile compile all bytecode, so the first start costs what every later one does. One
second is the import of Airflow itself.

| command | first start without compiled bytecode | each start before | each start now |
|---|---|---|---|
| `validate`, `new` | 0.7 | 0.2 | 0.2 |
| `check --host-key` | 3.8 | 1.6 | 0.2 |
| `plan`, nothing changed | 3.5 | 1.6 | 0.3 |
| `plan`, an export added | 3.5 | 1.6 | 1.4 |
| `run` | 4.4 | 2.1 | 2.1 |
| `check` | 4.8 | 2.5 | 2.4 |
| `backfill` | 4.5 | 2.0 | 2.0 |
| `status`, `files`, `verify` | 4.3 | | 1.9 |
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
