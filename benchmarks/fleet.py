"""What thousands of exports cost Airflow: parsing, storing, starting a task, noticing a change, `validate`.

    export PYTHONPATH=plugins
    python -m benchmarks.fleet                  # 1, 100, 1,000 and 5,000 exports; some 8 minutes
    python -m benchmarks.fleet --exports 500    # one size
    AIRFLOW__CORE__AUTH_MANAGER=airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager ...  # as deployed

For each size a process of its own, with a PostgreSQL of its own as Airflow's database, does what the dag-processor does
with each DAG file: a fork parses it and serialises its DAGs, then they are stored, a first time and again unchanged.
Then a real dag-processor runs, and customer files are added, changed and removed under it.
"""

import argparse
import gc
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg

from data_export.config.load import load_customers
from data_export.config.models import dag_id
from data_export_airflow.dags.shards import shard_files
from demo.airflow import BUNDLE
from demo.guard import Guard
from demo.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[1]
SIZES = (1, 100, 1000, 5000)
SHARDS = 32
COLUMNS = {
    "exports": "exports",
    "parse": "parse the largest file, CPU s",
    "parse_all": "parse all files, CPU s",
    "store": "store the largest file, CPU s",
    "store_new": "the same when its DAGs are new, CPU s",
    "store_all": "store all files, CPU s",
    "task_ms": "a task's own parse, CPU ms",
    "look_ms": "a look for changes, CPU ms",
    "validate": "validate, CPU s",
    "mb": "largest parse, MB",
    "idle": "dag-processor without changes, % of a core",
    "added": "an added file shows after, s",
    "changed": "a changed file shows after, s",
    "removed": "a removed file is gone after, s",
}
HEAD = "site_id: [{site}]\ninterval: {interval}\nstart_date: 2025-03-16\ntimezone: {zone}\n"
TARGETS = (
    "cloud_storage\nconnector_config:\n  storage_uri: gs://{name}/exports/\n  export_images: true\n",
    "cloud_storage\nconnector_config:\n  storage_uri: s3://{name}/exports/\n  export_images: true\n",
    "sftp\nconnector_config:\n  conn_id: {name}\n  sftp_remote_path: /exports\n  export_images: true\n",
    "email\nconnector_config:\n  emails: [bi@{name}.example]\n",
)


def customer_file(number: int, name: str) -> str:
    interval = ("daily", "hourly", "weekly", "monthly")[number % 4]
    zone = ("UTC", "Europe/Paris", "America/New_York")[number % 3]
    head = HEAD.format(site=UUID(int=number + 1), interval=interval, zone=zone)
    return head + "connector_type: " + TARGETS[number % 4].format(name=name)


def fill(folder: Path, exports: int) -> None:
    folder.mkdir()
    for number in range(exports):
        (folder / f"customer-{number:05}.yaml").write_text(customer_file(number, f"customer-{number:05}"))


def settings(home: Path, dsn: str) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH": "4096",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn.replace("postgresql://", "postgresql+psycopg2://"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [BUNDLE | {"kwargs": {"shards": SHARDS, "refresh_interval": 10}}]
        ),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "10",
        "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "10",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "DATA_EXPORT_CUSTOMERS_DIR": str(home / "customers"),
        "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}",
    }


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Of this process and the children it waits for; PostgreSQL's own are not in it."""
    before = os.times()
    function()
    return sum(os.times()[:4]) - sum(before[:4])


def parse(file: Path) -> tuple[list[Any], float]:
    """Serialised DAGs and CPU seconds, as in the dag-processor's child."""
    import structlog
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import _serialize_dags

    began = time.process_time()
    bag = BundleDagBag(dag_folder=str(file), bundle_path=file.parent, bundle_name="dags-folder", load_op_links=False)
    dags, errors = _serialize_dags(bag, structlog.get_logger())
    if errors or bag.import_errors:
        raise SystemExit(f"{file}: {errors or bag.import_errors}")
    return [dag.data for dag in dags], time.process_time() - began


def _parse_in_child(file: Path, answer: Any) -> None:
    dags, cpu = parse(file)
    answer.send((dags, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure_files(folder: Path) -> dict[str, float]:
    """Every DAG file of the exports parsed in a fork, and stored twice from here."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    def store(file: Path, dags: list[Any]) -> None:
        name = file.name
        lazy = [LazyDeserializedDAG(data=data) for data in dags]
        with create_session() as session:
            update_dag_parsing_results_in_db(
                "dags-folder", None, lazy, {}, 1.0, set(), session, files_parsed={("dags-folder", name)}
            )

    read_seconds = cpu_seconds(load_customers)  # once, by the bundle's look, in the process that the forks are of
    parses, peaks, first, again = [], [], [], []
    gc.freeze()  # as the dag-processor does before it forks
    fork = multiprocessing.get_context("fork")
    for file in (folder / name for name in shard_files(SHARDS)):
        here, there = fork.Pipe(duplex=False)
        child = fork.Process(target=_parse_in_child, args=(file, there))
        child.start()
        dags, cpu, peak = here.recv()
        child.join()
        parses.append(cpu)
        peaks.append(peak)
        first.append(cpu_seconds(lambda file=file, dags=dags: store(file, dags)))
        again.append(cpu_seconds(lambda file=file, dags=dags: store(file, dags)))
    return {
        "parse": max(parses),
        "parse_all": read_seconds + sum(parses),
        "store": max(again),
        "store_all": sum(again),
        "store_new": max(first),
        "mb": max(peaks),
    }


def measure_task(folder: Path, exports: int) -> float:
    """Milliseconds that a task's start takes to find its DAG, imports left out."""
    variable = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"  # as the task runner sets it

    def start() -> None:
        dags, _ = parse(folder / "customer_exports.py")
        assert len(dags) == 1

    os.environ[variable] = dag_id(f"customer-{exports // 2:05}")
    try:
        start()
        return 1000 * cpu_seconds(lambda: [start() for _ in range(20)]) / 20
    finally:
        del os.environ[variable]


def measure_look() -> float:
    from data_export_airflow.bundle import FolderWatch

    watch = FolderWatch()
    watch.look()
    return 1000 * cpu_seconds(lambda: [watch.look() for _ in range(20)]) / 20


def measure_validate() -> float:
    command = [sys.executable, "-m", "data_export_airflow", "validate"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return cpu_seconds(lambda: subprocess.run(command, check=True, **quiet))


@contextmanager
def dag_processor(home: Path) -> Iterator[psutil.Process]:
    with Guard() as guard, (home / "dag-processor.log").open("wb") as log:
        command = [sys.executable, "-m", "airflow", "dag-processor"]
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        guard.watch(child.pid)
        yield psutil.Process(child.pid)
    child.wait()


def measure_changes(home: Path, database: psycopg.Connection[Any]) -> dict[str, float]:
    """Seconds until a change of a customer file is in Airflow's database, under a real dag-processor."""
    folder = home / "customers"

    def until(query: str) -> float:
        began = time.monotonic()
        while not database.execute(query).fetchone():
            time.sleep(0.2)
        return time.monotonic() - began

    def cpu(process: psutil.Process) -> float:
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    (now,) = database.execute("SELECT now()").fetchone() or ()
    with dag_processor(home) as process:
        until(f"SELECT 1 FROM dag HAVING min(last_parsed_time) > '{now.isoformat()}'")
        time.sleep(20)  # the second of the two looks at what changed last
        before = cpu(process)
        time.sleep(30)
        idle = (cpu(process) - before) / 30
        file = folder / "added.yaml"
        file.write_text(customer_file(0, "added"))
        added = until("SELECT 1 FROM dag WHERE dag_id = 'data_export__added'")
        file.write_text(customer_file(0, "added").replace("daily", "weekly"))
        changed = until("SELECT 1 FROM dag_tag WHERE dag_id = 'data_export__added' AND name = 'weekly'")
        time.sleep(30)  # a file removed at once after it was added takes longer, as the documentation says
        file.unlink()
        removed = until("SELECT 1 FROM dag WHERE dag_id = 'data_export__added' AND is_stale")
    return {"added": added, "changed": changed, "removed": removed, "idle": 100 * idle}


def measure(exports: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        fill(home / "customers", exports)
        with Guard() as guard, PostgresServer(home / "postgres", durable=False) as server:
            guard.watch(int((server.data / "postmaster.pid").read_text().split()[0]))
            dsn = server.create_database("airflow")
            os.environ |= settings(home, dsn)  # before Airflow is imported
            from airflow.dag_processing.bundles.manager import DagBundlesManager
            from airflow.utils.db import initdb

            initdb()
            DagBundlesManager().sync_bundles_to_db()
            (bundle,) = DagBundlesManager().get_all_dag_bundles()
            bundle.initialize()
            parse(bundle.path / "data_export_check.py")  # imports do not count
            result = {"exports": exports, **measure_files(bundle.path), "task_ms": measure_task(bundle.path, exports)}
            result |= {"look_ms": measure_look(), "validate": measure_validate()}
            print(json.dumps(result), file=sys.stderr, flush=True)  # the rest takes minutes
            with psycopg.connect(dsn, autocommit=True) as database:
                return result | measure_changes(home, database)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, nargs="*", default=SIZES, help="how many (default: 1 100 1000 5000)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print("\n" + json.dumps(measure(args.one)))
        return
    rows = []
    for exports in args.exports:
        command = [sys.executable, "-m", "benchmarks.fleet", "--one", str(exports)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    for key, title in COLUMNS.items():
        values = (f"{row[key]:,.2f}" if row[key] < 10 and key != "exports" else f"{row[key]:,.0f}" for row in rows)
        print(f"{title:42}" + "".join(f"{value:>10}" for value in values))


if __name__ == "__main__":
    main()
