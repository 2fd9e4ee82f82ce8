"""Killed before each request that changes something on an SFTP server, a delivery is completed by the next try.

Unlike the kills at seeded moments of `test_kills.py`, these reach every boundary, and the same ones every time.
"""

import asyncio
import inspect
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.content import Content
from data_export.delivery.sftp.leftovers import ABANDONED_SECONDS, TEMPORARY_PREFIX
from data_export.layout import image_key
from demo.servers.sftp import SftpServer
from tests.connectors.contract import DATA_KEY, SITE, random_bytes
from tests.connectors.kill_kit import PRELOADED, deliver_all, open_place
from tests.connectors.sftp.logins import login_as_dict

OLD = b"old"
NEW = random_bytes(300_000)  # two blocks
IMAGES = {image_key(SITE, UUID(int=number), ".png"): random_bytes(1_000, seed=number) for number in range(2)}


class Counting(asyncssh.SFTPServer):
    """Does `allowed` requests that change something and holds the others until the next `generation`."""

    allowed = 0
    generation = 0
    held = threading.Event()
    posix = True

    def __init__(self, channel: Any, chroot: bytes) -> None:
        super().__init__(channel, chroot)
        self._born = Counting.generation

    async def _count(self, change: Callable[..., Any], *args: Any) -> Any:
        while self._born == Counting.generation and not Counting.allowed:
            Counting.held.set()
            await asyncio.sleep(0.005)
        if self._born == Counting.generation:
            Counting.allowed -= 1
        elif change.__name__ != "close":  # a dead client's files are closed, but nothing more is done for it
            raise asyncssh.SFTPConnectionLost("killed")
        result = change(*args)
        return await result if inspect.isawaitable(result) else result

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if pflags & asyncssh.FXF_WRITE:
            return self._count(super().open, path, pflags, attrs)
        return super().open(path, pflags, attrs)

    def write(self, *args: Any) -> Any:
        return self._count(super().write, *args)

    def fsync(self, *args: Any) -> Any:
        return self._count(super().fsync, *args)

    def close(self, *args: Any) -> Any:
        return self._count(super().close, *args)

    def mkdir(self, *args: Any) -> Any:
        return self._count(super().mkdir, *args)

    def remove(self, *args: Any) -> Any:
        return self._count(super().remove, *args)

    def rename(self, *args: Any) -> Any:
        return self._count(super().rename, *args)

    def posix_rename(self, *args: Any) -> Any:
        if not Counting.posix:
            raise asyncssh.SFTPOpUnsupported("no")
        return self._count(super().posix_rename, *args)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "images" / str(SITE)).mkdir(parents=True)
    for key, data in IMAGES.items():
        (folder / "images" / str(SITE) / key.rpartition("/")[2]).write_bytes(data)
    names = [key.rpartition("/")[2].removesuffix(".png") for key in IMAGES]
    pq.write_table(pa.table({"input_id": names, "file_extension": [".png"] * len(names)}), folder / "images.parquet")
    (folder / "data.json").write_bytes(NEW)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    with SftpServer(tmp_path, sftp=Counting) as server:
        yield server
        Counting.generation += 1  # lets go of what a failed test held


@pytest.mark.parametrize("case", ["new", "replaced", "replaced without posix-rename"])
def test_every_boundary(case: str, server: SftpServer, prepared: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    Counting.posix = case != "replaced without posix-rename"
    before = {None} if case == "new" else {OLD}
    target = server.root / "exports"
    place = {"login": login_as_dict(server), "path": "/exports"}
    for allowed in count():
        if case != "new":
            for key, data in (IMAGES | {DATA_KEY: OLD}).items():
                put(target / key, data)
        process = context.Process(target=deliver_all, args=("sftp", place, str(prepared)))
        if not killed(process, allowed):
            break
        assert look(target, allowed) in before | {NEW} | (set() if Counting.posix else {None}), allowed
        Counting.allowed, Counting.generation = 1_000, Counting.generation + 1
        deliver_all("sftp", place, str(prepared))
        assert look(target, allowed) == NEW
        assert not left_for_good(server.root, place), allowed
        shutil.rmtree(target)
    assert allowed >= (18 if case == "new" else 6), "the server was hardly asked to change anything"
    assert process.exitcode == 0


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def killed(process: Any, allowed: int) -> bool:
    """Whether the try asked for more changes than allowed, and was killed there; else it came to its end."""
    Counting.held.clear()
    Counting.allowed, Counting.generation = allowed, Counting.generation + 1
    process.start()
    deadline = time.monotonic() + 60
    while process.exitcode is None and not Counting.held.wait(0.01):
        assert time.monotonic() < deadline
    held = Counting.held.is_set()
    process.kill()
    process.join()
    return held


def look(target: Path, allowed: int) -> bytes | None:
    """The data file as a reader finds it; what is there is whole, and images are there before it."""
    data = (target / DATA_KEY).read_bytes() if (target / DATA_KEY).exists() else None
    for key, image in IMAGES.items():
        there = (target / key).read_bytes() if (target / key).exists() else None
        assert there == image or (there is None and data != NEW), allowed
    return data


def left_for_good(root: Path, place: dict[str, Any]) -> list[Path]:
    """What the next write to the same folders, a day later, does not remove either."""
    left = list(root.rglob(f"{TEMPORARY_PREFIX}*"))
    for path in left:
        os.utime(path, (time.time() - ABANDONED_SECONDS - 60,) * 2)

    async def write() -> None:
        async with open_place("sftp", place) as target:
            for key in (DATA_KEY, next(iter(IMAGES))):
                await target.create(f"{key}-next", Content.of_bytes(b"next"))

    if left:
        asyncio.run(write())
    return list(root.rglob(f"{TEMPORARY_PREFIX}*"))
