"""`python -m data_export_airflow`: what a data engineer does without the Airflow UI."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from data_export.errors import DataExportError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 is success, 1 a problem, 2 wrong usage. Results go to standard output, all else to error."""
    options = _parser().parse_args(arguments)
    options.out = sys.stdout
    try:
        with redirect_stdout(sys.stderr):  # Airflow logs to standard output, which is the result's alone
            return int(options.command(options))
    except DataExportError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_export_airflow", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    validate = commands.add_parser("validate", help="list every problem of every customer file")
    validate.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: all of the customers folder")
    validate.set_defaults(command=_validate)

    run = commands.add_parser("run", help="export one window without a scheduler and print the receipt as JSON")
    run.add_argument("file", type=Path, metavar="FILE", help="customer file")
    run.add_argument("--from", dest="start", type=_instant, required=True, help="window starts, e.g. 2025-03-16 (UTC)")
    run.add_argument("--to", dest="end", type=_instant, required=True, help="window ends, exclusive")
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="try everything an export needs, before its first window")
    check.add_argument("names", nargs="*", metavar="NAME", help="exports, by the name of their files")
    check.add_argument("--all", action="store_true", help="every export of the customers folder")
    check.add_argument("--host-key", metavar="HOST[:PORT]", help="show the key of an SFTP server, to compare and paste")
    check.set_defaults(command=_check)

    init = commands.add_parser("init", help="create what an installation needs in Airflow (pools); safe to repeat")
    init.set_defaults(command=_init)
    return parser


def _validate(options: argparse.Namespace) -> int:
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


def _run(options: argparse.Namespace) -> int:
    from data_export.window import ExportWindow
    from data_export_airflow.run import run_export

    receipt = run_export(options.file, ExportWindow(options.start, options.end))
    print(receipt.model_dump_json(indent=2), file=options.out)
    return 0


def _check(options: argparse.Namespace) -> int:
    from data_export.check import table
    from data_export.config.load import load_customers
    from data_export_airflow.checking import check_export

    if options.host_key:
        return _show_host_key(options.host_key, options.out)
    names = sorted(load_customers().exports) if options.all else options.names
    if not names:
        print("name an export, or --all, or --host-key HOST[:PORT]", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        results = check_export(name)
        failed += sum(not result.ok for result in results)
        print(f"{name}\n{table(results)}\n", file=options.out)
    return 1 if failed else 0


def _show_host_key(server: str, out: TextIO) -> int:
    import asyncio

    from data_export.delivery.sftp_connection import fetch_host_key

    host, _, port = server.partition(":")
    line, fingerprint = asyncio.run(fetch_host_key(host, int(port or 22)))
    print(
        f"{server} shows {fingerprint}\nCompare it with what its administrator says; only then write into the file:\n"
        f"  sftp_host_key: {line}",
        file=out,
    )
    return 0


def _init(options: argparse.Namespace) -> int:
    from airflow.models.pool import Pool

    from data_export_airflow.factory import POOLS

    for name, (slots, description) in POOLS.items():
        if Pool.get_pool(name) is None:  # slots that somebody has changed since stay as they are
            Pool.create_or_update_pool(name, slots=slots, description=description, include_deferred=False)
            print(f"pool {name}: created with {slots} slots", file=options.out)
        else:
            print(f"pool {name}: there", file=options.out)
    return 0


def _instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
