"""How many files at once: what concerns one file slows down no other, and with the fewest that pass, all arrive."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import ConnectionEnded
from data_export.delivery.sftp.sessions.gate import Gate
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.errors import AccessDenied, ObjectRefused, TargetUnavailable
from data_export.images import copy_images
from data_export.images.bounds import CopyLimits
from demo.servers.sftp import SftpServer
from tests.connectors.contract import SITE, read_all
from tests.connectors.kill_kit import SOURCE_KEY
from tests.connectors.sftp import test_limits as limits
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import SMALL, Unruly, left_over, target


async def unused() -> SftpSession:
    raise AssertionError


async def nothing() -> None: ...


async def get(destination: SftpDestination, key: str) -> bytes | None:
    for _ in range(12):
        with suppress(TargetUnavailable):
            return await read_all(destination, key)
    return None


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(("files", "upload"), [(2, "direct"), (3, "rename"), (4, "rename"), (6, "rename")])
async def test_where_connections_end_after_a_few_files_each_still_arrives(
    server: SftpServer, unruly: type[Unruly], files: int, upload: str, connections: int, tmp_path: Path
) -> None:
    """That a new name is safe is found out with two files more, over the connection of the first."""
    limits.end_connections_after(unruly, files)
    images = limits.listed_images(tmp_path, 40)
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


@pytest.mark.parametrize("size", [64, 21, 4, 3])
async def test_connections_that_end_leave_one_file_at_once_until_one_bears_more(size: int) -> None:
    """They may have ended by a network that was bad for an hour, and the task goes on for days."""
    gate = Gate(size, SftpConnections(unused, 1, size))
    for _ in range(100):
        await gate.again(gate.attempt(), ConnectionEnded("gone"), nothing)
    assert gate.allowed == 1
    for _ in range(15):
        assert await gate.within_limits(lambda: asyncio.sleep(0, "done")) == "done"
        assert gate.allowed == 1
    await gate.within_limits(nothing)
    assert gate.allowed == min(size, 4)
    async with asyncio.timeout(1), gate:
        assert gate._free._value == min(size, 4) - 1


class EveryTenth:
    """Refuses every tenth file whose number is in its name, always or once."""

    def __init__(self, operation: str, refusal: asyncssh.SFTPError, *, once: bool) -> None:
        self._operation, self._refusal, self._once = operation, refusal, once
        self._seen, self.refused = set[int](), 0

    def install(self, unruly: type[Unruly]) -> None:
        def open_(server: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            file = Unruly.open(server, path, pflags, attrs)
            if self._operation == "open":
                self._meet(path, file)
            elif self._operation == "read":
                paths[id(file)] = path
            return file

        def read(server: Unruly, file_obj: object, offset: int, size: int) -> object:
            if path := paths.get(id(file_obj)):
                self._meet(path)
            return asyncssh.SFTPServer.read(server, file_obj, offset, size)

        paths = dict[int, bytes]()
        unruly.open, unruly.read = open_, read  # type: ignore[method-assign,assignment] # the fault

    def _meet(self, path: bytes, file: object = None) -> None:
        number = int(path.rpartition(b"/")[2].partition(b".")[0])
        if number % 10 == 3 and not (self._once and number in self._seen):
            self._seen.add(number)
            self.refused += 1
            if file is not None:
                file.close()  # type: ignore[attr-defined]
            raise self._refusal


@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
@pytest.mark.parametrize("operation", ["open", "read"])
async def test_a_file_that_cannot_be_read_slows_down_no_other(
    server: SftpServer, unruly: type[Unruly], operation: str, once: bool
) -> None:
    names = [f"{number}.png" for number in range(200)]
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(name, SMALL) for name in names))
    fault = EveryTenth(operation, asyncssh.SFTPFailure("Failure"), once=once)
    fault.install(unruly)
    async with target(server) as destination:
        began = time.monotonic()
        found = await asyncio.gather(*(read_all(destination, name) for name in names), return_exceptions=True)
        took = time.monotonic() - began
        assert destination._gate.allowed == 64
    assert fault.refused >= 20
    assert [name for name, read in zip(names, found, strict=True) if read != SMALL.source] == (
        [] if once else [f"{number}.png" for number in range(3, 200, 10)]
    )
    assert {type(one) for one in found if one != SMALL.source} <= {TargetUnavailable}
    assert took < 12, "twenty seconds, were the others kept waiting for each"


async def test_where_no_file_can_be_read_few_are_tried_alone(server: SftpServer, unruly: type[Unruly]) -> None:
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(f"{number}3.png", SMALL) for number in range(60)))
    EveryTenth("open", asyncssh.SFTPFailure("Failure"), once=False).install(unruly)
    async with target(server) as destination:
        began = time.monotonic()
        found = await asyncio.gather(
            *(read_all(destination, f"{number}3.png") for number in range(60)), return_exceptions=True
        )
        assert destination._gate.allowed == 64
    assert {type(one) for one in found} == {TargetUnavailable}
    assert time.monotonic() - began < 25, "a minute, were each tried alone"


@pytest.mark.parametrize("refusal", [asyncssh.SFTPFailure("Failure"), asyncssh.SFTPPermissionDenied("no")], ids=str)
async def test_an_unfinished_file_that_is_refused_now_and_then_slows_down_no_other(
    server: SftpServer, unruly: type[Unruly], refusal: asyncssh.SFTPError
) -> None:
    opened = [0]

    def open_(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        opened[0] += 1
        if opened[0] % 10 == 3:
            raise refusal
        return Unruly.open(self, path, pflags, attrs)

    unruly.open = open_  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(200)))
        assert destination._gate.allowed == 64
    assert len(list((server.root / "target").iterdir())) == 200
    assert not left_over(server)


async def test_a_file_refused_for_what_it_is_slows_down_no_other(server: SftpServer, unruly: type[Unruly]) -> None:
    async with target(server) as destination:
        await destination.create("first", SMALL)
        unruly.refused = {"write": asyncssh.SFTPFailure("rejected by policy")}
        found = await asyncio.gather(
            *(destination.create(f"{number}.png", SMALL) for number in range(20)), return_exceptions=True
        )
        assert destination._gate.allowed == 64
    assert {type(one) for one in found} == {ObjectRefused}


async def test_a_limit_with_no_word_is_found_out_where_files_have_their_final_names(
    server: SftpServer, unruly: type[Unruly]
) -> None:
    limits.TestLimits.limit(unruly, 4, asyncssh.SFTPFailure("Failure"))
    async with target(server, upload="direct", concurrency=16) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(40)))
        assert destination._gate.allowed <= 4
    assert len(list((server.root / "target").iterdir())) == 40


async def test_a_big_file_that_is_tried_alone_has_the_time_it_needs(
    server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._EMPTIES_SECONDS", 0.5)
    limits.TestLimits.limit(unruly, 1, asyncssh.SFTPPermissionDenied("Permission denied"))
    unruly.write_seconds = 0.4
    big = Content.of_bytes(bytes(1 << 20))
    async with target(server, concurrency=2) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", big) for number in range(3)))
    assert len(list((server.root / "target").iterdir())) == 3


async def test_a_right_that_is_missing_from_some_time_on_is_said_once_and_for_all(
    server: SftpServer, unruly: type[Unruly]
) -> None:
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(100)))
        unruly.refused = {"write": asyncssh.SFTPPermissionDenied("Permission denied")}
        began = time.monotonic()
        found = await asyncio.gather(
            *(destination.create(f"{number}.jpg", SMALL) for number in range(60)), return_exceptions=True
        )
    assert {type(error) for error in found} == {AccessDenied}
    assert time.monotonic() - began < 20, "a minute, were each tried alone"
