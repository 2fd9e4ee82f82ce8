"""`python -m data_export_airflow`: what a data engineer does without the Airflow UI."""

import argparse
import os
import re
import select
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any, NoReturn, TextIO

from data_export.errors import DataExportError
from data_export_airflow.commands import backfill, check, files, handover, init, new, plan, run, status

PROGRAM = "python -m data_export_airflow"
#: What adds each command, in the order of the help.
COMMANDS = (
    new.add,
    check.add_validate,
    plan.add,
    handover.add,
    check.add,
    status.add,
    files.add,
    backfill.add,
    run.add,
    init.add,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 is success, 1 a problem, 2 wrong usage. Results go to standard output, all else to error."""
    made = parser()
    options = made.parse_args(arguments)
    if options.command is None:
        made.print_help(sys.stderr)
        return 2
    options.out = sys.stdout
    try:
        with redirect_stdout(sys.stderr):  # Airflow logs to standard output, which is the result's alone
            code = int(options.command(options))
        options.out.flush()
        return code
    except DataExportError as error:
        problems = getattr(error, "problems", ())  # of a broken file: `file:line: key: problem`, which says it all
        print(*(problems or [f"{type(error).__name__}: {error}"]), sep="\n", file=sys.stderr)
        return 1
    except BrokenPipeError:
        if _is_read(options.out):
            raise
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130  # as shells say of a program that Ctrl-C ended


def _is_read(out: TextIO) -> bool:
    """Whether somebody still reads our output: `| head` does not, once it has enough."""
    poll = select.poll()
    poll.register(out.fileno(), 0)
    if not poll.poll(0):  # faults are reported unasked
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # Python flushes once more when it ends
    return False


class _Parser(argparse.ArgumentParser):
    """Says what a misspelt command, flag or choice was probably meant to be, and shows the usage of the command."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        wrong = re.search("invalid choice: '(.*?)' .choose from (.*)", message)
        if wrong:
            message += _near(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        elif flag := re.search("^unrecognized arguments: (--[^ =]*)", message):
            message += _near(flag[1], re.findall(r"--[\w-]+", self.format_usage()))
        super().error(message)


def _near(word: str, known: Iterable[str]) -> str:
    from data_export.config.problems.explain import near

    return near(word, [*known])


def parser() -> argparse.ArgumentParser:
    made = _Parser(prog=PROGRAM, description="What a data engineer does without the Airflow UI.")
    made.set_defaults(command=None)
    commands = made.add_subparsers(metavar="COMMAND", title="commands")
    for add in COMMANDS:
        add(commands)
    return made
