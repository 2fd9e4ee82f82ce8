"""Killed again and again, a delivery shows no reader a part, and the last try completes it.

`DATA_EXPORT_TEST_KILLS` sets how many kills each connector takes (20; the nightly run of `make kills` takes 200).
"""

import asyncio
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.layout import image_key
from demo.servers.gcs import GcsServer
from demo.servers.openssh import OpensshServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, SITE, random_bytes
from tests.connectors.kill_kit import KILLS, deliver_all, open_place, wait_or_kill, watch
from tests.connectors.test_sftp import login_as_dict

IMAGES = [UUID(int=number) for number in range(12)]
DATA = random_bytes(9 << 20, seed=1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for number, image in enumerate(IMAGES):
        path = folder / "images" / str(SITE) / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(20_000 + 150_000 * (number % 3), seed=number))
    listed = {"input_id": [str(image) for image in IMAGES], "file_extension": [".png"] * len(IMAGES)}
    pq.write_table(pa.table(listed), folder / "images.parquet")
    (folder / "data.json").write_bytes(DATA)
    return folder


@pytest.fixture(scope="module")
def forkserver() -> Any:
    """Processes that begin with everything imported: a kill costs milliseconds, not a start of Python."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [f"tests.connectors.{name}" for name in ("kill_kit", "test_gcs", "test_s3", "test_sftp")]
    )
    return context


@pytest.fixture(params=["file", "gs", "s3", "sftp", "openssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    bucket = f"b-{uuid4().hex}"
    with ExitStack() as servers:
        if request.param == "gs":
            gcs = servers.enter_context(GcsServer(tmp_path / "gcs"))
            gcs.create_bucket(bucket)
            described = {"url": gcs.url, "uri": f"gs://{bucket}/exports/"}
        elif request.param == "s3":
            s3 = servers.enter_context(S3Server(tmp_path / "s3"))
            s3.create_bucket(bucket)
            described = {"url": s3.url, "uri": f"s3://{bucket}/exports/"}
        elif request.param == "sftp":
            described = _sftp(servers.enter_context(SftpServer(tmp_path / "sftp")))
        elif request.param == "openssh":
            if not OpensshServer.installed():
                pytest.skip("no /usr/sbin/sshd on this machine: install openssh-server to run these")
            (tmp_path / "sshd").mkdir()
            described = _sftp(servers.enter_context(OpensshServer(tmp_path / "sshd")))
        else:
            described = {"path": str(tmp_path / "target")}
        yield request.param.replace("openssh", "sftp"), described


def _sftp(server: SftpServer | OpensshServer) -> dict[str, Any]:
    return {"login": login_as_dict(server), "path": f"{server.base}exports"}


def test_no_kill_is_ever_seen_by_a_reader(place: tuple[str, dict[str, Any]], prepared: Path, forkserver: Any) -> None:
    kind, described = place
    over, emptying = threading.Event(), threading.Lock()
    outcome: list[int | BaseException] = []

    def read() -> None:
        try:
            outcome.append(asyncio.run(watch(kind, described, DATA, IMAGES, over.is_set, emptying)))
        except BaseException as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        kills, whole = _kill_all(kind, described, prepared, forkserver, emptying)
    finally:
        over.set()
        reader.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    assert kills == KILLS
    assert whole, "no try was left alone to the end"


def _kill_all(
    kind: str, described: dict[str, Any], prepared: Path, forkserver: Any, emptying: threading.Lock
) -> tuple[int, int]:
    """Kills tries at seeded moments of the time that a whole one takes; a delivered target is emptied for the next."""
    dice = random.Random(kind)
    _whole_try(kind, described, prepared, forkserver)  # starts the fork server, which takes longer than a try
    with emptying:
        asyncio.run(_empty(kind, described))
    length, kills, whole = _whole_try(kind, described, prepared, forkserver), 0, 1
    with emptying:
        asyncio.run(_empty(kind, described))
    while kills < KILLS:
        process = forkserver.Process(target=deliver_all, args=(kind, described, str(prepared)))
        process.start()
        if wait_or_kill(process, time.monotonic() + dice.uniform(0, length)):
            whole += 1
            with emptying:
                asyncio.run(_empty(kind, described))
        else:
            kills += 1
    _whole_try(kind, described, prepared, forkserver)
    asyncio.run(_check(kind, described, prepared))
    return kills, whole


def _whole_try(kind: str, described: dict[str, Any], prepared: Path, forkserver: Any) -> float:
    begun = time.monotonic()
    process = forkserver.Process(target=deliver_all, args=(kind, described, str(prepared)))
    process.start()
    assert wait_or_kill(process, begun + 60), f"{kind}: a try that nobody killed failed"
    return time.monotonic() - begun


async def _empty(kind: str, described: dict[str, Any]) -> None:
    """The data file first, as its images must not go before it."""
    async with open_place(kind, described) as target:
        await target.delete(DATA_KEY)
        for image in IMAGES[::2]:
            await target.delete(image_key(SITE, image, ".png"))


async def _check(kind: str, described: dict[str, Any], prepared: Path) -> None:
    async with open_place(kind, described) as target:
        assert b"".join([chunk async for chunk in target.read(DATA_KEY)]) == DATA
        for image in IMAGES:
            there = b"".join([chunk async for chunk in target.read(image_key(SITE, image, ".png"))])
            assert there == (prepared / "images" / str(SITE) / f"{image}.png").read_bytes()
