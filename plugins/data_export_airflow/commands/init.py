"""`init`: what an installation needs in Airflow."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("init", help="create what an installation needs in Airflow (pools); safe to repeat")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from airflow.models.pool import Pool

    from data_export_airflow.metadata.database import airflow_database
    from data_export_airflow.operators.base import POOLS

    with airflow_database():
        for name, (slots, description) in POOLS.items():
            if Pool.get_pool(name) is None:  # slots that somebody has changed since stay as they are
                Pool.create_or_update_pool(name, slots=slots, description=description, include_deferred=False)
                print(f"pool {name}: created with {slots} slots", file=options.out)
            else:
                print(f"pool {name}: there", file=options.out)
    return 0
