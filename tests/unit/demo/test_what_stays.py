"""What people find after the demo: files, links that work again, an answer; and that it is never silent for long."""

import json
import subprocess
import sys
import threading
import time
from email.message import EmailMessage
from pathlib import Path

import boto3
import httpx
import pytest
from azure.storage.blob import ContainerClient
from botocore.config import Config

from data_export.errors import DataExportError
from demo import answer, session
from demo.__main__ import _parser
from demo.guard import members
from demo.ls import GCS_FOLDER, SFTP_FOLDER, show_files
from demo.platform import free_port
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server


@pytest.mark.parametrize(
    ("folder", "end"), [("", "`make clean` removes it."), ("x", "remove that folder to begin anew.")]
)
def test_who_stops_it_is_told_how_to_begin_anew(
    folder: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which `make clean` does not do for a folder of one's own."""
    monkeypatch.setenv("DATA_EXPORT_STATE_DIR", folder and str(tmp_path / folder))
    assert _parser().parse_args(["up"]).kept.endswith(end)


def test_objects_and_links_of_s3_survive_a_restart(tmp_path: Path) -> None:
    with S3Server(tmp_path, keeps=True) as server:
        port = server.port
        server.create_bucket("staging")
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        for key in ("links/a:b/x.json", "gone"):
            client.put_object(Bucket="staging", Key=key, Body=b"1\n")
        link = client.generate_presigned_url("get_object", {"Bucket": "staging", "Key": "links/a:b/x.json"})
    with S3Server(tmp_path / "another", port):
        assert httpx.get(link, trust_env=False).status_code == 404  # of the folder alone, not of this process
    with S3Server(tmp_path, port, keeps=True) as server:
        assert httpx.get(link, trust_env=False).content == b"1\n"
        client.delete_object(Bucket="staging", Key="gone")
    assert [path.name for path in (tmp_path / "staging").rglob("*") if path.is_file()] == ["x.json"]


@pytest.mark.skipif(not AbfsServer.installed(), reason="no azurite-blob on this machine: npm install -g azurite")
def test_objects_of_azure_survive_a_restart_and_are_listed(tmp_path: Path) -> None:
    def client(server: AbfsServer) -> ContainerClient:
        return ContainerClient(f"{server.url}/{ACCOUNT}", "demo-customer", KEY)

    folder, site = "deepomatic/production/", "5d0c0be2-6f4e-4f0a-9c2e-2f6d1b7f3a10"
    with AbfsServer(tmp_path / "abfs", keeps=True) as server:
        server.create_bucket("demo-customer")
        with client(server) as container:
            for name in (f"{folder}{site}/data/x.json", f"{folder}{site}/inputs/a.png", "elsewhere/y.json"):
                container.upload_blob(name, b"1\n")
            container.get_blob_client(f"{folder}{site}/data/unfinished").stage_block("MDAwMA==", b"1")
    ports = {"gcs": 1, "s3": 1, "sftp": 1, "smtp": 1, "postgres": 1, "abfs": server.port}
    (tmp_path / "ports.json").write_text(json.dumps(ports))
    (part,) = (part for part in "\n".join(show_files(tmp_path)).split("\ndemo-") if part.startswith("states-abfs:"))
    assert f"BlobEndpoint=http://127.0.0.1:{server.port}/{ACCOUNT};' -o table" in part
    assert part.rstrip().splitlines()[3:] == [f"    {site}/data/x.json", f"    {site}/inputs/: 1 images"]
    with AbfsServer(tmp_path / "abfs", server.port, keeps=True) as server, client(server) as container:
        assert container.download_blob("elsewhere/y.json").readall() == b"1\n"


def test_a_port_is_kept_where_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with S3Server(Path("unused"), port):
        assert free_port(port) != port


def test_every_customer_has_a_place_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(DataExportError, match="run `make demo` or `make up` first"):
        list(show_files(tmp_path))
    (tmp_path / "ports.json").write_text(json.dumps({"gcs": 1, "s3": 1, "sftp": 1, "smtp": 1, "postgres": 1}))
    site = "433a60f6-9756-473e-b1e9-9e89e24bb787"
    for root in (GCS_FOLDER / "demo-customer/deepomatic/production", SFTP_FOLDER / "exports"):
        for name in ("data/work-orders-timeline/x.json", "inputs/a.png", "inputs/b.png"):
            path = tmp_path / root / site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    (tmp_path / "mail").mkdir()
    body = "Your data is ready:\n\nhttp://127.0.0.1:1/platform-staging/links/x.json?a=1\n"
    mail = EmailMessage()
    mail["Subject"] = "Data export"
    mail.set_content(body, cte="quoted-printable")
    (tmp_path / "mail" / "1.eml").write_bytes(bytes(mail))
    text = "\n".join(show_files(tmp_path))
    names = ("demo-link-email", "demo-states-abfs", "demo-states-s3", "demo-timeline-gs", "demo-timeline-sftp")
    parts = dict(zip(names, text.split("\ndemo-")[1:], strict=True))
    for name in ("demo-timeline-gs", "demo-timeline-sftp"):
        assert f"    {site}/data/work-orders-timeline/x.json" in parts[name]
        assert f"    {site}/inputs/: 2 images" in parts[name]
    assert "not delivered to: there is no azurite-blob on this machine" in parts["demo-states-abfs"]
    assert "nothing yet" in parts["demo-states-s3"]
    assert "s3 ls --recursive s3://demo-customer/" in parts["demo-states-s3"]
    assert f"{tmp_path}/mail/*.eml, 1 mail;" in parts["demo-link-email"]
    assert "    Data export\n    http://127.0.0.1:1/platform-staging/links/x.json?a=1" in parts["demo-link-email"]


def test_the_question_is_answered_from_the_newest_state_of_each_work_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def order(name: str, day: int, *jobs: tuple[str, str | None]) -> str:
        rest = dict.fromkeys(("analyzed_value", "corrected_value", "message", "is_conformity_validated"))
        told = [{"task_name": task, "corrected_date": date} | rest for task, date in jobs]
        photo = dict.fromkeys(("create_date", "file_extension", "metadata"))
        photo |= {"id": "p", "data_conformity": [], "job_conformity": told}
        item = {"id": "i", "name": None, "input": [photo]}
        moments = {"create_date": None, "update_date": f"2025-03-{day}T12:00:00.000000+00:00"}
        record = {"id": name, "name": None, "site_id": "s", "metadata": {"a": 1}, "work_items": [item] if jobs else []}
        return json.dumps(record | moments | {"progress_score": None}) + "\n"

    def window(day: int, text: str) -> None:
        (folder / f"2025-03-{day}_00:00:00_2025-03-{day + 1}_00:00:00.json").write_text(text)

    folder = tmp_path / "site" / "data" / "work-orders-timeline"
    folder.mkdir(parents=True)
    window(16, order("x", 16, ("open", None), ("close", None)))
    corrected = order("x", 17, ("open", None), ("close", "2025-03-17T11:00:00.000000+00:00"))
    window(17, corrected + order("y", 17))
    window(18, "")  # without work orders
    jobs = answer.load(tmp_path)
    assert jobs["task_name"].to_pylist() == ["open", "close"]
    assert jobs["corrected_date"].null_count == 1
    assert capsys.readouterr().out.startswith("2 work orders in 3 files of ")
    for nothing in (tmp_path / "nowhere", tmp_path / "site" / "data" / "work-orders-states"):
        with pytest.raises(SystemExit, match="holds no data files"):
            answer.load(nothing)


def test_what_is_removed_by_hand_is_gone_from_cloud_storage(tmp_path: Path) -> None:
    """So that it is delivered again."""
    with GcsServer(tmp_path / "gcs") as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        server.create_bucket("customer")
        for _ in range(2):
            upload = {"uploadType": "media", "name": "a/x.json"}
            client.post("/upload/storage/v1/b/customer/o", params=upload, content=b"1\n").raise_for_status()
            assert client.get("/storage/v1/b/customer/o/a%2Fx.json").json()["size"] == "2"
            (tmp_path / GCS_FOLDER / "customer/a/x.json").unlink()
            assert client.get("/storage/v1/b/customer/o/a%2Fx.json").status_code == 404
            assert client.get("/storage/v1/b/customer/o").json()["items"] == []


def test_it_is_never_silent_for_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(session, "_SILENCE", 0.0)
    over = threading.Event()
    with session.Sayer() as say:
        say("starting Airflow")
        over.wait(1.5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("] ")[2] for line in lines[:2]] == ["starting Airflow", "... starting Airflow"]
    time.sleep(1.2)
    assert capsys.readouterr().out == "", "after the start it says nothing by itself"


@pytest.mark.skipif(not AbfsServer.installed(), reason="no azurite-blob on this machine: npm install -g azurite")
def test_a_killed_process_leaves_no_azurite(tmp_path: Path) -> None:
    program = """
import pathlib, sys, time
from demo.servers.abfs import AbfsServer
with AbfsServer(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        azurite = int(parent.stdout.readline())
        assert members([azurite])
        parent.kill()
        until = time.monotonic() + 10
        while members([azurite]) and time.monotonic() < until:
            time.sleep(0.05)
        assert not members([azurite])
