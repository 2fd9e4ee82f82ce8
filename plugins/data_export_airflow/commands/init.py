"""`init`: what an installation needs in Airflow."""

import argparse
from typing import Any

from data_export_airflow.commands.output import as_json


def add(commands: Any) -> None:
    parser = commands.add_parser("init", help="create what an installation needs in Airflow (pools); safe to repeat")
    parser.add_argument("--json", action="store_true", help="print a list of objects: pool, slots, created")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export_airflow.metadata.airflow_database import airflow_database, create_pool, tasks_at_once
    from data_export_airflow.operators.base import POOLS, slots_that_fit

    with airflow_database():
        slots = {name: slots_that_fit(name, tasks_at_once()) for name in POOLS}
        made = {name: create_pool(name, slots[name], description) for name, (_, description) in POOLS.items()}
    if options.json:
        pools = [{"pool": name, "slots": slots[name], "created": created} for name, created in made.items()]
        print(as_json(pools), file=options.out)
        return 0
    for name, created in made.items():
        print(f"pool {name}: {f'created with {slots[name]} slots' if created else 'there'}", file=options.out)
    return 0
