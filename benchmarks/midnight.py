"""The midnight of many exports: all due at one moment, run by a real Airflow on this machine's cores.

    export PYTHONPATH=plugins
    python -m benchmarks.midnight                 # 500 exports of one site, 20 work orders and 5 images each
    python -m benchmarks.midnight --exports 20    # some minutes
    taskset -c 0,1 python -m benchmarks.midnight  # on two cores of a larger machine

The embedded platform has one site for each export; its Airflow (LocalExecutor, `--parallelism` tasks at once, one
API server, one scheduler) parses the exports while they are paused. Then one statement lets all of them go: each has
yesterday's window to deliver to Cloud Storage. Every data file and image is counted at the target. The emulators of
Cloud Storage and S3, slower than the real ones, share the cores and have a line of their own.
"""

import argparse
import json
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
from psycopg import sql

from data_export.config.models import dag_id
from demo.data import COLUMNS, DemoData
from demo.fill import bucket_objects, fill_images
from demo.platform import CUSTOMER_BUCKET, IMAGES_BUCKET
from demo.rest import wait_for
from demo.session import Sayer, Session, running

CUSTOMER = """\
site_id: [{site}]
interval: daily
start_date: 2025-01-01
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://demo-customer/{name}/", export_images: true}}
"""
_POLL_SECONDS = 2.0


def name_of(number: int) -> str:
    return f"midnight-{number:05}"


def rows_of(exports: int, orders: int, images: int, day: datetime) -> DemoData:
    """One site for each export, with its work orders of one day; the first ones have an image each."""
    data = DemoData()
    for site in (UUID(int=number + 1) for number in range(exports)):
        for number in range(orders):
            order, item, image, at = uuid4(), uuid4(), uuid4(), day + timedelta(minutes=number)
            metadata = json.dumps({"created_with": "mobile_app", "lot": number})
            data.add("work_order", order, f"FTTH {number:03}", site, at, at, metadata, 0.5)
            data.add("work_item", item, order, "l4_civil_open", 0)
            if number < images:
                data.add("input", image, item, at, ".png", metadata)
                data.add("data_conformity", image, "blur", 3, "warning")
                data.add("job_conformity", image, "l4_civil_type", "true", None, None, "OK", True)
                data.images.append(f"{site}/{image}.png")
    return data


def fill(session: Session, data: DemoData) -> None:
    with psycopg.connect(session.platform.postgres.dsn("platform")) as connection:
        for table, columns in COLUMNS.items():
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in data.tables[table]:
                    copy.write_row(row)
    fill_images(session.platform.gcs.url, IMAGES_BUCKET, data)


def spent(session: Session) -> dict[str, float]:
    """CPU seconds so far by component, those of its children that live or have been waited for included."""
    pids = session.airflow.processes()
    scheduler = psutil.Process(pids["scheduler"])
    found = {name: _of(psutil.Process(pid)) for name, pid in pids.items() if name != "scheduler"}
    found["scheduler"] = sum(scheduler.cpu_times()[:2])
    found["tasks"] = _of(scheduler) - found["scheduler"]
    postmaster = int((session.platform.postgres.data / "postmaster.pid").read_text().split()[0])
    found["PostgreSQL, Airflow's and the source"] = _of(psutil.Process(postmaster))
    found["target, image store and staging"] = sum(psutil.Process().cpu_times()[:2])
    return found


def _of(parent: psutil.Process) -> float:
    seconds = 0.0
    for process in [parent, *parent.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            seconds += sum(process.cpu_times()[:4])  # user, system, and both of children
    return seconds


def measure(session: Session, exports: int, data: DemoData, orders: int) -> None:
    wanted = {dag_id(name_of(number)) for number in range(exports)}
    wait_for("the DAGs", lambda: session.api.dag_ids() >= wanted, 120 + exports)
    with psycopg.connect(session.platform.metadata, autocommit=True) as airflow:
        before, began = spent(session), time.monotonic()
        airflow.execute("UPDATE dag SET is_paused = false WHERE dag_id = ANY(%s)", [list(wanted)])

        def over() -> dict[str, int] | None:
            query = "SELECT state, count(*) FROM dag_run WHERE dag_id = ANY(%s) GROUP BY state"
            states: dict[str, int] = dict(airflow.execute(query, [list(wanted)]).fetchall())
            return states if states.get("success", 0) + states.get("failed", 0) >= exports else None

        states = wait_for("the runs", over, 600 + 30 * exports, _POLL_SECONDS)
        after, elapsed = spent(session), time.monotonic() - began
        first, last = _one(
            airflow,
            "SELECT min(queued_dttm), max(end_date) FROM task_instance WHERE task_id = 'deliver' AND dag_id = ANY(%s)",
            list(wanted),
        )
        (due,) = _one(airflow, "SELECT min(queued_at) FROM dag_run WHERE dag_id = ANY(%s)", list(wanted))
    delivered = verify(session, exports, data, orders)
    show(before, after, exports)
    print(f"{delivered}; runs by state: {states}")
    print(
        f"the first window begins to be delivered after {(first - due).total_seconds() / 60:.1f} minutes, "
        f"the last is after {(last - due).total_seconds() / 60:.1f} ({elapsed / 60:.1f} until its run is over)"
    )


def _one(connection: psycopg.Connection[Any], query: str, names: list[str]) -> Any:
    return connection.execute(query.encode(), [names]).fetchone()


def verify(session: Session, exports: int, data: DemoData, orders: int) -> str:
    """What is at the target; ends the benchmark where a file, a work order or an image is missing."""
    with httpx.Client(base_url=session.platform.gcs.url, timeout=30, trust_env=False) as client:
        there = {name for name in bucket_objects(client, CUSTOMER_BUCKET) if name.startswith("midnight-")}
        files = [name for name in there if "/data/" in name]
        lines = 0
        for name in files:
            answer = client.get(f"/download/storage/v1/b/{CUSTOMER_BUCKET}/o/{name.replace('/', '%2F')}?alt=media")
            lines += answer.raise_for_status().content.count(b"\n")
    images = len(there) - len(files)
    found = f"at the target: {len(files):,} data files, {lines:,} work orders, {images:,} images"
    if (len(files), lines, images) != (exports, exports * orders, len(data.images)):
        raise SystemExit(f"{found}; wanted: {exports:,}, {exports * orders:,}, {len(data.images):,}")
    return found


def show(before: dict[str, float], after: dict[str, float], exports: int) -> None:
    spent = {name: after[name] - before[name] for name in before}
    print(f"{'CPU s':40}{'all':>8}{'an export':>12}")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{name:40}{seconds:8.1f}{seconds / exports:12.2f}")
    total = sum(spent.values())
    print(f"{'all':40}{total:8.1f}{total / exports:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=500)
    parser.add_argument("--orders", type=int, default=20, help="work orders of each export")
    parser.add_argument("--images", type=int, default=5, help="images of each export")
    parser.add_argument("--parallelism", type=int, default=4, help="tasks at once")
    args = parser.parse_args()
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    data = rows_of(args.exports, args.orders, args.images, yesterday)
    with tempfile.TemporaryDirectory() as temporary:
        customers = Path(temporary) / "customers"
        customers.mkdir()
        for number in range(args.exports):
            text = CUSTOMER.format(site=UUID(int=number + 1), name=name_of(number))
            (customers / f"{name_of(number)}.yaml").write_text(text)
        environment = {
            "DATA_EXPORT_CUSTOMERS_DIR": str(customers),
            "AIRFLOW__CORE__PARALLELISM": str(args.parallelism),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",  # as deployed; the demo's is shorter
            "DATA_EXPORT_AUDIT__ENABLED": "false",  # a new Airflow begins with the audit of the week before
        }
        with running(Path(temporary) / "state", Sayer(), environment, port=0) as session:
            fill(session, data)
            measure(session, args.exports, data, args.orders)


if __name__ == "__main__":
    main()
