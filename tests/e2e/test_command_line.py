"""`python -m data_export_airflow` beside a running Airflow, as a data engineer's shell runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.session import Session

pytestmark = pytest.mark.e2e

NAME = "demo-states-s3"


def command(session: Session, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_export_airflow", *arguments],
        env=session.airflow.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_run_prints_the_receipt_alone_and_a_second_run_sends_nothing(session: Session, customers: Path) -> None:
    window = ("--from", "2025-03-16T06:00", "--to", "2025-03-16T18:00")
    receipts = []
    for _ in range(2):
        done = command(session, "run", str(customers / f"{NAME}.yaml"), *window)
        assert done.returncode == 0, done.stderr
        receipts.append(json.loads(done.stdout))  # nothing but the receipt
        assert "rows" in done.stderr  # the log, for people
    first, second = (receipt["sites"][0] for receipt in receipts)
    assert (first["outcome"], second["outcome"]) == ("created", "unchanged")
    assert first["sha256"] == second["sha256"]


def test_check_prints_a_table_and_fails_where_a_step_fails(session: Session, customers: Path) -> None:
    good = command(session, "check", NAME)
    assert good.returncode == 0, good.stderr
    assert good.stdout.splitlines()[0] == NAME
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
