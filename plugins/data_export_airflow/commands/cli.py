"""`python -m data_export_airflow`: what a data engineer does without the Airflow UI."""

import argparse
import os
import select
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

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


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=PROGRAM, description="What a data engineer does without the Airflow UI.")
    made.set_defaults(command=None)
    commands = made.add_subparsers(metavar="COMMAND", title="commands")
    for add in COMMANDS:
        add(commands)
    return made
