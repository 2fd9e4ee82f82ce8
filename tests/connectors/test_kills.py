"""Killed again and again, a delivery shows no reader a part, and the last try completes it.

Kills come at seeded moments; on the cloud stores every second one comes at a write instead, just before the server sees
it or when only the answer is missing. These are the same in every run.

`DATA_EXPORT_TEST_KILLS` sets how many kills each connector takes (20; the nightly run of `make kills` takes 200), SFTP
servers of other makers than OpenSSH a quarter of that.
"""

import asyncio
import logging
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.layout import image_key
from demo.servers.abfs import AbfsServer
from demo.servers.faults import FaultProxy
from demo.servers.foreign import ProftpdServer, RcloneServer
from demo.servers.gcs import GcsServer
from demo.servers.openssh import OpensshServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.strict import StrictGcs, StrictS3
from tests.connectors.contract import DATA_KEY, SITE, random_bytes
from tests.connectors.kill_boundary import KillAtWrite, Moment, as_it_is
from tests.connectors.kill_kit import KILLS, PRELOADED, deliver_all, open_place, wait_or_kill, watch
from tests.connectors.s3.stores import client_of, key_session
from tests.connectors.sftp.logins import Server, login_as_dict

IMAGES = [UUID(int=number) for number in range(12)]
DATA = random_bytes(9 << 20, seed=1)
_log = logging.getLogger(__name__)
MOMENTS: tuple[Moment, ...] = ("before", "after")


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
    context.set_forkserver_preload(PRELOADED)
    return context


@dataclass(frozen=True)
class Place:
    """What makes a client of the target in any process, and who kills at writes, where somebody can."""

    kind: str
    described: dict[str, Any]
    #: The same for those who are killed: by way of the killer.
    theirs: dict[str, Any]
    killer: KillAtWrite | None = None
    kills: int = KILLS


SFTP_SERVERS = {"openssh": OpensshServer, "proftpd": ProftpdServer, "rclone": RcloneServer}


@pytest.fixture(params=["file", "gs", "s3", "abfs", "sftp", *SFTP_SERVERS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    bucket, killer = f"b-{uuid4().hex}", None
    with ExitStack() as servers:
        if request.param in ("gs", "s3"):
            server = servers.enter_context((GcsServer if request.param == "gs" else S3Server)(tmp_path / "cloud"))
            server.create_bucket(bucket)
            killer = KillAtWrite(StrictGcs() if request.param == "gs" else StrictS3())
            proxy = servers.enter_context(FaultProxy(server.url, killer))
            described = {"url": server.url, "uri": f"{request.param}://{bucket}/exports/"}
            theirs = described | {"url": proxy.url}
        elif request.param == "abfs":
            if not AbfsServer.installed():
                pytest.skip("no azurite-blob on this machine: npm install -g azurite, or set AZURITE, to run these")
            azurite = servers.enter_context(AbfsServer(tmp_path / "azurite"))
            azurite.create_bucket(bucket)
            killer = KillAtWrite(as_it_is)
            proxy = servers.enter_context(FaultProxy(azurite.url, killer))
            described = {"url": azurite.url, "container": bucket}
            theirs = described | {"url": proxy.url}
        elif request.param == "sftp":
            described = _sftp(servers.enter_context(SftpServer(tmp_path / "sftp")))
        elif kind := SFTP_SERVERS.get(request.param):
            if not kind.installed():
                pytest.skip(f"no {request.param} on this machine: install it to run these")
            (tmp_path / "server").mkdir()
            described = _sftp(servers.enter_context(kind(tmp_path / "server")))
        else:
            described = {"path": str(tmp_path / "target")}
        kind_of_place = "sftp" if request.param in SFTP_SERVERS else request.param
        kills = max(5, KILLS // 4) if request.param in ("proftpd", "rclone") else KILLS
        yield Place(kind_of_place, described, theirs if killer else described, killer, kills)


def _sftp(server: Server) -> dict[str, Any]:
    return {"login": login_as_dict(server), "path": f"{server.base}exports"}


def test_no_kill_is_ever_seen_by_a_reader(place: Place, prepared: Path, forkserver: Any) -> None:
    over, emptying = threading.Event(), threading.Lock()
    outcome: list[int | BaseException] = []

    def read() -> None:
        try:
            outcome.append(asyncio.run(watch(place.kind, place.described, DATA, IMAGES, over.is_set, emptying)))
        except BaseException as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        kills, whole = _kill_all(place, prepared, forkserver, emptying)
    finally:
        over.set()
        reader.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    assert kills == place.kills
    assert whole, "no try was left alone to the end"


def _kill_all(place: Place, prepared: Path, forkserver: Any, emptying: threading.Lock) -> tuple[int, int]:
    """Kills tries as the module says; a delivered target is emptied for the next."""

    def empty() -> None:
        with emptying:
            asyncio.run(_empty(place))

    dice = random.Random(place.kind)
    _whole_try(place, prepared, forkserver)  # starts the fork server, which takes longer than a try
    empty()
    if place.killer:
        place.killer.count()
    length, kills, whole = _whole_try(place, prepared, forkserver), 0, 1
    writes = place.killer.writes if place.killer else 0
    empty()
    while kills < place.kills:
        begun, process = time.monotonic(), _begun(place, prepared, forkserver)
        if place.killer and kills % 2:
            at, moment = dice.randint(1, writes), dice.choice(MOMENTS)
            _log.info("kill %d: %s write %d of %d", kills, moment, at, writes)  # shown where the test fails
            place.killer.arm(process.pid, at, moment)
            ended = wait_or_kill(process, time.monotonic() + 60)
            place.killer.count()
        else:
            ended = wait_or_kill(process, begun + dice.uniform(0, length))
        if ended:
            length = min(length, time.monotonic() - begun)  # the first may have been a slow one
            whole += 1
            empty()
        else:
            kills += 1
    _whole_try(place, prepared, forkserver)
    asyncio.run(_check(place, prepared))
    if place.kind == "s3":
        empty()
        _whole_try(place, prepared, forkserver)
        assert _unfinished(place) == [], "parts that killed tries sent are kept, and billed"
    return kills, whole


def _unfinished(place: Place) -> list[Any]:
    client = client_of(place.described["url"], key_session())
    bucket = urlsplit(place.described["uri"]).netloc
    found: list[Any] = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    client.close()
    return found


def _begun(place: Place, prepared: Path, forkserver: Any) -> Any:
    process = forkserver.Process(target=deliver_all, args=(place.kind, place.theirs, str(prepared)))
    process.start()
    return process


def _whole_try(place: Place, prepared: Path, forkserver: Any) -> float:
    begun = time.monotonic()
    assert wait_or_kill(_begun(place, prepared, forkserver), begun + 60), f"{place.kind}: a try takes a minute"
    return time.monotonic() - begun


async def _empty(place: Place) -> None:
    """The data file first, as its images must not go before it."""
    async with open_place(place.kind, place.described) as target:
        await target.delete(DATA_KEY)
        for image in IMAGES[::2]:
            await target.delete(image_key(SITE, image, ".png"))


async def _check(place: Place, prepared: Path) -> None:
    async with open_place(place.kind, place.described) as target:
        assert b"".join([chunk async for chunk in target.read(DATA_KEY)]) == DATA
        for image in IMAGES:
            there = b"".join([chunk async for chunk in target.read(image_key(SITE, image, ".png"))])
            assert there == (prepared / "images" / str(SITE) / f"{image}.png").read_bytes()
