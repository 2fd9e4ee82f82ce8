"""`check`: everything an export needs, tried before its first window."""

import argparse
import sys
from typing import Any
from urllib.parse import urlsplit

from data_export_airflow.commands.output import Progress, as_json


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
    if options.host_key:  # asks no Airflow, whose import alone takes a second
        return _show_host_keys(options.host_key, options)

    from data_export.check.results import CheckResult, table
    from data_export.config.load import customer_names
    from data_export.config.platform import customers_dir
    from data_export.errors import ConfigError

    names = customer_names() if options.all else options.names
    if not names:
        nobody = f"no customer file is in {customers_dir()}: put one there, or set DATA_EXPORT_CUSTOMERS_DIR"
        print(nobody if options.all else "name an export, or --all, or --host-key HOST[:PORT]", file=sys.stderr)
        return 1 if options.all else 2
    with Progress("asking Airflow for its pools"):
        from data_export_airflow.execution.checking import check_export, check_pools

        pools, found = check_pools(), dict[str, list[CheckResult]]()
    for name in names:
        try:
            with Progress(f"checking {name}"):
                results = check_export(name) + pools
        except ConfigError as error:  # there is nothing to try; the others are checked all the same
            results = [CheckResult("customer file", False, str(error))]
        found[name] = results
        if not options.json:
            print(f"{name}\n{table(results)}\n", file=options.out)
    if options.json:
        rows = [{"export": name, **result.to_dict()} for name, results in found.items() for result in results]
        print(as_json(rows), file=options.out)
    return 0 if all(result.ok for results in found.values() for result in results) else 1


def _server(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[::1]:port` or `::1`."""
    bare = text.count(":") > 1 and not text.startswith("[")
    try:
        parts = urlsplit(f"//[{text}]" if bare else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or "@" in parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is no server: write sftp.customer.example, with :PORT if not 22")
    return host, 22 if port is None else port


def _show_host_keys(server: tuple[str, int], options: argparse.Namespace) -> int:
    import asyncio

    from data_export.delivery.sftp.host_keys import fetch_host_keys

    with Progress(f"asking {server[0]} for its keys"):
        shown = asyncio.run(fetch_host_keys(*server))
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
