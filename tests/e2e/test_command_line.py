"""`python -m data_export_airflow` beside a running Airflow, as a data engineer's shell runs it."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from data_export.config.models import dag_id
from data_export.wording import size_in_words
from demo.data import PARIS
from demo.expected import expected_file
from demo.rest import wait_for
from demo.session import Session

pytestmark = pytest.mark.e2e

NAME = "demo-states-s3"


def command(session: Session, *arguments: str) -> subprocess.CompletedProcess[str]:
    scratch = session.airflow.home / "scratch"  # commands report what they remove from the machine's own
    scratch.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "data_export_airflow", *arguments],
        env=session.airflow.environment | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    done.stderr = re.sub(r"^.* \.\.\. \d+ s\n", "", done.stderr, flags=re.MULTILINE)  # a slow machine's alone
    return done


def test_run_prints_the_receipt_alone_and_a_second_run_sends_nothing(session: Session, customers: Path) -> None:
    window = ("--from", "2025-03-16T06:00", "--to", "2025-03-16T18:00")
    receipts = []
    for _ in range(2):
        done = command(session, "run", str(customers / f"{NAME}.yaml"), *window)
        assert done.returncode == 0, done.stderr
        receipts.append(json.loads(done.stdout))  # nothing but the receipt
        # The log, for people: our own lines; one says so where something just writes at the source.
        log = [line for line in done.stderr.splitlines() if not line.startswith("waiting for transactions")]
        assert log[0].startswith(f"{NAME}: site ")
        assert "loc=" not in done.stderr  # and none of Airflow's or its libraries'
    first, second = (receipt["sites"][0] for receipt in receipts)
    assert (first["outcome"], second["outcome"]) == ("created", "unchanged")
    assert first["sha256"] == second["sha256"]


def test_check_prints_a_table_and_fails_where_a_step_fails(session: Session, customers: Path) -> None:
    good = command(session, "check", NAME)
    assert good.returncode == 0, good.stderr
    assert (good.stdout.splitlines()[0], good.stderr) == (NAME, "")
    (customers / "missing-bucket.yaml").write_text(
        (customers / f"{NAME}.yaml").read_text().replace("s3://demo-customer", "s3://no-such-bucket")
    )
    bad = command(session, "check", "missing-bucket")
    assert bad.returncode == 1
    assert "no-such-bucket" in bad.stdout


def test_validate_names_the_broken_file(session: Session) -> None:
    done = command(session, "validate")
    assert done.returncode == 1
    assert "broken.yaml:5:" in done.stdout


def test_from_nothing_to_a_backfilled_export(session: Session, customers: Path) -> None:
    """The way of a new customer, from the shell alone."""
    name, api = "from-the-shell", session.api
    target = ("--target", f"gs://demo-customer/{name}/", "--start-date", "2025-03-16", "--set", "end_date=2025-03-20")
    new = command(session, "new", name, "--site", str(PARIS), *target)
    assert (new.returncode, new.stderr) == (0, "")
    wait_for("the DAG is there", lambda: dag_id(name) in api.dag_ids(), 60)
    days = [datetime(2025, 3, 16 + k, tzinfo=UTC) for k in range(3)]
    files = [expected_file(session.data, PARIS, "work-orders-timeline", *bounds) for bounds in pairwise(days)]
    orders = sum(file.count(b"\n") for file in files)

    ask = ("backfill", name, "--from", "2025-03-16")
    first = command(session, *ask, "--to", "2025-03-18", "--yes")
    assert (first.returncode, first.stderr) == (0, "")
    for said in ("2 never run", f"{orders} work orders", "as counted at the source", "PAUSED", "created with 2 runs"):
        assert said in first.stdout
    assert f"{session.airflow.url}/dags/{dag_id(name)}/backfills" in first.stdout
    second = command(session, *ask, "--to", "2025-03-19", "--yes")
    assert second.returncode == 1
    (refusal,) = second.stderr.splitlines()
    assert "is under way" in refusal

    api.unpause(dag_id(name))
    wait_for("both days are over", lambda: backfilled(session, dag_id(name)) == ["success", "success"], 120, pause=2)
    again = command(session, *ask, "--to", "2025-03-18", "--reprocess", "completed", "--dry-run")
    assert again.returncode == 0, again.stderr
    amounts = f"{orders} work orders, {size_in_words(sum(map(len, files)))}"
    for said in ("2 delivered", amounts, "going by 2 deliveries"):
        assert said in again.stdout


def backfilled(session: Session, dag: str) -> list[str]:
    session.airflow.check()
    return [run["state"] for run in session.api.runs([dag]) if run["run_type"] == "backfill"]
