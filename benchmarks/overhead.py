"""What one export's run costs Airflow itself: CPU seconds of all its processes around a window that holds nothing.

    export PYTHONPATH=plugins
    python -m benchmarks.overhead                # some 4 minutes
    python -m benchmarks.overhead --no-preload   # each task imports for itself, as where deploy/preload is not used

Runs of one export with one site, one after the other, through the embedded platform and its Airflow. What the processes
spend when nothing runs is measured first and left out.
"""

import argparse
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

import demo.airflow
from data_export.config.models import dag_id
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
IDLE_SECONDS = 20


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


def run_one(session: Session, day: int) -> float:
    """Seconds from the trigger to the end of a run."""
    window = {"from": f"2025-01-{day:02}T00:00:00+00:00", "to": f"2025-01-{day + 1:02}T00:00:00+00:00"}
    run, began = session.api.trigger(dag_id(NAME), **window), time.monotonic()

    def state() -> str | None:
        found = str(session.api.run(dag_id(NAME), run)["state"])
        return found if found in ("success", "failed") else None

    if wait_for("the run", state, 120) != "success":
        raise SystemExit("the run failed: look at its log")
    return time.monotonic() - began


def measure(session: Session, runs: int) -> None:
    wait_for("the DAG", lambda: dag_id(NAME) in session.api.dag_ids(), 60)
    session.api.unpause(dag_id(NAME))
    for day in (1, 2):
        run_one(session, day)
    time.sleep(10)  # whatever follows a run is over
    before, began = spent(session), time.monotonic()
    time.sleep(IDLE_SECONDS)
    idle = {name: (now - before[name]) / (time.monotonic() - began) for name, now in spent(session).items()}
    before, began = spent(session), time.monotonic()
    walls = [run_one(session, 3 + number) for number in range(runs)]
    elapsed = time.monotonic() - began
    total = 0.0
    print(f"{'component':16}{'CPU s a run':>12}{'idle, % of a core':>20}")
    for name, now in spent(session).items():
        each = (now - before[name] - idle[name] * elapsed) / runs
        total += each
        print(f"{name:16}{each:12.2f}{100 * idle[name]:20.1f}")
    print(f"{'all':16}{total:12.2f}{100 * sum(idle.values()):20.1f}")
    print(f"a run takes {sorted(walls)[len(walls) // 2]:.1f} s (median of {runs})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--no-preload", action="store_true", help="each task imports for itself")
    args = parser.parse_args()
    if args.no_preload:
        demo.airflow.PRELOAD = ROOT / "benchmarks"  # a folder without Airflow's local settings
    with tempfile.TemporaryDirectory() as temporary:
        customers = Path(temporary) / "customers"
        customers.mkdir()
        (customers / f"{NAME}.yaml").write_text(CUSTOMER)
        environment = {"DATA_EXPORT_CUSTOMERS_DIR": str(customers)}
        with running(Path(temporary) / "state", Sayer(), environment) as session:
            measure(session, args.runs)


if __name__ == "__main__":
    main()
