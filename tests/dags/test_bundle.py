"""The bundle asks for the right DAG file when a customer file changes, also after Airflow's database was away."""

import logging
import shutil
import warnings
from pathlib import Path

import pytest
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from data_export_airflow import bundle
from data_export_airflow.bundle import CustomerFilesBundle
from data_export_airflow.dags.shards import holder, share_files

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"


def taken() -> set[str]:
    """The files that are asked for; as when the dag-processor takes them, they are not asked for any more."""
    with create_session() as session:
        files = set(session.scalars(select(DagPriorityParsingRequest.relative_fileloc)))
        session.execute(delete(DagPriorityParsingRequest))
    return files


def test_a_change_is_asked_for_and_once_more_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    customers = tmp_path / "customers"
    customers.mkdir()
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers))
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(shutil.copy(ROOT / "include" / "platform.yaml", tmp_path)))
    monkeypatch.setattr(bundle, "_AGAIN_SECONDS", 0.0)
    dags = Path(shutil.copytree(DAGS, tmp_path / "dags"))
    watching = CustomerFilesBundle(name="dags-folder", path=str(dags), refresh_interval=5)
    with warnings.catch_warnings(action="ignore"):  # Airflow's own, over its own tables
        initdb()
    taken()
    watching.refresh()
    assert taken() == set()  # at its start the dag-processor parses everything anyway

    shutil.copy(ROOT / "include" / "examples" / "sftp.yaml", customers)
    file = holder("sftp", share_files(DAGS))
    for wanted in ({file}, {file}, set()):
        watching.refresh()
        assert taken() == wanted

    (customers / "sftp.yaml").write_text("interval: daily\n")
    with monkeypatch.context() as away, caplog.at_level(logging.ERROR):
        away.setattr("airflow.utils.session.create_session", None)
        watching.refresh()
    assert "not noticed" in caplog.text
    watching.refresh()
    assert taken() == {file, "config_errors.py"}

    (tmp_path / "platform.yaml").write_text((tmp_path / "platform.yaml").read_text() + "# changed\n")
    watching.refresh()
    assert taken() >= {*share_files(DAGS), "config_errors.py"}

    watching.refresh()
    taken()
    (dags / file).unlink()
    watching.refresh()
    assert taken() == set(share_files(dags))  # the others take over its exports
