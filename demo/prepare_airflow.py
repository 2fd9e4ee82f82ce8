"""What a new Airflow needs, in one process since importing Airflow takes longest: its tables, the service's pools."""

import sys

from airflow.utils.db import initdb

from data_export_airflow.commands.cli import main

if __name__ == "__main__":
    initdb()
    sys.exit(main(["init"]))
