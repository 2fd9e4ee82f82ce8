"""How many files at once: what concerns one file slows down no other, and with the fewest that pass, all arrive."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncssh
import pytest

from data_export.content import Content
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.errors import ConnectionEnded, PerhapsTooMany, TooManyAtOnce
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX, temporary_path
from data_export.delivery.sftp.sessions.gate import Gate
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.errors import AccessDenied, DataExportError, ObjectRefused, TargetUnavailable
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
    async with asyncio.timeout(1), AsyncExitStack() as inside:
        for _ in range(min(size, 4)):
            await inside.enter_async_context(gate)


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


def refuse_the_bad_one(unruly: type[Unruly], refusal: asyncssh.SFTPError) -> None:
    length = len(TEMPORARY_PREFIX) + 16
    stem = temporary_path("bad.png")[:length]

    def open_(server: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        name = path.decode().rpartition("/")[2]
        if name == "bad.png" or name[:length] == stem:
            raise refusal
        return Unruly.open(server, path, pflags, attrs)

    unruly.write_seconds = 0.03
    unruly.open = open_  # type: ignore[method-assign] # the fault


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


class Refusing:
    """Refuses with no reason, first as often as it is tried `among_others`; then meets what it is told."""

    def __init__(self, meant: DataExportError, *then: DataExportError | None, among_others: int = 4) -> None:
        self._meant, self._then, self._left, self.tried = meant, list(then), among_others, 0

    async def __call__(self) -> None:
        self.tried += 1
        self._left -= 1
        if self._left >= 0 or not self._then:
            raise PerhapsTooMany("no further file", self._meant)
        if error := self._then.pop(0):
            raise error


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_export.delivery.sftp.sessions.gate._EMPTIES_SECONDS", 0.05)
    monkeypatch.setattr("data_export.delivery.sftp.sessions.turns._FORGETS_SECONDS", 0.01)


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.usefixtures("impatient")
async def test_what_is_refused_alone_too_is_said_as_it_is(size: int) -> None:
    gate = Gate(size, SftpConnections(unused, 1, size))
    with pytest.raises(AccessDenied, match="a right is missing"):
        await gate.within_limits(Refusing(AccessDenied("a right is missing")))
    assert (gate.allowed, gate.busy) == (size, 0)


@pytest.mark.usefixtures("impatient")
async def test_no_number_is_lowered_where_others_keep_on_so_that_nothing_shows() -> None:
    gate, leave = Gate(8, SftpConnections(unused, 1, 8)), asyncio.Event()
    for _ in range(20):
        await gate.within_limits(nothing)
    async with asyncio.timeout(10), asyncio.TaskGroup() as others:
        for _ in range(7):
            others.create_task(gate.within_limits(leave.wait))
        await asyncio.sleep(0)
        assert gate.busy == 7
        with pytest.raises(PerhapsTooMany):
            await gate.within_limits(Refusing(AccessDenied("perhaps")))
        with pytest.raises(PerhapsTooMany):
            await gate.within_limits(Refusing(AccessDenied("perhaps"), None))
        assert gate.allowed == 8
        leave.set()


@pytest.mark.usefixtures("impatient")
async def test_a_file_that_passes_alone_lowers_no_number_where_it_was_refused_alone() -> None:
    gate = Gate(8, SftpConnections(unused, 1, 8))
    await gate.within_limits(Refusing(AccessDenied("for a moment"), None))
    assert gate.allowed == 8


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("met", [ConnectionEnded("gone"), TooManyAtOnce("too many")], ids=str)
async def test_a_network_fault_met_alone_says_nothing_of_the_file(met: TargetUnavailable) -> None:
    gate = Gate(8, SftpConnections(unused, 1, 8))
    for among_others in (4, 1, 1):
        refusing = Refusing(AccessDenied("perhaps"), met, among_others=among_others)
        with pytest.raises(type(met)):
            await gate.within_limits(refusing)
        assert refusing.tried == among_others + 1, "not tried alone"
    assert (gate.allowed, gate.busy) == (8, 0)


@pytest.mark.usefixtures("impatient")
async def test_nobody_is_let_through_while_one_is_tried_alone_also_where_more_are_allowed_then() -> None:
    gate, entered = Gate(4, SftpConnections(unused, 1, 4)), asyncio.Event()
    refusing = Refusing(AccessDenied("perhaps"))

    async def refused_slowly() -> None:
        if refusing.tried == 4:
            for _ in range(16):
                gate.finish()
            assert gate.allowed == 4, "not widened"
            late.append(asyncio.create_task(gate.within_limits(enter)))
            await asyncio.sleep(0.05)
            assert not entered.is_set()
        await refusing()

    async def enter() -> None:
        entered.set()

    for _ in range(100):
        await gate.again(gate.attempt(), ConnectionEnded("gone"), nothing)
    late = list[asyncio.Task[None]]()
    assert gate.allowed == 1
    with pytest.raises(AccessDenied):
        await gate.within_limits(refused_slowly)
    await asyncio.gather(*late)
    assert entered.is_set()


@pytest.mark.usefixtures("impatient")
async def test_whoever_is_cancelled_at_whatever_moment_leaves_the_gate_as_it_was() -> None:
    rng, gate = random.Random(7), Gate(4, SftpConnections(unused, 1, 4))
    most = [0]

    async def work() -> None:
        most[0] = max(most[0], gate.busy)
        await asyncio.sleep(rng.choice([0, 0, 0.001, 0.01]))
        if rng.random() < 0.3:
            raise PerhapsTooMany("no further file", TargetUnavailable("perhaps"))

    tasks = [asyncio.create_task(gate.within_limits(work)) for _ in range(600)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(rng.choice([0, 0.001]))
        rng.choice(tasks).cancel()
    assert most[0] <= 4
    assert gate.busy == 0
    async with asyncio.timeout(1), AsyncExitStack() as inside:
        for _ in range(gate.allowed):
            await inside.enter_async_context(gate)
        assert gate.busy == gate.allowed
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), gate:
                pass
    assert gate.busy == 0


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
