"""Alerts through a real scheduler and mail server: failures, windows that are late or never ran, broken files."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import asyncssh
import boto3
import pytest
from botocore.config import Config

from data_export.config.models import dag_id
from data_export.layout import WATCH_KEY
from demo.mailbox import text_of
from demo.platform import STAGING_BUCKET
from demo.rest import wait_for
from demo.servers.sftp import FEW_ROUNDS
from demo.session import Session

pytestmark = pytest.mark.e2e

PLATFORM = "data-platform@platform.example"
CANARY = "canary-passphrase-of-alerts"
SITES = ["433a60f6-9756-473e-b1e9-9e89e24bb787", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"]
NOBODY_LISTENS = 9
FILE = """\
site_id: [{sites}]
interval: daily
timezone: {zone}
start_date: {start}
connector_type: sftp
connector_config:
  sftp_host: 127.0.0.1
  sftp_port: {port}
  sftp_username: {user}
  sftp_private_key_path: {key}
  sftp_private_key_passphrase: {passphrase}
  sftp_host_key: {host_key}
  sftp_remote_path: /{name}
  export_images: false
owner: {name}@owners.example
limits: {{late_after_hours: 0.001, settle_minutes: 0}}
"""
#: Fails at once; is tried again and again; the same after an outage; is broken later; the same as a backfill.
NAMES = WRONG, SLOW, SKIPPED, BROKEN, HISTORY = (
    "alert-wrong-key",
    "alert-slow",
    "alert-skipped",
    "alert-broken",
    "alert-history",
)
WATCH = "data_export_watch"
STARTED = datetime.now(UTC)


def mails(session: Session, name: str) -> list[EmailMessage]:
    """Every alert about an export, whoever got it."""
    return [
        mail for mail in session.platform.smtp.messages() if name in text_of(mail) and "is ready" not in text_of(mail)
    ]


def recipients(session: Session, name: str) -> list[str]:
    """Who got alerts about an export, each not more than one a day (UTC): midnight may pass meanwhile."""
    sent = Counter(str(mail["To"]) for mail in mails(session, name))
    assert max(sent.values(), default=0) <= (datetime.now(UTC).date() - STARTED.date()).days + 1, sent
    return sorted(sent)


def look(session: Session) -> None:
    """One look of the watch."""
    run = session.api.trigger(WATCH)
    wait_for("the watch looks", lambda: session.api.run(WATCH, run)["state"] in ("success", "failed"), 120)
    assert session.api.run(WATCH, run)["state"] == "success"


@pytest.fixture(scope="module")
def files(session: Session, customers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The customer files, each with its DAG; the last days where windows are to be scheduled."""
    first = "the look that Airflow makes by itself at its start, which would begin to watch these before their DAGs run"
    wait_for(first, lambda: [run["state"] for run in session.api.runs([WATCH])] == ["success"], 120)
    sftp, key = session.platform.sftp, tmp_path_factory.mktemp("keys") / "customer"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key, passphrase=CANARY, **FEW_ROUNDS)
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    offset = 12 - datetime.now(UTC).hour  # of a zone where it is noon, so that no other window ends meanwhile
    zone, now = f"Etc/GMT{-offset:+}", datetime.now(UTC) + timedelta(hours=offset)
    for name in NAMES:
        live = name not in (WRONG, HISTORY)
        text = FILE.format(
            name=name,
            sites=", ".join(SITES),
            zone=zone if live else "UTC",
            start=f"{now - timedelta(days=3):%Y-%m-%d}" if live else "2025-03-16\nend_date: 2025-03-20",
            port=sftp.port if name == WRONG else NOBODY_LISTENS,
            user=sftp.username,
            key=key,
            passphrase=CANARY,
            host_key=other,
        )
        (customers / f"{name}.yaml").write_text(text)
    wait_for("the DAGs are there", lambda: session.api.dag_ids() >= set(map(dag_id, NAMES)), 60)
    return customers


@pytest.fixture(scope="module")
def failed(session: Session, files: Path) -> Session:
    """Two runs, of two sites each, that meet a server with another host key."""
    session.api.unpause(dag_id(WRONG))
    for day in (16, 17):
        window = {"from": f"2025-03-{day}T00:00:00+00:00", "to": f"2025-03-{day + 1}T00:00:00+00:00"}
        run = session.api.trigger(dag_id(WRONG), **window)
        wait_for("the run fails", lambda run=run: session.api.run(dag_id(WRONG), run)["state"] == "failed", 120)
    return session


def test_a_failure_is_one_mail_to_the_owner_and_one_to_the_platform(failed: Session) -> None:
    assert recipients(failed, WRONG) == sorted([f"{WRONG}@owners.example", PLATFORM])
    for mail in mails(failed, WRONG):
        assert mail["X-RcptTo"] == mail["To"]
        assert mail["Subject"] == f"Data export {WRONG} failed: HostKeyMismatch"
        for words in (
            WRONG,
            "2025-03-16 00:00 to 2025-03-17 00:00 UTC",
            "deliver",
            "HostKeyMismatch: ",
            "Ask the server's administrator",
            f"{failed.airflow.url}/dags/{dag_id(WRONG)}/runs/",
            f"airflow dags trigger {dag_id(WRONG)}",
        ):
            assert words in text_of(mail), words
        assert any(site in text_of(mail) for site in SITES)


def test_no_secret_is_in_a_mail_and_no_recipient_in_a_log(failed: Session) -> None:
    assert not [mail for mail in failed.platform.smtp.messages() if CANARY.encode() in mail.as_bytes()]
    logs = [path.read_bytes() for path in (failed.airflow.logs / "tasks").rglob("*alert_wrong_key*/**/*.log")]
    assert any(b"HostKeyMismatch" in log for log in logs)
    assert not [log for log in logs if b"@owners.example" in log or PLATFORM.encode() in log]


@pytest.fixture(scope="module")
def late(session: Session, files: Path) -> Session:
    """Scheduled runs that do not end, windows that were skipped, a file that is broken, a backfill; and two looks."""
    api, live = session.api, (SLOW, SKIPPED, BROKEN)
    for name in (*live, HISTORY):
        api.unpause(dag_id(name))
    first = datetime(2025, 3, 16, tzinfo=UTC)
    api.backfill(dag_id(HISTORY), first, first)
    dags = {dag_id(name) for name in (*live, HISTORY)}
    wait_for("the runs", lambda: {run["dag_id"] for run in api.runs(dags)} == dags, 120)
    wait_for("the run of the file that will be broken has read it", lambda: is_prepared(session, BROKEN), 120)
    broken = files / f"{BROKEN}.yaml"
    broken.write_text(broken.read_text().replace("interval: daily", "interval: hurly"))
    look(session)
    as_if_down(session, SKIPPED, timedelta(days=2))
    time.sleep(4)  # late_after_hours
    look(session)
    return session


def is_prepared(session: Session, name: str) -> bool:
    (run,) = session.api.runs([dag_id(name)])
    tasks = session.api.task_instances(dag_id(name), run["dag_run_id"])
    return any(task["task_id"] == "prepare" and task["state"] == "success" for task in tasks)


def as_if_down(session: Session, name: str, since: timedelta) -> None:
    """Sets back what the watch knows of an export: Airflow then has run the last window only, as after an outage."""
    options = Config(s3={"addressing_style": "path"}, proxies={})
    login = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=session.platform.s3.url, config=options, **login)
    place = {"Bucket": STAGING_BUCKET, "Key": f"exports/{WATCH_KEY}"}
    known = json.loads(client.get_object(**place)["Body"].read())
    newest = {side: datetime.fromisoformat(at) - since for side, at in known[name]["newest"].items()}
    known[name]["newest"] = {side: at.isoformat() for side, at in newest.items()}
    client.put_object(**place, Body=json.dumps(known).encode())


def test_a_run_that_does_not_end_is_told_of(late: Session) -> None:
    (mail,) = [mail for mail in mails(late, SLOW) if mail["To"] == f"{SLOW}@owners.example"]
    assert mail["Subject"] == f"Data export {SLOW} is late"
    assert "its run is still going on" in text_of(mail)
    assert f"{late.airflow.url}/dags/{dag_id(SLOW)}" in text_of(mail)


def test_a_window_without_a_run_is_told_of_with_the_command_that_makes_it_good(late: Session) -> None:
    subject = f"Data export {SKIPPED} is late"
    (mail,) = [mail for mail in mails(late, SKIPPED) if mail["Subject"] == subject]
    assert mail["To"] == f"{SKIPPED}@owners.example"
    assert "no run was made" in text_of(mail)
    assert f"python -m data_export_airflow backfill {SKIPPED} --from" in text_of(mail)
    assert len(late.api.runs([dag_id(SKIPPED)])) == 1


def test_the_platform_gets_one_mail_about_both(late: Session) -> None:
    (mail,) = [mail for mail in mails(late, SLOW) if mail["To"] == PLATFORM]
    assert mail["Subject"] == "Data exports are late"
    assert SKIPPED in text_of(mail)


def test_a_broken_file_is_told_of_with_line_and_fix(late: Session) -> None:
    assert recipients(late, BROKEN) == sorted([f"{BROKEN}@owners.example", PLATFORM])
    for mail in mails(late, BROKEN):
        assert f"{BROKEN}.yaml:2: interval: 'hurly'" in text_of(mail)


def test_a_backfill_is_never_late(late: Session) -> None:
    (run,) = late.api.runs([dag_id(HISTORY)])
    assert (run["run_type"], run["state"]) == ("backfill", "running")
    assert mails(late, HISTORY) == []


def test_further_looks_tell_nobody_again(late: Session) -> None:
    before = {name: len(mails(late, name)) for name in (SLOW, SKIPPED, HISTORY)}
    look(late)
    assert {name: len(mails(late, name)) for name in before} == before
    assert recipients(late, BROKEN) == sorted([f"{BROKEN}@owners.example", PLATFORM])
    for name in (SLOW, SKIPPED, BROKEN, HISTORY):
        late.api.request("PATCH", f"/dags/{dag_id(name)}", json={"is_paused": True})
