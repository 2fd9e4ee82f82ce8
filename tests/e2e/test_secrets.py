"""No secret is where people or Airflow's users can read it: task and server logs, the whole metadata database."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncssh
import psycopg
import pytest
from psycopg import sql

from data_export.config.load import load_named
from data_export.config.models import dag_id
from data_export.window import ExportWindow
from demo.data import LYON
from demo.mailbox import link_of, mails_about
from demo.rest import AirflowApi, wait_for
from demo.run import NAMES
from demo.servers.abfs import KEY
from demo.servers.sftp import FEW_ROUNDS
from demo.session import Session
from demo.targets import received

pytestmark = pytest.mark.e2e

HOURS = ExportWindow(datetime(2025, 3, 16, 6, tzinfo=UTC), datetime(2025, 3, 16, 12, tzinfo=UTC))
WORKING = tuple(name for name in NAMES if name != "demo-timeline-gs")  # whose server asks for no secret
LITERAL = "canary-literal-passphrase"  # of no key
SFTP = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
interval: daily
start_date: 2025-03-16
end_date: 2025-03-20
connector_type: sftp
connector_config:
  sftp_host: {host}
  sftp_port: {port}
  sftp_username: {user}
  sftp_private_key_path: {key}
  sftp_private_key_passphrase: {passphrase}
  sftp_host_key: {host_key}
  sftp_remote_path: /exports
  export_images: false
"""


ELSEWHERE = "s3://demo-customer/somebody-else/"
SIGNED = "SignatureRejected: the {what} of run {{run}} is not what an earlier task of this run signed"


def _to_elsewhere(plan: dict[str, Any]) -> dict[str, Any]:
    plan["export"]["connector_config"]["storage_uri"] = ELSEWHERE
    return plan


def _of_another(plan: dict[str, Any]) -> dict[str, Any]:
    plan["export"]["site_id"] = [str(LYON)]
    return plan


#: Whose XCom of which key is rewritten, which task then runs again, how, and what it says. The last tasks come first:
#: one that runs again loses its own XComs.
EDITS: dict[str, tuple[str, str, str, Callable[[Any], Any], str]] = {
    "another receipt": (
        "deliver", "return_value", "close", lambda value: value | {"uri": ELSEWHERE}, SIGNED.format(what="delivered")
    ),
    "no images": (
        "copy_images", "return_value", "deliver", lambda _: None, "SignatureRejected: the images of site .* not copied"
    ),
    "another file": (
        "transform", "return_value", "deliver", lambda value: value | {"data_key": "runs/another"},
        SIGNED.format(what="transformed"),
    ),
    "no plan": ("prepare", "plan", "deliver", lambda _: "s3://", SIGNED.format(what="plan")),
    "another's rows": (
        "extract", "return_value", "transform", lambda value: value | {"site_id": str(LYON)},
        SIGNED.format(what="extracted"),
    ),
    "another's site": ("prepare", "plan", "extract", _of_another, SIGNED.format(what="plan")),
    "another target": ("prepare", "plan", "extract", _to_elsewhere, SIGNED.format(what="plan")),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(session: Session, customers: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run of every connector that has a secret, one that fails on its passphrase, and a broken file with one."""
    sftp, key = session.platform.sftp, tmp_path_factory.mktemp("keys") / "customer"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key, passphrase="another", **FEW_ROUNDS)
    text = SFTP.format(
        host=sftp.host, port=sftp.port, user=sftp.username, key=key, host_key=sftp.host_key, passphrase=LITERAL
    )
    (customers / "wrong-passphrase.yaml").write_text(text)
    (customers / "broken-with-secret.yaml").write_text(text.replace("sftp_port", "sftp_prot"))
    dags = [dag_id(name) for name in (*WORKING, "wrong-passphrase")]
    wait_for("the DAGs are there", lambda: session.api.dag_ids() >= set(dags), 60)
    window = {"from": HOURS.start.isoformat(), "to": HOURS.end.isoformat()}
    for dag in dags:
        session.api.unpause(dag)
    runs = {dag: session.api.trigger(dag, **window) for dag in dags}

    def states() -> list[str]:
        return [session.api.run(dag, run)["state"] for dag, run in runs.items()]

    wait_for("the runs are over", lambda: set(states()) <= {"success", "failed"}, 240, pause=2)
    assert states() == [*("success" for _ in WORKING), "failed"]
    wait_for("the import error", lambda: any("broken-with-secret" in e for e in session.api.import_errors()), 60)
    return session


@pytest.fixture(scope="module")
def secrets(exported: Session) -> dict[str, bytes]:
    """What must be nowhere, by what it is."""
    platform = exported.platform
    (mail, *_) = mails_about(platform, "demo-link-email", HOURS)
    (signature,) = parse_qs(urlsplit(link_of(mail)).query)["X-Amz-Signature"]
    found = {
        "password of the source": platform.secrets["source_password"],
        "password of the mail server": platform.secrets["smtp_password"],
        "secret key of S3": platform.secrets["s3_password"],
        "key of the Azure account": KEY,
        "passphrase of the SFTP connection": platform.sftp.passphrase,
        "passphrase of a customer file": LITERAL,
        "signature of the mailed link": signature,
    }
    lines = platform.sftp.private_key_path.read_text().splitlines()
    found |= {f"line {number} of the private key": line for number, line in enumerate(lines) if "PRIVATE" not in line}
    assert all(len(secret) > 12 for secret in found.values())
    return {what: secret.encode() for what, secret in found.items()}


def test_no_secret_is_in_any_log(exported: Session, secrets: dict[str, bytes]) -> None:
    logs = [path for path in exported.airflow.logs.rglob("*") if path.is_file()]
    assert any("wrong_passphrase" in str(path) for path in logs)
    told = [
        f"{what} in {path}"
        for path in logs
        for content in [path.read_bytes()]
        for what, secret in secrets.items()
        if secret in content
    ]
    assert told == []


def test_no_secret_is_in_the_metadata_database(exported: Session, secrets: dict[str, bytes]) -> None:
    """XComs, rendered fields, asset events, import errors, DAG descriptions, notes, audit log: every table."""
    dsn = re.sub(r"^postgresql\+\w+://", "postgresql://", exported.platform.metadata)
    read, told = set(), []
    with psycopg.connect(dsn) as connection:
        for table, row in _rows(connection):
            read.add(table)
            told += [f"{what} in {table}" for what, secret in secrets.items() if secret in row]
    assert {"xcom", "rendered_task_instance_fields", "asset_event", "import_error", "serialized_dag"} <= read
    assert told == []


def _rows(connection: psycopg.Connection) -> Iterator[tuple[str, bytes]]:
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    for (table,) in tables:
        query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))
        for (row,) in connection.execute(query):
            yield table, row.encode()


class TestSomebodyRewritesARun:
    """A user of Airflow without admin rights edits what tasks hand on, by its REST API, and has a task run again."""

    @pytest.fixture(scope="class")
    @classmethod
    def user(cls, exported: Session) -> Iterator[AirflowApi]:
        password = json.loads((exported.airflow.home / "passwords.json").read_text())["somebody"]
        api = AirflowApi(exported.airflow.url, "somebody", password)
        api.sign_in()
        yield api
        api.close()

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, exported: Session) -> str:
        """Of the run's task instances."""
        dag = dag_id("demo-states-s3")
        (run,) = (run for run in exported.api.runs([dag]) if run["run_type"] == "manual")
        return f"/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances"

    @pytest.mark.parametrize("edit", EDITS)
    def test_the_task_fails_and_nothing_is_written(
        self, exported: Session, user: AirflowApi, path: str, customers: Path, edit: str
    ) -> None:
        task, key, step, change, words = EDITS[edit]
        export = load_named("demo-states-s3", customers)
        config = export.connector_config.model_copy(update={"storage_uri": ELSEWHERE})
        target = received(exported.platform, export)
        elsewhere = received(exported.platform, export.model_copy(update={"connector_config": config}))
        assert target is not None
        assert elsewhere is not None
        written = target.written()
        index = -1 if task == "prepare" else 0
        entry = f"{path}/{task}/xcomEntries/{key}"
        value = user.request("GET", entry, params={"map_index": index, "stringify": False})["value"]
        changed = change(json.loads(json.dumps(value)))
        user.request("PATCH", entry, json={"value": changed, "map_index": index})
        try:
            reason = reason_after_clear(user, path, step)
        finally:
            user.request("PATCH", entry, json={"value": value, "map_index": index})
        _, _, dag, _, run, _ = path.split("/")
        assert re.search(words.format(run=re.escape(f"{dag} {run}")), reason), reason
        assert target.written() == written
        assert elsewhere.names() == []


def reason_after_clear(user: AirflowApi, path: str, step: str) -> str:
    """Why the step fails, run again by itself."""
    _, _, dag, _, run, _ = path.split("/")
    body = {"dry_run": False, "dag_run_id": run, "task_ids": [step], "only_failed": False}
    user.request("POST", f"/dags/{dag}/clearTaskInstances", json=body)

    def ended() -> list[dict[str, Any]]:
        found = [each for each in user.task_instances(dag, run) if each["task_id"] == step]
        return found if {each["state"] for each in found} == {"failed"} else []

    (instance, *_) = wait_for(f"{step} fails", ended, 300, pause=1)
    # A clear while the scheduler ends the run is half undone by that: the task never runs.
    wait_for("the run is over", lambda: user.run(dag, run)["state"] == "failed", 60)
    return user.reason(instance)
