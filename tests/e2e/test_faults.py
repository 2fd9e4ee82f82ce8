"""What a data engineer sees when a customer file, a target or a key is not right."""

import re
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncssh
import pytest

from data_export.config.models import dag_id
from demo.rest import wait_for
from demo.run import NAMES
from demo.session import Session

pytestmark = pytest.mark.e2e

UNKNOWN_SITE = str(uuid4())
HEAD = """\
site_id: [{site}]
interval: daily
start_date: 2025-03-16
end_date: 2025-03-20
"""
BUCKET = """\
connector_type: cloud_storage
connector_config:
  storage_uri: {uri}
  export_images: true
"""
SFTP = """\
connector_type: sftp
connector_config:
  sftp_host: {host}
  sftp_port: {port}
  sftp_username: {user}
  sftp_private_key_path: {key}
  sftp_host_key: {host_key}
  sftp_remote_path: /exports
  export_images: false
"""
SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
#: What the failed task's message must hold: the thing, its value, and where the fix is.
FAULTS = {
    "no-such-bucket": ("copy_images", ["TargetNotFound", "no-such-bucket"]),
    "no-such-site": ("extract", [UNKNOWN_SITE]),
    "wrong-sftp-key": ("deliver", ["AccessDenied", "127.0.0.1"]),
}


@pytest.fixture(scope="module")
def appeared_after(session: Session, customers: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Drops a file for every fault into the customers folder; seconds until all their DAGs were there."""
    key, sftp = tmp_path_factory.mktemp("keys") / "stranger", session.platform.sftp
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    files = {
        "no-such-bucket": HEAD.format(site=SITE) + BUCKET.format(uri="gs://no-such-bucket/exports/"),
        "no-such-site": HEAD.format(site=UNKNOWN_SITE) + BUCKET.format(uri="gs://demo-customer/elsewhere/"),
        "wrong-sftp-key": HEAD.format(site=SITE)
        + SFTP.format(host=sftp.host, port=sftp.port, user=sftp.username, key=key, host_key=sftp.host_key),
    }
    for name, text in files.items():
        (customers / f"{name}.yaml").write_text(text)
    dropped = time.monotonic()
    wait_for("the dropped files' DAGs", lambda: session.api.dag_ids() >= set(map(dag_id, files)), 60, pause=0.2)
    return time.monotonic() - dropped


@pytest.fixture(scope="module")
def failed(session: Session, appeared_after: float) -> dict[str, list[dict[str, Any]]]:
    """The task instances of one run of every fault, once all runs have failed."""
    runs = {}
    for name in FAULTS:
        session.api.unpause(dag_id(name))
        window = {"from": "2025-03-16T00:00:00+00:00", "to": "2025-03-17T00:00:00+00:00"}
        runs[name] = session.api.trigger(dag_id(name), **window)

    def over() -> bool:
        return all(session.api.run(dag_id(name), run)["state"] == "failed" for name, run in runs.items())

    wait_for("the runs fail", over, 240, pause=2)
    return {name: session.api.task_instances(dag_id(name), run) for name, run in runs.items()}


def test_a_broken_file_is_told_with_line_key_and_fix_and_hides_nobody(session: Session) -> None:
    def told() -> str | None:
        """Once it is under its own name alone."""
        errors = [error for error in session.api.import_errors() if re.search(r"(?<![\w-])broken\.yaml", error)]
        return errors[0] if len(errors) == 1 else None

    error = wait_for("the import error", told, 60)
    for line, key, fix in ((5, "time_zone", "timezone"), (8, "connector_config.export_images", "remove it")):
        (message,) = (text for text in error.splitlines() if f"broken.yaml:{line}:" in text)
        assert key in message
        assert fix in message
    assert session.api.dag_ids() >= {dag_id("broken"), *map(dag_id, NAMES)}


def test_a_dropped_file_is_a_dag_within_30_seconds(appeared_after: float) -> None:
    assert appeared_after < 30


@pytest.mark.parametrize("name", FAULTS)
def test_a_permanent_fault_fails_at_once_and_says_what_to_change(
    name: str, session: Session, failed: dict[str, list[dict[str, Any]]]
) -> None:
    task_id, words = FAULTS[name]
    (task,) = (instance for instance in failed[name] if instance["state"] == "failed")
    reason = session.api.reason(task)
    assert (task["task_id"], task["try_number"]) == (task_id, 1), reason
    assert all(word in reason for word in words), reason
    last = [line for line in session.api.log(task) if not line["event"].startswith("::")][-1]
    assert last["level"] == "error"
    for word in (name, "2025-03-16T00:00:00+00:00", task["rendered_map_index"], *words):
        assert word in last["event"]


def test_the_check_dag_tells_good_exports_from_bad_ones(session: Session, appeared_after: float) -> None:
    """All at once, which is what the trigger form does without a name; and one by its name."""
    api, check = session.api, "data_export_check"
    api.unpause(check)
    runs = [api.trigger(check), api.trigger(check, export="demo-timeline-gs")]
    wait_for("the checks", lambda: all(api.run(check, run)["state"] in ("success", "failed") for run in runs), 240, 2)
    tried = {one["rendered_map_index"]: one for one in api.task_instances(check, runs[0]) if one["task_id"] == "check"}
    assert set(tried) >= {*NAMES, *FAULTS}
    for name in NAMES:
        assert tried[name]["state"] == "success", name
    for name, words in {
        "no-such-bucket": ["bucket", "no-such-bucket"],
        "no-such-site": [UNKNOWN_SITE],
        "wrong-sftp-key": ["refuses the key of user"],
    }.items():
        assert (tried[name]["state"], tried[name]["try_number"]) == ("failed", 1)
        reason = api.reason(tried[name])
        assert all(word in reason for word in words), reason
    assert api.run(check, runs[1])["state"] == "success"
