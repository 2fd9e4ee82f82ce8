"""What a second delivery of a window, and two at once, write, in the words of the server's own log."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.layout import image_key
from demo.servers.faults import FaultProxy
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.strict import StrictGcs, StrictS3
from tests.connectors.contract import DATA_KEY, SITE, random_bytes
from tests.connectors.kill_kit import deliver_all, open_place

IMAGES = [UUID(int=number) for number in range(20)]
KEYS = {DATA_KEY, *(image_key(SITE, image, ".png") for image in IMAGES)}
DATA = random_bytes(9 << 20, seed=1)  # in parts where the connector knows parts


class Log(Protocol):
    """What a server did since `forget`."""

    def forget(self) -> None: ...

    def changes(self) -> list[str]:
        """Every request that changes something, that was granted or not: content, deletions, renames."""
        ...

    def completed(self) -> Counter[str]:
        """How often an object got its name, by key."""
        ...


class HttpLog:
    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    def forget(self) -> None:
        self._proxy.seen.clear()

    def changes(self) -> list[str]:
        return [f"{one.method} {one.url}" for one in self._proxy.seen if one.method not in ("GET", "HEAD") or one.body]

    def completed(self) -> Counter[str]:
        """A write that was granted; of one in parts, its end. Cloud Storage is told the name in a small body too."""
        granted = [one for one in self._proxy.seen if _completes(one)]
        told = [f"{one.url.path} {one.url.query} ".encode() + one.body[:2000] for one in granted]
        return Counter(key for key in KEYS for one in told if key.encode() in one)


def _completes(one: Any) -> bool:
    if one.method not in ("PUT", "POST") or one.status not in (200, 201):
        return False
    query = one.url.query
    if "partNumber" in query or "uploads" in query:
        return False
    return not (query.get("uploadType") == "resumable" and one.method == "POST")


class SftpLog:
    def __init__(self) -> None:
        self._changes: list[str] = []
        log = self._changes

        class Logged(asyncssh.SFTPServer):
            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
                if pflags & ~asyncssh.FXF_READ:
                    log.append(f"open {path!r}")
                return super().open(path, pflags, attrs)

            def write(self, file_obj: object, offset: int, data: bytes) -> Any:
                log.append("write")
                return super().write(file_obj, offset, data)

            def remove(self, path: bytes) -> None:
                log.append(f"remove {path!r}")
                super().remove(path)

            def rename(self, oldpath: bytes, newpath: bytes) -> None:
                log.append(f"rename to {newpath!r}")
                super().rename(oldpath, newpath)
                log.append(f"named {newpath.decode()}")

            def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
                log.append(f"replace {newpath!r}")
                super().posix_rename(oldpath, newpath)

            def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
                log.append(f"mkdir {path!r}")
                super().mkdir(path, attrs)

        self.server = Logged

    def forget(self) -> None:
        self._changes.clear()

    def changes(self) -> list[str]:
        return list(self._changes)

    def completed(self) -> Counter[str]:
        assert not [one for one in self._changes if one.startswith("replace")]
        return Counter(key for key in KEYS for one in self._changes if one.startswith("named ") and one.endswith(key))


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images and the data file of one window."""
    folder = tmp_path_factory.mktemp("window")
    (folder / "images" / str(SITE)).mkdir(parents=True)
    for number, image in enumerate(IMAGES):
        (folder / "images" / str(SITE) / f"{image}.png").write_bytes(random_bytes(30_000, seed=number))
    listed = {"input_id": [str(image) for image in IMAGES], "file_extension": [".png"] * len(IMAGES)}
    pq.write_table(pa.table(listed), folder / "images.parquet")
    (folder / "data.json").write_bytes(DATA)
    return folder


Place = tuple[str, dict[str, Any], Log]


@pytest.fixture(params=["gs", "s3", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    bucket = f"b-{uuid4().hex}"
    with ExitStack() as servers:
        if request.param == "gs":
            gcs = servers.enter_context(GcsServer(tmp_path / "gcs"))
            gcs.create_bucket(bucket)
            proxy = servers.enter_context(FaultProxy(gcs.url, StrictGcs()))
            yield "gs", {"url": proxy.url, "uri": f"gs://{bucket}/exports/"}, HttpLog(proxy)
        elif request.param == "s3":
            s3 = servers.enter_context(S3Server(tmp_path / "s3"))
            s3.create_bucket(bucket)
            proxy = servers.enter_context(FaultProxy(s3.url, StrictS3()))
            yield "s3", {"url": proxy.url, "uri": f"s3://{bucket}/exports/"}, HttpLog(proxy)
        else:
            log = SftpLog()
            sftp = servers.enter_context(SftpServer(tmp_path / "sftp", sftp=log.server))
            login = {name: getattr(sftp, name) for name in ("host", "port", "username", "host_key", "passphrase")}
            login["private_key_path"] = str(sftp.private_key_path)
            yield "sftp", {"login": login, "path": f"{sftp.base}exports"}, log


def test_a_repeat_sends_no_byte_and_changes_nothing(place: Place, window: Path) -> None:
    kind, described, log = place
    deliver_all(kind, described, str(window))
    assert log.completed() == Counter(dict.fromkeys(KEYS, 1))
    log.forget()
    deliver_all(kind, described, str(window))
    assert log.changes() == []


def test_of_two_at_once_each_object_is_written_by_one(place: Place, window: Path) -> None:
    kind, described, log = place
    with ThreadPoolExecutor(2) as two:
        for run in [two.submit(deliver_all, kind, described, str(window)) for _ in range(2)]:
            run.result()
    assert log.completed() == Counter(dict.fromkeys(KEYS, 1))

    async def read(key: str) -> bytes:
        async with open_place(kind, described) as target:
            return b"".join([chunk async for chunk in target.read(key)])

    assert asyncio.run(read(DATA_KEY)) == DATA
