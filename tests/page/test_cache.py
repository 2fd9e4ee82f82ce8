"""The page's short memory: who waits, for whom, and holding what."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from data_export_airflow.page import answers
from data_export_airflow.page.answers import Cached, failures, overview, volume
from data_export_airflow.page.app import STATIC


class Clock:
    """Stands in for `time`; it goes on when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(answers, "time", clock)
    return clock


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Lets go, at the end at the latest, of who waits for it."""
    gate = threading.Event()
    yield gate
    gate.set()


def counted(gate: threading.Event | None = None, waits_from: int = 1) -> tuple[Callable[[], int], list[int]]:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        number = len(made)
        if gate is not None and number >= waits_from:
            gate.wait(10)
        return number

    return make, made


async def test_one_answer_serves_all_who_ask_at_once(gate: threading.Event) -> None:
    make, made = counted(gate)
    cached = Cached(make, 60, 60)
    asking = [asyncio.create_task(cached()) for _ in range(100)]
    await asyncio.sleep(0.05)
    gate.set()
    assert await asyncio.gather(*asking) == [1] * 100
    assert made == [1]


async def test_who_waits_holds_no_thread(gate: threading.Event) -> None:
    """The API server has 40 for all its requests, and a slow database must not take them all."""
    cached = Cached(counted(gate)[0], 60, 60)
    before = threading.active_count()
    asking = [asyncio.create_task(cached()) for _ in range(100)]
    await asyncio.sleep(0.05)
    assert threading.active_count() == before + 1
    gate.set()
    await asyncio.gather(*asking)


async def test_nobody_waits_for_ever(gate: threading.Event) -> None:
    cached = Cached(counted(gate)[0], 60, 60, patience=0.05)
    with pytest.raises(TimeoutError):
        await cached()
    gate.set()
    assert await asyncio.to_thread(cached.refresh().result, 5) == 1  # who gave up did not end it for the others


def test_the_server_says_that_it_is_too_slow_before_the_browser_gives_up() -> None:
    (given_up,) = re.findall(r"AbortSignal\.timeout\(([\d_]+)\)", (STATIC / "js/api.js").read_text())
    assert max(answer._patience for answer in (overview, failures, volume)) * 1000 <= int(given_up) - 5_000


async def test_a_call_whose_answer_was_lost_on_the_way_is_made_again(clock: Clock, gate: threading.Event) -> None:
    """As where a network drops what the database says, which a thread without a time-out waits for in vain."""
    ended = threading.Event()
    made: list[int] = []

    def make() -> int:
        made.append(1)
        if len(made) == 1:
            gate.wait(10)
            ended.set()
        return len(made)

    cached = Cached(make, 10, 60, patience=30)
    first = cached.refresh()
    clock.now = 59.0
    assert cached.refresh() is first
    clock.now = 61.0
    assert await cached() == 2


async def test_an_old_answer_is_given_while_the_next_is_made(clock: Clock, gate: threading.Event) -> None:
    make, made = counted(gate, waits_from=2)
    cached = Cached(make, 10, 60)
    assert await cached() == 1
    clock.now = 10.1
    assert [await cached() for _ in range(3)] == [1] * 3
    gate.set()
    assert await asyncio.to_thread(cached.refresh().result, 5) == 2
    assert await cached() == 2
    assert made == [1, 1]


async def test_too_old_an_answer_is_not_given(clock: Clock, gate: threading.Event) -> None:
    cached = Cached(counted(gate, waits_from=2)[0], 10, 60)
    assert await cached() == 1
    clock.now = 60.1
    asking = asyncio.create_task(cached())
    await asyncio.sleep(0.05)
    assert not asking.done()
    gate.set()
    assert await asking == 2


async def test_a_failure_goes_to_who_waits_and_is_not_kept() -> None:
    answers = iter([ConnectionError("no database"), 7])

    def make() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cached = Cached(make, 60, 60)
    with pytest.raises(ConnectionError):
        await cached()
    assert await cached() == 7
