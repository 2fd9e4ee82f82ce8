"""`DeliverFileOperator`: any file, verified, complete or absent, safe to repeat."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data_export.errors import ConfigError, TargetNotFound
from data_export.pipeline.file import content_type, revision_key
from data_export.window import ExportWindow
from data_export_airflow.operators import (
    DeliverFileOperator,
)
from demo.servers.sftp import SftpServer

ROOT = Path(__file__).parents[2]
START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = ExportWindow(START, END)
TYPE = "work-orders-timeline"
RANGE = {"from": START.isoformat(), "to": END.isoformat()}


class TestDeliverFile:
    def deliver(self, source: str, target: str, **more: Any) -> dict[str, Any]:
        task = DeliverFileOperator(task_id="deliver", source_uri=source, target_uri=target, **more)
        return task.execute({})

    @pytest.mark.parametrize(
        ("if_exists", "outcome", "left"),
        [
            ("replace", "replaced", {"out.json.gz": b"new"}),
            ("keep", "kept", {"out.json.gz": b"old"}),
            ("revision", "revision", {"out.json.gz": b"old", "out.r2.json.gz": b"new"}),
        ],
    )
    def test_it_may_be_repeated_and_other_content_is_met_as_asked(
        self, tmp_path: Path, if_exists: str, outcome: str, left: dict[str, bytes]
    ) -> None:
        source, target = tmp_path / "in a.json", tmp_path / "to" / "out.json.gz"
        source.write_bytes(b"old")
        first = self.deliver(source.as_uri(), target.as_uri())
        assert (first["outcome"], first["bytes"], first["uri"]) == ("created", 3, f"file://{target}")
        written = target.stat().st_mtime_ns
        assert self.deliver(source.as_uri(), target.as_uri())["outcome"] == "unchanged"
        assert target.stat().st_mtime_ns == written
        source.write_bytes(b"new")
        assert self.deliver(source.as_uri(), target.as_uri(), if_exists=if_exists)["outcome"] == outcome
        assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == left

    @pytest.mark.parametrize("folder", ["", "in/", "~/", "~/in/"])
    def test_sftp_both_ways(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
        (tmp_path / "a.txt").write_bytes(b"words")
        with SftpServer(tmp_path / "sftp") as server:
            extra = {
                "private_key": server.private_key_path.read_text(),
                "private_key_passphrase": server.passphrase,
                "host_key": server.host_key,
            }
            login = {"conn_type": "sftp", "host": server.host, "port": server.port, "login": server.username}
            monkeypatch.setenv("AIRFLOW_CONN_ACME", json.dumps(login | {"extra": extra}))
            uri = f"sftp:///{folder}b.txt"
            self.deliver(f"file://{tmp_path}/a.txt", uri, target_conn_id="acme")
            assert (server.root / folder.removeprefix("~/") / "b.txt").read_bytes() == b"words"
            back = self.deliver(uri, f"file://{tmp_path}/c.txt", source_conn_id="acme")
        assert (back["outcome"], (tmp_path / "c.txt").read_bytes()) == ("created", b"words")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"source": "ftp://a/b"}, "source_uri='ftp://a/b' is not the address of a file: write one such as gs://"),
            ({"source": "gs://bucket/folder/"}, "is not the address of a file"),
            ({"source": "gs://bucket"}, "is not the address of a file"),
            ({"source": "None"}, "source_uri='None' is not the address"),
            ({"target": "sftp://host/file"}, "target_uri='sftp://host/file' is not .*the server is in the connection"),
            ({"target": "gs://bucket/file"}, "needs an Airflow connection: give its id in target_conn_id"),
            ({"target": "file:///srv/../etc/passwd"}, "target_uri: .* has an empty, '.' or '..' part"),
            ({"if_exists": "overwrite"}, "if_exists='overwrite' is not one of replace, keep, revision"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_fix(self, tmp_path: Path, given: dict[str, Any], words: str) -> None:
        (tmp_path / "a").touch()
        place = f"file://{tmp_path}/a"
        with pytest.raises(ConfigError, match=words):
            self.deliver(**{"source": place, "target": place} | given)

    def test_a_source_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TargetNotFound, match=r"no file to deliver: .*a.txt.*; correct source_uri"):
            self.deliver(f"file://{tmp_path}/a.txt", f"file://{tmp_path}/b.txt")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "second", "kind"),
    [
        ("a/b.json", "a/b.r2.json", "application/json"),
        ("a.b/c", "a.b/c.r2", "application/octet-stream"),
        ("b.jsonl", "b.r2.jsonl", "application/x-ndjson"),
        ("b.csv.gz", "b.r2.csv.gz", "application/octet-stream"),
        ("b.v1.csv", "b.v1.r2.csv", "text/csv"),
        (".env", ".env.r2", "application/octet-stream"),
    ],
)
def test_a_revision_keeps_its_extension_and_its_type(key: str, second: str, kind: str) -> None:
    assert (revision_key(key, 1), revision_key(key, 2)) == (key, second)
    assert content_type(key) == content_type(second) == kind
