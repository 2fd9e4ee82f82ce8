"""Servers that end a connection after some files: each file arrives, with as many at once as that bears."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import asyncssh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import ConnectionEnded
from data_export.errors import ObjectExists, TargetUnavailable
from data_export.images import copy_images
from data_export.images.bounds import CopyLimits
from demo.servers.sftp import SftpServer
from tests.connectors.contract import SITE, read_all
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import SMALL, Unruly, left_over, target


def listed_images(folder: Path, count: int) -> Path:
    """A list of images, which are below `images`, each with its own id as content."""
    ids, listed = [str(UUID(int=number)) for number in range(count)], folder / "images.parquet"
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * len(ids)}), listed)
    for input_id in ids:
        path = folder / "images" / SOURCE_KEY(input_id, ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(input_id.encode())
    return listed


def end_connections_after(unruly: type[Unruly], files: int) -> None:
    def opened(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self.opened = getattr(self, "opened", 0) + 1  # type: ignore[attr-defined] # for each connection there is one
        if self.opened > files:  # type: ignore[attr-defined]
            self.channel.get_connection().abort()
            raise asyncssh.SFTPConnectionLost("enough")
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = opened  # type: ignore[method-assign] # the fault


async def get(destination: SftpDestination, key: str) -> bytes | None:
    for _ in range(12):
        with suppress(TargetUnavailable):
            return await read_all(destination, key)
    return None


async def test_a_connection_that_ends_every_25_files_is_resumed(
    server: SftpServer, unruly: type[Unruly], tmp_path: Path
) -> None:
    end_connections_after(unruly, 25)
    listed = listed_images(tmp_path, 120)
    async with LocalStore(tmp_path / "images") as source, target(server) as destination:
        copied = await copy_images(
            listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=destination, last_try=False
        )
    assert copied.copied + copied.already_there == 120
    for path in left_over(server):  # what the server made of a request after its connection had ended
        os.utime(path, (0, 0))
    async with target(server) as destination:
        await destination.create(f"{SITE}/inputs/later.png", SMALL)
    assert not left_over(server)


@pytest.mark.parametrize(("files", "connections"), [(25, 1), (12, 1), (12, 4)])
async def test_where_connections_end_after_some_files_fewer_are_begun_at_once(
    server: SftpServer, unruly: type[Unruly], files: int, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Else those under way take each other down for ever."""
    end_connections_after(unruly, files)

    async def put(destination: SftpDestination, key: str) -> None:
        for _ in range(12):
            with suppress(TargetUnavailable, ObjectExists):
                await destination.create(key, SMALL)
                break

    async with target(server, connections=connections) as destination:
        await asyncio.gather(*(put(destination, f"{number}.png") for number in range(160)))
        assert 4 <= destination._gate.allowed < 64
    async with target(server, connections=connections) as destination:
        found = await asyncio.gather(*(get(destination, f"{number}.png") for number in range(160)))
        assert 4 <= destination._gate.allowed < 64
    assert set(found) == {SMALL.source}
    assert {path.read_bytes() for path in (server.root / "target").glob("*.png")} == {SMALL.source}
    assert len(list((server.root / "target").glob("*.png"))) == 160
    assert "files at once" in caplog.text


async def test_connections_that_end_now_and_then_slow_nothing_down(server: SftpServer, unruly: type[Unruly]) -> None:
    async with target(server, concurrency=16) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
        end_connections_after(unruly, 0)
        lost = await asyncio.gather(
            *(destination.create(f"{number}.jpg", SMALL) for number in range(16)), return_exceptions=True
        )
        assert {type(error) for error in lost} == {ConnectionEnded}
        assert destination._gate.allowed == 16


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(("files", "upload"), [(2, "direct"), (3, "rename"), (4, "rename"), (6, "rename")])
async def test_where_connections_end_after_a_few_files_each_still_arrives(
    server: SftpServer, unruly: type[Unruly], files: int, upload: str, connections: int, tmp_path: Path
) -> None:
    """That a new name is safe is found out with two files more, over the connection of the first."""
    end_connections_after(unruly, files)
    images = listed_images(tmp_path, 40)
    async with LocalStore(tmp_path / "images") as source, target(server, upload=upload, connections=connections) as to:
        copied = await copy_images(
            images,
            site_id=SITE,
            source=source,
            source_key=SOURCE_KEY,
            destination=to,
            limits=CopyLimits(backoff_seconds=0.01),
        )
    assert (copied.failed, copied.copied + copied.already_there) == (0, 40)
    names = [path.name for path in (server.root / "target" / str(SITE) / "inputs").glob("*.png")]
    assert len(names) == 40
    async with SftpDestination(login_of(server), f"/target/{SITE}/inputs", connections=connections) as destination:
        found = await asyncio.gather(*(get(destination, name) for name in names))
    assert [f"{data!r}" for data in found] == [f"{name.removesuffix('.png').encode()!r}" for name in names]
