"""`validate` and `check`: whether customer files are right, and whether all that an export needs is there.

`validate` needs neither network nor Airflow.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data_export.wording import harmless
from data_export_airflow.commands.output import Progress, as_json, painted

if TYPE_CHECKING:
    from data_export.check.results import CheckResult


def add_validate(commands: Any) -> None:
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
    parser.set_defaults(command=run_validate)


def run_validate(options: argparse.Namespace) -> int:
    from data_export.config.platform import customers_dir
    from data_export.config.validate import check_files

    loaded = check_files(options.files or [customers_dir()])
    errors = sum(problem.is_error for problem in loaded.problems)
    if options.json:
        print(as_json([problem.to_dict() for problem in loaded.problems]), file=options.out)
        return 1 if errors else 0
    for problem in loaded.problems:
        place, colon, message = str(problem).partition(": ")
        colour = "red" if problem.is_error else "yellow"
        print(f"{painted(place, colour, options.out)}{colon}{message}", file=options.out)
    if not loaded.right and not errors:
        places = ", ".join(map(str, options.files or [customers_dir()]))
        print(f"no customer file is in {places}: the name of one ends in .yaml", file=options.out)
        return 0
    right, others = len(loaded.right), f", {errors} error{'s' * (errors != 1)} in others" if errors else ", no errors"
    print(f"{right} customer file{'s' * (right != 1)} {'is' if right == 1 else 'are'} right{others}", file=options.out)
    return 1 if errors else 0


def add(commands: Any) -> None:
    parser = commands.add_parser("check", help="try everything an export needs, before its first window")
    parser.add_argument("names", nargs="*", metavar="NAME", help="exports, by the name of their files")
    parser.add_argument(
        "--json", action="store_true", help="print a list of objects: export, step, ok, detail; or of keys"
    )
    parser.add_argument("--all", action="store_true", help="every export of the customers folder")
    parser.add_argument(
        "--host-key", type=_server, metavar="HOST[:PORT]", help="show the keys of an SFTP server, to compare and paste"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    if options.host_key and (options.names or options.all):
        print("--host-key asks a server, and checks no export: leave out the names and --all", file=sys.stderr)
        return 2
    if options.host_key:  # asks no Airflow, whose import alone takes a second
        return _show_host_keys(options.host_key, options)

    from data_export.config.folder import customer_names
    from data_export.config.platform import customers_dir

    names = customer_names() if options.all else options.names
    if not names:
        nobody = f"no customer file is in {customers_dir()}: put one there, or set DATA_EXPORT_CUSTOMERS_DIR"
        print(nobody if options.all else "name an export, or --all, or --host-key HOST[:PORT]", file=sys.stderr)
        print("[]\n" * (options.all and options.json), end="", file=options.out)
        return 1 if options.all else 2
    return _check(list(dict.fromkeys(names)), options)


def _check(names: list[str], options: argparse.Namespace) -> int:
    """Prints each row as it comes; what exports share is tried once."""
    from data_export.check.results import CheckResult, row, shown, verdict

    found: dict[str, list[CheckResult]] = {}
    with Progress("loading Airflow") as progress:
        for name, result in _results(names, progress):
            if not options.json and name not in found:
                progress.print("\n" * bool(found) + harmless(name), options.out)
            found.setdefault(name, []).append(result)
            if not options.json:
                mark = painted(shown(result), "green" if result.ok else "red", options.out)
                progress.print(row(result, mark), options.out)
    everything = [result for results in found.values() for result in results]
    is_good = all(result.ok for result in everything)
    if options.json:
        rows = [{"export": name, **result.to_dict()} for name, results in found.items() for result in results]
        print(as_json(rows), file=options.out)
    else:
        of_many = f"{len(names):,} exports, " if len(names) > 1 else ""
        print(
            painted(f"\n{of_many}{verdict(everything)}", "green" if is_good else "red", options.out), file=options.out
        )
    return 0 if is_good else 1


def _results(names: list[str], progress: Progress) -> Iterator[tuple[str, "CheckResult"]]:
    from data_export.check.results import CheckResult
    from data_export.errors import ConfigError
    from data_export_airflow.execution.checking import Shared, check_export

    shared: Shared = {}
    for name in names:

        def on_step(step: str, name: str = name) -> None:
            progress.text = f"checking {harmless(name)}: {step.partition(':')[0]}"

        try:
            for result in check_export(name, shared, on_step):
                yield name, result
        except ConfigError as error:  # there is nothing to try; the others are checked all the same
            yield name, CheckResult("customer file", False, str(error))


def _server(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[::1]:port` or `::1`."""
    bare = text.count(":") > 1 and not text.startswith("[")
    try:
        parts = urlsplit(f"//[{text}]" if bare else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or "@" in parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a server: write sftp.customer.example, with :PORT if not 22")
    return host, 22 if port is None else port


def _show_host_keys(server: tuple[str, int], options: argparse.Namespace) -> int:
    from data_export.delivery.sftp.host_keys import fetch_host_keys
    from data_export.delivery.threads import run_async

    with Progress(f"asking {server[0]} for its keys"):
        shown = run_async(fetch_host_keys(*server))
    if options.json:
        print(as_json([{"sftp_host_key": line, "fingerprint": mark} for line, mark in shown]), file=options.out)
        return 0
    # The first kind that the server has is the one it is asked for; more are for servers that drop one of them.
    lines = "\n".join(f"  {fingerprint}\n  sftp_host_key: {line}" for line, fingerprint in shown)
    print(
        f"{server[0]} shows\n{lines}\n"
        "Compare a fingerprint with what its administrator says; only then write that key into the file.",
        file=options.out,
    )
    return 0
