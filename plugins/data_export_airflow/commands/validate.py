"""`validate`: every problem of every customer file."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("validate", help="list every problem of every customer file")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: all of the customers folder")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.load import load_customers

    loaded = load_customers(files=options.files or None)
    for problem in loaded.problems:
        print(problem, file=options.out)
    errors = sum(problem.is_error for problem in loaded.problems)
    print(
        f"{len(loaded.exports)} customer files are right, {errors} errors in others"
        if errors
        else f"{len(loaded.exports)} customer files, no errors",
        file=options.out,
    )
    return 1 if errors else 0
