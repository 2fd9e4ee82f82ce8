"""Entry of `python -m data_export_airflow`."""

import sys

from data_export_airflow.cli import main

sys.exit(main())
