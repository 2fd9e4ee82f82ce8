"""`status`: how every export stands, as the page shows it, for a terminal or a cron job."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, TextIO

from data_export.wording import harmless
from data_export_airflow.commands.output import Progress, as_json, columns, instant, joined, painted

_BAD = {"broken": "red", "failed": "red", "late": "red", "incomplete": "yellow", "unwatched": "yellow"}
_COLOURS = _BAD | {
    "delivered": "green",
    "retrying": "yellow",
    "running": "blue",
    "paused": "dim",
    "off": "dim",
    "ended": "dim",
}
_HEAD = ("NAME", "STATE", "DELIVERED TO (UTC)", "LAG", "NEXT RUN (UTC)", "REASON")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "status",
        help="show how the exports stand: state, last delivery, lag, next run, reason",
        description="The same as the page Data exports. For a cron job: exit code 1 where an export is broken, failed, "
        "late, incomplete or not watched, where late windows are not known, or where no scheduler is alive.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="exports, by the name of their files; default: all")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one object: as_of, scheduler, late_unknown, exports with all that the page knows",
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    with Progress("asking Airflow"):
        found = _asked()
    exports, unknown, is_alive = found["exports"], found["late_unknown"], found["scheduler"]
    chosen = _named(options.names, exports) if options.names else exports
    if options.json:
        print(as_json(found | {"exports": chosen}), file=options.out)
    else:
        _print(chosen, options.out)
    if unknown:
        print(harmless(unknown, 1200), file=sys.stderr)
    if not is_alive:
        print("no scheduler of Airflow is alive: no run starts until one is", file=sys.stderr)
    return 1 if unknown or not is_alive or any(export["state"] in _BAD for export in chosen) else 0


def _asked() -> dict[str, Any]:
    """What stands where: as_of, scheduler, late_unknown, exports; of the running Airflow that is named, else of its
    database.

    Raises:
        ConfigError: neither answers.
    """
    from data_export_airflow.connections.airflow_api import airflow_url, ask

    if url := airflow_url():
        asked: dict[str, Any] = ask(url, "status")
        return asked

    from datetime import UTC, datetime

    from data_export_airflow.metadata.airflow_database import airflow_database, airflow_session
    from data_export_airflow.metadata.backfills import has_scheduler
    from data_export_airflow.metadata.missing import MissingWindows
    from data_export_airflow.metadata.overview import at_a_glance, standing
    from data_export_airflow.metadata.receipts import Receipts

    with airflow_database(), airflow_session() as session:
        as_of, rows, unknown = at_a_glance(session, datetime.now(UTC), MissingWindows())
        delivered = Receipts()(session, [row.delivered_key for row in rows if row.delivered_key])
        return {
            "as_of": as_of,
            "scheduler": has_scheduler(session),
            "late_unknown": unknown,
            "exports": standing(session, rows, delivered),
        }


def _named(names: Iterable[str], exports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Raises:
        ConfigError: Airflow knows no export of that name.
    """
    from data_export.config.folder import unknown_to_airflow
    from data_export.errors import ConfigError

    known = {export["name"]: export for export in exports}
    for name in names:
        if name not in known:
            raise ConfigError(unknown_to_airflow(name, known))
    return [known[name] for name in dict.fromkeys(names)]


def _print(exports: list[dict[str, Any]], out: TextIO) -> None:
    from data_export.wording import duration_in_words

    rows = [
        (
            export["name"],
            export["state"],
            instant(export["delivered_end"]),
            duration_in_words(export["lag_seconds"]),
            instant(export["next_run"]),
            export["reason"] or "",
        )
        for export in exports
    ]
    head, *table = columns(_HEAD, rows)
    print(painted(joined(head), "dim", out), file=out)
    for cells, (_, state, *_rest) in zip(table, rows, strict=True):
        cells[1] = painted(cells[1], _COLOURS.get(state), out)
        print(joined(cells), file=out)
    counts = Counter(export["state"] for export in exports)
    states = ", ".join(f"{number:,} {state}" for state, number in counts.most_common())
    print(f"{len(exports):,} export{'s' * (len(exports) != 1)}{f': {states}' if exports else ''}", file=out)
