"""What one export's run costs Airflow, in CPU seconds of all its processes, beside a DAG whose tasks do nothing.

    export PYTHONPATH=plugins
    python -m benchmarks.overhead                # some 4 minutes
    python -m benchmarks.overhead --no-preload   # each task imports for itself, as where deploy/preload is not used
    python -m benchmarks.overhead --idle-sleep 0.25   # the scheduler sleeps less between two tasks

Runs of one export with one site and an empty window take turns with runs of the other DAG, the floor, through the
embedded platform and its Airflow. What the processes spend when nothing runs is measured first and left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

import demo.airflow
from data_export.config.models import dag_id
from demo.airflow import BUNDLE
from demo.data import PARIS
from demo.rest import wait_for
from demo.session import Sayer, Session, running

ROOT = Path(__file__).parents[1]
CUSTOMER = f"""\
site_id: [{PARIS}]
interval: daily
start_date: 2025-01-01
end_date: 2025-01-20
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://demo-customer/overhead/", export_images: true}}
"""
NAME = "overhead"
#: The tasks of an export with one site, in the same order and mapped in the same way.
FLOOR = """\
from airflow.sdk import dag, task, task_group

@task
def prepare() -> list[str]:
    return ["site"]

@task
def step(given):
    return given

@task_group
def site(given):
    for name in ("extract", "transform", "copy_images", "deliver"):
        given = step.override(task_id=name)(given)
    return given

@dag(schedule=None)
def floor():
    step.override(task_id="close")(site.expand(given=prepare()))

floor()
"""
IDLE_SECONDS = 20
AFTER_SECONDS = 3  # whatever follows a run is over


def spent(session: Session) -> dict[str, float]:
    """CPU seconds so far by component, those of its children that live or have been waited for included."""
    found = {}
    for name, pid in session.airflow.processes().items():
        parent, seconds = psutil.Process(pid), 0.0
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])  # user, system, and both of children
        found[name] = seconds
    return found


def run_one(session: Session, dag: str, **conf: str) -> float:
    """Seconds from the trigger to the end of a run."""
    run, began = session.api.trigger(dag, **conf), time.monotonic()

    def state() -> str | None:
        found = str(session.api.run(dag, run)["state"])
        return found if found in ("success", "failed") else None

    if wait_for("the run", state, 120) != "success":
        raise SystemExit(f"a run of {dag} failed: look at its log")
    return time.monotonic() - began


def window(day: int) -> dict[str, str]:
    return {"from": f"2025-01-{day:02}T00:00:00+00:00", "to": f"2025-01-{day + 1:02}T00:00:00+00:00"}


def measure(session: Session, runs: int) -> None:
    export, floor = dag_id(NAME), "floor"
    wait_for("the DAGs", lambda: session.api.dag_ids() >= {export, floor}, 60)
    for dag in (export, floor):
        session.api.unpause(dag)
    for day in (1, 2):
        run_one(session, export, **window(day))
        run_one(session, floor)
    time.sleep(10)
    before, began = spent(session), time.monotonic()
    time.sleep(IDLE_SECONDS)
    idle = {name: (now - before[name]) / (time.monotonic() - began) for name, now in spent(session).items()}
    walls: dict[str, list[float]] = {export: [], floor: []}
    costs: dict[str, Counter[str]] = {export: Counter(), floor: Counter()}
    for number in range(runs):
        for dag, conf in ((export, window(3 + number)), (floor, {})):
            before, began = spent(session), time.monotonic()
            walls[dag].append(run_one(session, dag, **conf))
            time.sleep(AFTER_SECONDS)
            elapsed = time.monotonic() - began
            costs[dag].update({name: now - before[name] - idle[name] * elapsed for name, now in spent(session).items()})
    show(costs[export], costs[floor], idle, runs)
    ours, theirs = (statistics.median(walls[dag]) for dag in (export, floor))
    print(f"a run takes {ours:.1f} s, one of the floor {theirs:.1f} s (medians of {runs})")


def show(export: Counter[str], floor: Counter[str], idle: dict[str, float], runs: int) -> None:
    print(f"{'CPU s a run':16}{'export':>8}{'floor':>8}{'ratio':>8}{'idle, % of a core':>20}")
    for name in idle:
        print(f"{name:16}{export[name] / runs:8.2f}{floor[name] / runs:8.2f}{'':8}{100 * idle[name]:20.1f}")
    ours, theirs = export.total() / runs, floor.total() / runs
    print(f"{'all':16}{ours:8.2f}{theirs:8.2f}{ours / theirs:8.2f}{100 * sum(idle.values()):20.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--no-preload", action="store_true", help="each task imports for itself")
    parser.add_argument("--idle-sleep", default="1", metavar="SECONDS", help="Airflow's own, and that of deploy/, is 1")
    args = parser.parse_args()
    if args.no_preload:
        demo.airflow.PRELOAD = ROOT / "benchmarks"  # a folder without Airflow's local settings
    with tempfile.TemporaryDirectory() as temporary:
        customers = Path(temporary) / "customers"
        customers.mkdir()
        (customers / f"{NAME}.yaml").write_text(CUSTOMER)
        own = Path(temporary) / "dags"
        own.mkdir()
        (own / "floor.py").write_text(FLOOR)
        bundle = {
            "name": "floor",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(own)},
        }
        environment = {
            "DATA_EXPORT_CUSTOMERS_DIR": str(customers),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE, bundle]),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": args.idle_sleep,
        }
        with running(Path(temporary) / "state", Sayer(), environment) as session:
            measure(session, args.runs)


if __name__ == "__main__":
    main()
