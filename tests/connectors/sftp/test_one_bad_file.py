"""What concerns one file slows down no other, however often it is refused."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncssh
import pytest

from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX, temporary_path
from data_export.errors import AccessDenied, ObjectExists, ObjectRefused, TargetUnavailable
from demo.servers.sftp import SftpServer
from tests.connectors.contract import read_all
from tests.connectors.sftp.unruly import SMALL, Unruly, left_over, target

LIKE_A_LIMIT = "path exceeds the limit: cannot open"
pytestmark = pytest.mark.usefixtures("forgetful")


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


def refuse_the_bad_one(unruly: type[Unruly], refusal: asyncssh.SFTPError) -> list[str]:
    """Where the refusal is that the connection is lost, it is. Returns the names that are refused, as they are."""
    length = len(TEMPORARY_PREFIX) + 16
    stem, refused = temporary_path("bad.png")[:length], list[str]()

    def open_(server: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        name = path.decode().rpartition("/")[2]
        if name == "bad.png" or name[:length] == stem:
            refused.append(name)
            if isinstance(refusal, asyncssh.SFTPConnectionLost):
                server.channel.get_connection().abort()
            raise refusal
        return Unruly.open(server, path, pflags, attrs)

    unruly.write_seconds = 0.03
    unruly.open = open_  # type: ignore[method-assign] # the fault
    return refused


async def keep(work: Callable[[], Awaitable[object]]) -> None:
    while True:
        with suppress(TargetUnavailable):
            await work()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(
    ("upload", "refusal"),
    [
        ("rename", asyncssh.SFTPFailure("Failure")),
        ("rename", asyncssh.SFTPPermissionDenied("Permission denied")),
        ("direct", asyncssh.SFTPFailure("Failure")),
    ],
    ids=str,
)
async def test_one_file_that_is_refused_for_ever_lowers_no_number(
    server: SftpServer, unruly: type[Unruly], connections: int, upload: str, refusal: asyncssh.SFTPError
) -> None:
    """Its caller tries it again and again, and others look around over all connections."""
    refuse_the_bad_one(unruly, refusal)
    met = list[BaseException]()

    async def put_bad() -> None:
        for _ in range(8):
            with pytest.raises((TargetUnavailable, AccessDenied)) as refused:
                await destination.create("bad.png", SMALL)
            met.append(refused.value)

    async def put_good() -> None:
        for number in numbers:
            await destination.create(f"{number}.png", SMALL)

    numbers = iter(range(160))
    async with target(server, upload=upload, connections=connections, concurrency=16) as destination:
        looks = [asyncio.create_task(keep(lambda: destination.stat("0.png"))) for _ in range(20)]
        bad = asyncio.create_task(put_bad())
        began = time.monotonic()
        await asyncio.gather(*(put_good() for _ in range(16)))
        assert time.monotonic() - began < 16, "six seconds, were no file refused"
        await bad
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        assert destination._gate.allowed == 16
    assert len(list((server.root / "target").iterdir())) == 160
    if isinstance(refusal, asyncssh.SFTPPermissionDenied):
        assert AccessDenied in {type(error) for error in met}
    else:
        assert all("'Failure'" in str(error) for error in met), "said as it is"


@pytest.mark.parametrize("refusal", [asyncssh.SFTPFailure(LIKE_A_LIMIT), asyncssh.SFTPConnectionLost("gone")], ids=str)
async def test_one_file_that_fails_for_ever_is_given_up_and_the_others_go_on(
    server: SftpServer, unruly: type[Unruly], monkeypatch: pytest.MonkeyPatch, refusal: asyncssh.SFTPError
) -> None:
    """Also where its refusal sounds like a limit, or the server ends the connection for it."""
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._BEARS_ONE_MORE", 10)
    tried = refuse_the_bad_one(unruly, refusal)
    unruly.write_seconds = 0
    met = list[TargetUnavailable]()

    async def put_bad() -> None:
        for _ in range(3):
            with pytest.raises(TargetUnavailable) as failed:
                await destination.create("bad.png", SMALL)
            met.append(failed.value)

    async def put_good() -> None:
        for number in numbers:
            for _ in range(12):
                with suppress(TargetUnavailable, ObjectExists):
                    await destination.create(f"{number}.png", SMALL)
                    break

    numbers = iter(range(800))
    async with target(server, concurrency=16) as destination:
        await asyncio.gather(put_bad(), *(put_good() for _ in range(16)))
        assert destination._gate.allowed == 16
    assert len(list((server.root / "target").glob("[0-9]*.png"))) == 800
    assert len(tried) <= 24
    words = "cannot open" if isinstance(refusal, asyncssh.SFTPFailure) else "reachable|Connection"
    assert [str(error) for error in met if not re.search(f"bad.png.*({words})", str(error))] == []


@pytest.mark.parametrize("reason", ["Failure", LIKE_A_LIMIT])
async def test_one_file_that_is_never_read_is_given_up_and_the_others_go_on(
    server: SftpServer, unruly: type[Unruly], reason: str
) -> None:
    names = [f"{number}.png" for number in range(300)]
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(name, SMALL) for name in (*names, "bad.png")))
    tried = refuse_the_bad_one(unruly, asyncssh.SFTPFailure(reason))
    async with target(server, concurrency=16) as destination:
        began = time.monotonic()
        reading = (read_all(destination, name) for name in ("bad.png", *names))
        found = await asyncio.gather(*reading, return_exceptions=True)
        assert time.monotonic() - began < 12
        assert destination._gate.allowed == 16
    assert found[1:] == [SMALL.source] * 300
    assert isinstance(found[0], TargetUnavailable)
    assert re.search(f"bad.png.*{reason}", str(found[0]))
    assert len(tried) <= 8


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
