"""`init`: what an installation needs in Airflow."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("init", help="create what an installation needs in Airflow (pools); safe to repeat")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export_airflow.metadata.airflow_database import airflow_database, create_pool, tasks_at_once
    from data_export_airflow.operators.base import POOLS, slots_that_fit

    with airflow_database():
        for name, (_, description) in POOLS.items():
            slots = slots_that_fit(name, tasks_at_once())
            made = create_pool(name, slots, description)
            print(f"pool {name}: {f'created with {slots} slots' if made else 'there'}", file=options.out)
    return 0
