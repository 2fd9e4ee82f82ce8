"""No secret is where people or Airflow's users can read it: task and server logs, the whole metadata database."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncssh
import psycopg
import pytest
from psycopg import sql

from data_export.config.models import dag_id
from data_export.window import ExportWindow
from demo.mailbox import link_of, mails_about
from demo.rest import wait_for
from demo.session import Session

pytestmark = pytest.mark.e2e

HOURS = ExportWindow(datetime(2025, 3, 16, 6, tzinfo=UTC), datetime(2025, 3, 16, 12, tzinfo=UTC))
WORKING = ("demo-states-s3", "demo-timeline-sftp", "demo-link-email")
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


@pytest.fixture(scope="module")
def exported(session: Session, customers: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run of every connector that has a secret, one that fails on its passphrase, and a broken file with one."""
    sftp, key = session.platform.sftp, tmp_path_factory.mktemp("keys") / "customer"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key, passphrase="another")
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
    assert states() == ["success", "success", "success", "failed"]
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
