"""Exports beside each other: a dead target delays no other export, and what becomes of a file is seen in seconds."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from data_export.config.models import dag_id
from data_export_airflow.dags.factory import INVALID_TAG
from data_export_airflow.dags.shards import shard_files, shard_of
from demo.airflow import SHARDS
from demo.data import PARIS
from demo.rest import AirflowApi, wait_for
from demo.session import Session

pytestmark = pytest.mark.e2e

DEAD, HEALTHY = "beside-dead", "beside-healthy"
SITES = [UUID(int=number) for number in range(1, 7)]
HEAD = """\
site_id: [{sites}]
interval: daily
start_date: 2025-03-16
end_date: 2025-03-20
"""
BUCKET = """\
connector_type: cloud_storage
connector_config: {storage_uri: "gs://demo-customer/beside/", export_images: true}
"""
SFTP = """\
connector_type: sftp
connector_config:
  sftp_host: 127.0.0.1
  sftp_port: {port}
  sftp_username: nobody
  sftp_private_key_path: {key}
  sftp_private_key_passphrase: {passphrase}
  sftp_host_key: {host_key}
  sftp_remote_path: /exports
  export_images: false
"""
WINDOWS = [(f"2025-03-{day}T00:00:00+00:00", f"2025-03-{day + 1}T00:00:00+00:00") for day in (16, 17)]


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def beside(session: Session, customers: Path, dead_port: int) -> Iterator[dict[str, Path]]:
    """Two customer files: one site to a bucket, six sites to a dead server."""
    platform = session.platform
    with psycopg.connect(platform.postgres.create_database("platform"), autocommit=True) as source:
        for site in SITES:  # known to the source, with nothing in any window that is tested
            row = (site, site, datetime(2020, 6, 1, tzinfo=UTC))
            source.execute("INSERT INTO work_order (id, site_id, create_date) VALUES (%s, %s, %s)", row)
    sftp = platform.sftp
    server = SFTP.format(port=dead_port, key=sftp.private_key_path, passphrase=sftp.passphrase, host_key=sftp.host_key)
    texts = {
        HEALTHY: HEAD.format(sites=PARIS) + BUCKET,
        DEAD: HEAD.format(sites=", ".join(map(str, SITES))) + server,
    }
    files = {name: customers / f"{name}.yaml" for name in texts}
    for name, file in files.items():
        file.write_text(texts[name])
    wait_for("both DAGs", lambda: session.api.dag_ids() >= set(map(dag_id, files)), 30)
    yield files
    for file in files.values():
        file.unlink(missing_ok=True)


def deliver(api: AirflowApi, start: str, end: str) -> float:
    """Seconds that the healthy export took for a window."""
    run, began = api.trigger(dag_id(HEALTHY), **{"from": start, "to": end}), time.monotonic()

    def state() -> str | None:
        found = str(api.run(dag_id(HEALTHY), run)["state"])
        return found if found in ("success", "failed") else None

    assert wait_for("the healthy export's run", state, 240) == "success"
    return time.monotonic() - began


def at_work(api: AirflowApi, run: str) -> list[str]:
    """The tasks of the dead export's run that hold a worker or are about to."""
    instances: list[dict[str, Any]] = api.task_instances(dag_id(DEAD), run)
    return [one["task_id"] for one in instances if one["state"] in ("running", "queued")]


def test_a_dead_target_with_many_sites_delays_no_other_export(session: Session, beside: dict[str, Path]) -> None:
    api = session.api
    for name in beside:
        api.unpause(dag_id(name))
    deliver(api, *WINDOWS[0])  # the first imports what the second need not
    usual = deliver(api, *WINDOWS[1])
    dead = api.trigger(dag_id(DEAD), **dict(zip(("from", "to"), WINDOWS[0], strict=True)))
    try:
        wait_for("deliveries to the dead target", lambda: at_work(api, dead) == ["deliver"] * 2, 120)
        beside_dead = deliver(api, *WINDOWS[0])
        assert len(at_work(api, dead)) <= 2, "more than its share"
        assert api.run(dag_id(DEAD), dead)["state"] == "running"
        assert beside_dead < usual + 20  # what waits for a dead server's answer waits for half a minute
    finally:
        api.request("PATCH", f"/dags/{dag_id(DEAD)}/dagRuns/{dead}", json={"state": "failed"})


def outcome(api: AirflowApi, name: str, run: str) -> str | None:
    """The state in which a run ended."""
    state = str(api.run(dag_id(name), run)["state"])
    return state if state in ("success", "failed") else None


def waits_to_retry(api: AirflowApi, name: str, run: str) -> str | None:
    """Why `prepare` waits to be tried again."""
    (one,) = (each for each in api.task_instances(dag_id(name), run) if each["task_id"] == "prepare")
    return api.reason(one) if one["state"] == "up_for_retry" else None


def test_a_broken_file_keeps_its_exports_place_and_history_and_the_run_under_way(
    session: Session, beside: dict[str, Path]
) -> None:
    api, file, healthy = session.api, beside[HEALTHY], dag_id(HEALTHY)
    window = dict(zip(("from", "to"), WINDOWS[0], strict=True))

    def tags() -> set[str]:
        return {tag["name"] for tag in api.request("GET", f"/dags/{healthy}")["tags"]}

    def told() -> bool:
        return any(f"{HEALTHY}.yaml:5: time_zone" in error for error in api.import_errors())

    def extracts(run: str) -> bool:
        instances = api.task_instances(healthy, run)
        return any((one["task_id"], one["state"]) == ("extract", "running") for one in instances)

    runs, text = len(api.runs([healthy])), file.read_text()
    assert runs >= 3
    with psycopg.connect(session.platform.postgres.create_database("platform")) as source:
        source.execute("LOCK TABLE work_order IN ACCESS EXCLUSIVE MODE")
        under_way = api.trigger(healthy, **window)
        wait_for("its extract", lambda: extracts(under_way), 60)
        file.write_text(HEAD.format(sites=PARIS) + "time_zone: UTC\n" + BUCKET)
        wait_for("the placeholder", lambda: tags() == {INVALID_TAG}, 30)
        wait_for("the import error", told, 30)
    assert wait_for("the run goes on", lambda: outcome(api, HEALTHY, under_way), 90) == "success"
    tries = {one["task_id"]: one["try_number"] for one in api.task_instances(healthy, under_way)}
    assert tries == dict.fromkeys(("prepare", "extract", "transform", "copy_images", "deliver", "close"), 1)
    assert api.dag_ids() > {healthy, dag_id(DEAD)}

    new = api.trigger(healthy, **window)
    assert f"{HEALTHY}.yaml:5: time_zone" in wait_for("a new run waits", lambda: waits_to_retry(api, HEALTHY, new), 60)
    file.write_text(text)
    wait_for("the mended DAG", lambda: "gs" in tags() and not told(), 30)
    assert wait_for("the new run goes on", lambda: outcome(api, HEALTHY, new), 90) == "success"
    assert len(api.runs([healthy])) == runs + 2


def test_a_copied_file_does_not_run_beside_the_export_that_delivers(session: Session, beside: dict[str, Path]) -> None:
    """Whatever its name; here it comes first."""
    api, copy = session.api, "a-copy"
    file = beside[HEALTHY].with_name(f"{copy}.yaml")
    file.write_text(beside[HEALTHY].read_text())
    try:
        wait_for("the copy's DAG", lambda: dag_id(copy) in api.dag_ids(), 30)
        wait_for("the import error", lambda: any(f"{copy}.yaml and" in error for error in api.import_errors()), 30)
        api.unpause(dag_id(copy))
        run = api.trigger(dag_id(copy), **dict(zip(("from", "to"), WINDOWS[0], strict=True)))
        assert wait_for("the copy's run is refused", lambda: outcome(api, copy, run), 90) == "failed"
        (prepare,) = (one for one in api.task_instances(dag_id(copy), run) if one["state"] == "failed")
        assert (prepare["task_id"], prepare["try_number"]) == ("prepare", 1)
        refused = api.reason(prepare)
        assert f"{copy}.yaml does not run, since {HEALTHY}.yaml, which would write the same files" in refused
        deliver(api, *WINDOWS[0])
    finally:
        file.unlink()


def test_a_run_that_is_cleared_for_fewer_sites_has_each_of_them_once(session: Session, beside: dict[str, Path]) -> None:
    """Airflow keeps what the mapped tasks returned that it removes."""
    api, file, dag = session.api, beside[HEALTHY], dag_id(HEALTHY)
    text, window = file.read_text(), dict(zip(("from", "to"), WINDOWS[1], strict=True))

    def delivered(run: str, *sites: UUID) -> None:
        assert wait_for("its end", lambda: outcome(api, HEALTHY, run), 120) == "success"
        asked = {"source_dag_id": dag, "source_run_id": run, "order_by": "-timestamp"}
        (newest, *_) = api.request("GET", "/assets/events", params=asked)["asset_events"]
        assert [site["site_id"] for site in newest["extra"]["sites"]] == sorted(map(str, sites))

    try:
        file.write_text(text.replace(str(PARIS), f"{PARIS}, {SITES[0]}, {SITES[1]}"))
        api.unpause(dag)
        run = api.trigger(dag, **window)
        delivered(run, PARIS, SITES[0], SITES[1])
        for left in ((PARIS, SITES[1]), (SITES[1],)):
            file.write_text(text.replace(str(PARIS), ", ".join(map(str, left))))
            api.clear(dag, run)
            delivered(run, *left)
    finally:
        file.write_text(text)


def test_forty_exports_are_shared_out_over_the_files_that_the_bundle_made(session: Session, customers: Path) -> None:
    """By the real dag-processor; a change is then seen in the file that holds its export."""
    names = [f"shared-{number}" for number in range(40)]
    files = {name: customers / f"{name}.yaml" for name in names}

    def found() -> dict[str, tuple[str, set[str]]]:
        dags = session.api.request("GET", "/dags?limit=100&dag_id_pattern=data_export__shared")["dags"]
        return {dag["dag_id"]: (dag["relative_fileloc"], {tag["name"] for tag in dag["tags"]}) for dag in dags}

    try:
        for number, file in enumerate(files.values()):
            file.write_text(HEAD.format(sites=PARIS) + BUCKET.replace("beside", f"shared/{number}"))
        wait_for("all their DAGs", lambda: len(found()) == len(names), 90)
        shares = {dag_id(name): shard_of(name, shard_files(SHARDS)) for name in names}
        assert {name: file for name, (file, _) in found().items()} == shares
        assert len(set(shares.values())) == SHARDS
        assert not [error for error in session.api.import_errors() if "shared" in error]
        changed = files["shared-7"]
        changed.write_text(changed.read_text().replace("daily", "weekly"))
        wait_for("the change", lambda: "weekly" in found()[dag_id("shared-7")][1], 30)
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def test_a_removed_file_is_no_dag_any_more_and_its_run_can_be_ended(session: Session, beside: dict[str, Path]) -> None:
    api = session.api
    run = api.trigger(dag_id(DEAD), **dict(zip(("from", "to"), WINDOWS[0], strict=True)))
    wait_for("a delivery of its run", lambda: "deliver" in at_work(api, run), 120)
    beside[DEAD].unlink()
    wait_for("the DAG goes", lambda: dag_id(DEAD) not in api.dag_ids(), 60)
    assert dag_id(HEALTHY) in api.dag_ids()
    assert outcome(api, DEAD, run) is None  # it waits for ever: the file may come back
    assert [one["task_id"] for one in api.task_instances(dag_id(DEAD), run) if one["state"] == "failed"] == []
    api.request("PATCH", f"/dags/{dag_id(DEAD)}/dagRuns/{run}", json={"state": "failed"})
    assert outcome(api, DEAD, run) == "failed"
