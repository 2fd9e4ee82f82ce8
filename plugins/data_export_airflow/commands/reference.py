"""The pages of all commands and of all errors: `python -m data_export_airflow.commands.reference` writes them anew."""

import argparse
from html import escape

from data_export.alerts.guide import ABOUT_RETRIES, GUIDES, anchor_of
from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import PROGRAM, parser

FILE = ROOT / "docs" / "commands.md"
ERRORS_FILE = ROOT / "docs" / "errors.md"
ERRORS_PAGE = ROOT / "plugins" / "data_export_airflow" / "page" / "static" / "errors.html"
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

`status`, `files` and `verify` ask Airflow's database or, where `DATA_EXPORT_AIRFLOW_URL` names its API server, ask that
over HTTP as the user of `DATA_EXPORT_AIRFLOW_TOKEN`, or of `DATA_EXPORT_AIRFLOW_USERNAME` and
`DATA_EXPORT_AIRFLOW_PASSWORD` ([operate.md](operate.md#look-from-a-terminal)).

## What a start costs

CPU seconds before a command does its work, by `PYTHONPATH=plugins python -m benchmarks.startup --first` on two slow
cores. `make install` and the Dockerfile compile all bytecode, so the first start costs what every later one does.

| command | first start without compiled bytecode | each start |
|---|---|---|
| `validate`, `new` | 1.1 | 0.3 |
| `check --host-key`, `keys new` | 1.8 | 0.5 |
| `files`, `status` over HTTP | 3.0 | 0.8 |
| `plan`, `sheet` | 5.6 | 2.0 |
| `files`, `status` | 7.9 | 2.7 |
| `run`, `check`, `backfill` | 8.8 | 3.3 |
| `verify` | 8.5 | 4.0 |
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


def errors() -> str:
    """Markdown: docs/errors.md."""
    head = (
        "<!-- Made by `make commands` from the errors themselves: do not edit. -->\n# Errors\n\n"
        "The word before the colon, as in `AccessDenied: ...`, is one of these. Logs, notes of runs, the page\n"
        "and alerts link to it as Airflow shows it, at `/data-exports/errors.html`; the anchors are the same and stay."
        f"\n\nRetries over about an hour are those of an export's steps: {ABOUT_RETRIES}"
    )
    parts = [head]
    for name, guide in GUIDES.items():
        fix = guide.fix.format(export="NAME")
        parts.append(f"## {name}\n\n{guide.means}\n\n- **Fails**: {guide.fails}.\n- **What to do**: {fix}")
    return "\n\n".join(parts) + "\n"


def errors_page() -> str:
    """HTML: errors.html of the page, which works without a script and without signing in."""
    parts = []
    for name, guide in GUIDES.items():
        fails, means, fix = map(_html, (guide.fails, guide.means, guide.fix.format(export="NAME")))
        parts.append(
            f'  <section class="card" id="{anchor_of(name)}" aria-labelledby="{anchor_of(name)}-title">\n'
            f'    <h2 id="{anchor_of(name)}-title">{name}</h2>\n    <p>{means}</p>\n'
            f"    <dl><dt>Fails</dt><dd>{fails}</dd><dt>What to do</dt><dd>{fix}</dd></dl>\n  </section>"
        )
    links = " ".join(f'<a href="#{anchor_of(name)}">{name}</a>' for name in GUIDES)
    return _PAGE.format(links=links, about=_html(ABOUT_RETRIES), sections="\n".join(parts))


def _html(text: str) -> str:
    parts = escape(text).split("`")  # every other one is code
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


_PAGE = """\
<!doctype html>
<!-- Made by `make commands` from the errors themselves: do not edit. -->
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Data exports: errors</title>
  <script src="js/theme.js"></script>
  <link rel="stylesheet" href="css/base.css">
  <link rel="stylesheet" href="css/export.css">
  <link rel="icon" href="icon.svg">
</head>
<body>
  <header class="page-head">
    <h1>Data exports: errors</h1>
    <nav aria-label="Views"><a href="./">Exports</a><a href="fleet.html">Fleet</a></nav>
  </header>
  <main class="errors">
  <p>The word before the colon, as in <code>AccessDenied: ...</code>, is one of these. Retries over about an
  hour are those of an export's steps: {about}</p>
  <p class="all">{links}</p>
{sections}
  </main>
  <script type="module" src="js/errors.js"></script>
</body>
</html>
"""


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
    ERRORS_FILE.write_text(errors(), encoding="utf-8")
    ERRORS_PAGE.write_text(errors_page(), encoding="utf-8")
