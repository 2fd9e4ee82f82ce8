"""`validate`: every problem of every customer file, without network and without Airflow."""

import argparse
import json
from pathlib import Path
from typing import Any

from data_export_airflow.commands.output import painted


def add(commands: Any) -> None:
    parser = commands.add_parser("validate", help="list every problem of every customer file")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="customer files, or folders of them; default: the customers folder. A file is compared with all files "
        "of its folder: no two may write the same objects",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a list of objects: file, line, key, severity, message"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.platform import customers_dir
    from data_export.config.problems.problems import once
    from data_export.config.validate import check_files

    loaded = check_files(options.files or [customers_dir()])
    said = once(loaded.problems)
    errors = sum(problem.is_error for problem in said)
    if options.json:
        print(json.dumps([problem.to_dict() for problem in loaded.problems], indent=2), file=options.out)
        return 1 if errors else 0
    for problem in said:
        place, colon, message = str(problem).partition(": ")
        colour = "red" if problem.is_error else "yellow"
        print(f"{painted(place, colour, options.out)}{colon}{message}", file=options.out)
    right, others = len(loaded.right), f", {errors} error{'s' * (errors != 1)} in others" if errors else ", no errors"
    print(f"{right} customer file{'s' * (right != 1)} {'is' if right == 1 else 'are'} right{others}", file=options.out)
    return 1 if errors else 0
