"""The gate by itself: whom it lets through, what it learns, and that nobody leaves it other than it was."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from data_export.delivery.sftp.errors import ConnectionEnded, PerhapsTooMany, TooManyAtOnce
from data_export.delivery.sftp.sessions.gate import Gate
from data_export.delivery.sftp.sessions.pool import SftpConnections
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.errors import AccessDenied, DataExportError, TargetUnavailable
from tests.connectors.sftp.unruly import until


async def unused() -> SftpSession:
    raise AssertionError


async def nothing() -> None: ...


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


async def test_a_gate_that_is_narrowed_lets_nobody_in_until_enough_have_left() -> None:
    async def pass_through(leave: asyncio.Event) -> None:
        async with gate:
            most.append(gate.busy)
            await leave.wait()
            await asyncio.sleep(0.001)

    gate, most = Gate(8, SftpConnections(unused, 1, 8)), list[int]()
    leave = [asyncio.Event() for _ in range(6)]
    inside = [asyncio.create_task(pass_through(event)) for event in leave]
    await asyncio.sleep(0)
    last = asyncio.Event()
    waiting = [asyncio.create_task(pass_through(last)) for _ in range(20)]
    await asyncio.sleep(0)
    assert gate.busy == 8
    await gate.narrow(4)
    for event in leave:
        event.set()
        await asyncio.sleep(0.01)
        assert gate.busy <= 8
    await until(lambda: gate.busy == 4)
    assert gate.allowed == 4
    most.clear()
    last.set()
    await asyncio.gather(*inside, *waiting)
    assert max(most) == 4
    assert not gate.busy


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
        await gate.within_limits(Refusing(AccessDenied("perhaps"), None))
        assert gate.allowed == 8
        leave.set()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("most", [2, 12, 20, 28])
async def test_a_limit_with_no_word_is_found_out_among_files_that_take_longer_than_one_waits_for_them(
    most: int, caplog: pytest.LogCaptureFixture
) -> None:
    """However many of them are refused, and the log says why nothing begins meanwhile."""
    caplog.set_level("INFO")

    async def transfer() -> None:
        nonlocal open_now
        if open_now == most:
            raise PerhapsTooMany("no further file", TargetUnavailable("Failure"))
        open_now += 1
        await asyncio.sleep(0.3)
        open_now -= 1

    gate, open_now = Gate(32, SftpConnections(unused, 1, 32)), 0
    await asyncio.gather(*(gate.within_limits(transfer) for _ in range(40)))
    assert gate.allowed <= most
    assert "to try a refused file alone, no other begins until" in caplog.text


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


class Limited:
    """A server that lets so many files be open at once."""

    def __init__(self, most: int, refusal: TooManyAtOnce) -> None:
        self.most, self._refusal, self._open, self.refused = most, refusal, 0, 0

    async def __call__(self) -> None:
        if self._open >= self.most:
            self.refused += 1
            raise self._refusal
        self._open += 1
        await asyncio.sleep(0)
        self._open -= 1


REFUSALS = [TooManyAtOnce("too many"), PerhapsTooMany("perhaps", TargetUnavailable("perhaps"))]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_a_limit_is_come_close_to_and_hardly_ever_met(refusal: TooManyAtOnce) -> None:
    gate, server = Gate(64, SftpConnections(unused, 1, 64)), Limited(20, refusal)
    await asyncio.gather(*(gate.within_limits(server) for _ in range(200)))
    assert 16 <= gate.allowed <= 18
    at_first, server.refused = server.refused, 0
    for _ in range(10):
        await asyncio.gather(*(gate.within_limits(server) for _ in range(1000)))
    assert gate.allowed in (20, 21)
    assert server.refused < 25
    assert at_first < 150


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_after_a_bad_moment_as_many_as_before_are_let_through(refusal: TooManyAtOnce) -> None:
    gate, server = Gate(16, SftpConnections(unused, 1, 16)), Limited(1, refusal)
    await asyncio.gather(*(gate.within_limits(server) for _ in range(50)))
    assert gate.allowed == 1
    server.most = 64
    await asyncio.gather(*(gate.within_limits(server) for _ in range(1600)))
    assert gate.allowed == 16


async def test_no_more_are_let_through_than_the_server_told() -> None:
    gate = Gate(16, SftpConnections(unused, 1, 16))
    await gate.narrow(4)
    for _ in range(3):
        await asyncio.gather(*(gate.within_limits(nothing) for _ in range(300)))
    assert gate.allowed == 4


async def test_few_files_at_once_prove_nothing_of_more() -> None:
    gate = Gate(16, SftpConnections(unused, 1, 16))
    await gate.again(gate.attempt(), TooManyAtOnce("too many"), nothing)
    for _ in range(300):
        await gate.within_limits(nothing)
    assert gate.allowed == 8
