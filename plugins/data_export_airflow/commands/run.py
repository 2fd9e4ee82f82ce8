"""`run`: one window, without a scheduler."""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from data_export_airflow.commands.output import Progress


def add(commands: Any) -> None:
    parser = commands.add_parser("run", help="export one window without a scheduler and print the receipt as JSON")
    parser.add_argument("file", type=Path, metavar="FILE", help="customer file")
    parser.add_argument(
        "--from", dest="start", type=_instant, required=True, help="window starts, e.g. 2025-03-16 (UTC)"
    )
    parser.add_argument("--to", dest="end", type=_instant, required=True, help="window ends, exclusive")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.window import ExportWindow

    try:
        window = ExportWindow(options.start, options.end)
    except ValueError as error:
        print(f"--from and --to: {error}", file=sys.stderr)
        return 2
    with Progress(f"exporting {window} of {options.file.stem}"):
        from data_export_airflow.execution.steps import run_export

        receipt = run_export(options.file, window)
    print(receipt.model_dump_json(indent=2), file=options.out)
    return 0


def _instant(text: str) -> datetime:
    from data_export.config.moments import instant, moment

    try:
        return instant(moment(text), "UTC")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
