"""Whether the component of this container is alive: `python deploy/health.py {http PORT PATH | job TYPE | file PATH}`.

Exit code 0 says yes. Airflow's and Celery's own checks import all of Airflow, which is 10 to 20 CPU seconds a minute
for each container; this is 0.1 of one.
"""

import os
import socket
import sys
import time
from pathlib import Path

LATEST_SECONDS = 60


def http(port: str, path: str) -> bool:
    """Whether a server of this machine answers 200."""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=8) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return connection.makefile("rb").readline().split()[1:2] == [b"200"]


def job(kind: str) -> bool:
    """Whether Airflow's database has a heartbeat of this machine's component from the last minute."""
    import psycopg2

    dsn = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "", 1)
    connection = psycopg2.connect(dsn, connect_timeout=8)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM job WHERE job_type = %s AND hostname = %s AND state = 'running'"
            " AND latest_heartbeat > now() - %s * interval '1 second')",
            (kind, socket.getfqdn(), LATEST_SECONDS),
        )
        return bool(cursor.fetchone()[0])


def file(path: str) -> bool:
    """Whether the file was touched within the last minute."""
    return time.time() - Path(path).stat().st_mtime < LATEST_SECONDS


def main(check: str, *arguments: str) -> str | None:
    """Runs one check; returns what is wrong."""
    if {"http": http, "job": job, "file": file}[check](*arguments):
        return None
    return f"{check} {' '.join(arguments)}: not alive"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
