"""Entry of `python -m data_export_airflow`."""

import io
import logging
import os
import sys

# Airflow's SDK reads connections and variables of the metadata database only where the process calls itself a server
# (airflow.sdk.execution_time.supervisor); without it the command line would see environment and secrets backends only.
os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")

# A person waits here for an answer: of Airflow and its libraries only errors are shown, unless more is asked for.
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
console = logging.StreamHandler()
line = "\r\x1b[K" if sys.stderr.isatty() else ""  # in place of a line of progress
console.setFormatter(logging.Formatter(f"{line}%(message)s"))
for package in ("data_export", "data_export_airflow"):
    log = logging.getLogger(package)
    log.addHandler(console)
    log.setLevel(logging.INFO)
    log.propagate = False  # Airflow would print it again, with everything it knows about the line

for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character is no reason to say nothing
        stream.reconfigure(errors="backslashreplace")

from data_export_airflow.commands.cli import main  # noqa: E402 - Airflow reads its settings when it is imported

sys.exit(main())
