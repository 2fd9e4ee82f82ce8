"""`init` and `clean-database`: what an installation needs in Airflow's database, and what it needs no more."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from data_export_airflow.commands.output import as_json


def add(commands: Any) -> None:
    parser = commands.add_parser("init", help="create what an installation needs in Airflow (pools); safe to repeat")
    parser.add_argument("--json", action="store_true", help="print a list of objects: pool, slots, created")
    parser.set_defaults(command=run)
    parser = commands.add_parser(
        "clean-database",
        help="remove history from Airflow's database (`maintenance.database_days`), and Celery's results; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print an object: before, removed (rows by table)")
    parser.set_defaults(command=clean_database)


def run(options: argparse.Namespace) -> int:
    """Also warns of limits of the queue that cost runs: they are settings, which only a person can change."""
    from data_export_airflow.execution.checking import check_queue
    from data_export_airflow.metadata.airflow_database import airflow_database, create_pool, tasks_at_once
    from data_export_airflow.operators.base import POOLS, slots_that_fit

    with airflow_database():
        slots = {name: slots_that_fit(name, tasks_at_once()) for name in POOLS}
        made = {name: create_pool(name, slots[name], description) for name, (_, description) in POOLS.items()}
    for result in check_queue():
        if not result.ok:
            print(f"{result.step}: {result.detail}", file=sys.stderr)
    if options.json:
        pools = [{"pool": name, "slots": slots[name], "created": created} for name, created in made.items()]
        print(as_json(pools), file=options.out)
        return 0
    for name, created in made.items():
        print(f"pool {name}: {f'created with {slots[name]} slots' if created else 'there'}", file=options.out)
    return 0


def clean_database(options: argparse.Namespace) -> int:
    """A task cannot do this: Airflow keeps tasks from its database, and workers have no login for it."""
    from data_export.config.platform import load_platform
    from data_export_airflow.metadata.airflow_database import airflow_database, clean, clean_results

    days, removed = load_platform().maintenance.database_days, dict[str, int]()
    before = None if days is None else datetime.now(UTC) - timedelta(days=days)
    if before is None:
        print("maintenance.database_days is null: Airflow's history stays", file=sys.stderr)
    else:
        with airflow_database():
            removed = clean(before)
    results = clean_results()
    if options.json:
        removed |= {} if results is None else {"celery_taskmeta": results}
        print(as_json({"before": before and before.isoformat(), "removed": removed}), file=options.out)
        return 0
    if before is not None:
        rows = ", ".join(f"{count:,} of {name}" for name, count in removed.items() if count) or "none"
        print(f"rows from before {before:%Y-%m-%d} that were removed: {rows}", file=options.out)
    if results is not None:
        print(f"results of Celery's tasks that were removed: {results:,}", file=options.out)
    return 0
