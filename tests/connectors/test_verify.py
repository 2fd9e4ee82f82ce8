"""Whether what receipts say is at the target, on real servers of every kind."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.errors import TransientError
from data_export.pipeline.verify import DeliveredFile, Verified, verify
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import s3_store
from tests.connectors.sftp.logins import login_of

DATA = b'{"id": 1}\n' * 3


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GcsServer, S3Server, SftpServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with GcsServer(folder / "gcs") as gcs, S3Server(folder / "s3") as s3, SftpServer(folder / "sftp") as sftp:
        gcs.create_bucket("bucket")
        s3.create_bucket("bucket")
        yield gcs, s3, sftp


@pytest.fixture(params=["gs", "s3", "sftp", "file"])
def target(
    request: pytest.FixtureRequest, servers: tuple[GcsServer, S3Server, SftpServer], tmp_path: Path
) -> Destination:
    gcs, s3, sftp = servers
    folder = uuid4().hex
    stores = {
        "gs": lambda: gcs_store(gcs.url, f"gs://bucket/{folder}/"),
        "s3": lambda: s3_store(s3.url, f"s3://bucket/{folder}/"),
        "sftp": lambda: SftpDestination(login_of(sftp), folder),
        "file": lambda: LocalStore(tmp_path),
    }
    found: Destination = stores[request.param]()
    return found


def delivered(uri: str, data: bytes = DATA) -> DeliveredFile:
    return DeliveredFile(
        "2025-03-16T00:00:00+00:00",
        "2025-03-17T00:00:00+00:00",
        "433a60f6-9756-473e-b1e9-9e89e24bb787",
        uri,
        len(data),
        hashlib.sha256(data).hexdigest(),
        work_orders=3,
        outcome="created",
        revision=1,
        delivered_at="2025-03-17T00:06:00+00:00",
    )


def looked(target: Destination, files: list[DeliveredFile], *, read: bool = True) -> dict[str, tuple[str, str]]:
    found: list[Verified] = []
    verify(target, files, found.append, read=read)
    return {one.file.uri.rpartition("/")[2]: (one.found, one.detail) for one in found}


def test_what_differs_is_found_and_nothing_else(target: Destination) -> None:
    async def put() -> None:
        async with target:
            for name in ("right", "longer", "changed"):
                data = {"longer": DATA + b"x", "changed": DATA[::-1]}.get(name, DATA)
                await target.create(f"data/{name}", Content.of_bytes(data))

    asyncio.run(put())
    files = [delivered(f"{target.uri}data/{name}") for name in ("right", "longer", "changed", "gone")]
    found = looked(target, files)
    assert found == {
        "right": ("ok", ""),
        "longer": ("other size", "31 B (31 bytes), not 30 B (30)"),
        "changed": ("other content", "same size, another checksum"),
        "gone": ("missing", ""),
    }
    assert looked(target, files, read=False)["changed"][0] in ("ok", "other content")


def test_a_file_of_an_earlier_target_is_not_said_to_be_missing(target: Destination) -> None:
    found = looked(target, [delivered("gs://the-old-bucket/data/x.json")])
    assert found["x.json"][0] == "elsewhere"


def test_a_hundred_files_are_each_reported_once(target: Destination) -> None:
    async def put() -> None:
        async with target:
            await target.create("data/0", Content.of_bytes(DATA))

    asyncio.run(put())
    found: list[Verified] = []
    verify(target, [delivered(f"{target.uri}data/{number}") for number in range(100)], found.append)
    assert sorted(int(one.file.uri.rpartition("/")[2]) for one in found) == list(range(100))
    assert [one.found for one in found].count("ok") == 1


def test_a_file_that_may_not_be_read_is_unreadable_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "right").write_bytes(DATA)
    target = LocalStore(tmp_path)
    found = looked(target, [delivered(f"{target.uri}{name}") for name in ("folder", "right")])
    assert found["right"] == ("ok", "")
    assert found["folder"][0] in ("unreadable", "missing")


def test_a_server_that_is_gone_is_no_missing_file(tmp_path: Path) -> None:
    with SftpServer(tmp_path) as server:
        login = login_of(server)
    target = SftpDestination(login, "x")
    with pytest.raises(TransientError):
        verify(target, [delivered(f"{target.uri}data/x")], lambda _: None)
