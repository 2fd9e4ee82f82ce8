"""Entry of `python -m data_export_airflow`."""

import os
import sys

# Airflow's SDK reads connections and variables of the metadata database only where the process calls itself a server
# (airflow.sdk.execution_time.supervisor); without it the command line would see environment and secrets backends only.
os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")

from data_export_airflow.cli import main

sys.exit(main())
