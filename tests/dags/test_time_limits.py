"""Airflow's time limit of a task ends it in time, whatever its event loop is doing then."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from traceback import format_exception

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from data_export.delivery import threads
from data_export.delivery.local.store import LocalStore
from data_export.delivery.threads import run_async, run_blocking
from data_export.errors import TargetFull
from data_export.images import copy_images
from data_export.receipt import ImagesCopied
from tests.unit.images.world import SITE, SOURCE_KEY, input_id, write_list

LIMIT = 0.05
#: Lets go what would last for ever, so that no test leaves a thread behind.
RELEASED = threading.Event()


@pytest.fixture(autouse=True)
def _no_handler_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Airflow leaves its own; here a process goes on."""
    monkeypatch.setattr(threads, "_TO_TIDY_UP", 2 * LIMIT)
    RELEASED.clear()
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)
    RELEASED.set()
    for thread in threading.enumerate():
        if thread.name == "event-loop":
            thread.join()


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 2 * LIMIT)
    await asyncio.sleep(10 * LIMIT)


async def in_a_step_of_a_group() -> None:
    async def step() -> None:
        time.sleep(2 * LIMIT)

    async with asyncio.TaskGroup() as group:
        group.create_task(step())
        group.create_task(asyncio.sleep(10 * LIMIT))


async def in_a_computation() -> None:
    while not RELEASED.is_set():
        pass


async def while_a_thread_is_stuck() -> None:
    await asyncio.to_thread(RELEASED.wait, 100 * LIMIT)


async def while_a_thread_is_waited_for() -> None:
    await run_blocking(lambda _: RELEASED.wait(100 * LIMIT))


async def while_tidying_up_is_stuck() -> None:
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.to_thread(RELEASED.wait, 100 * LIMIT)


async def when_it_ends() -> None:
    os.kill(os.getpid(), signal.SIGALRM)


@pytest.mark.parametrize(
    "stands",
    [
        in_a_callback,
        in_a_step_of_a_group,
        in_a_computation,
        while_a_thread_is_stuck,
        while_a_thread_is_waited_for,
        while_tidying_up_is_stuck,
        when_it_ends,
    ],
)
def test_it_ends_the_task(stands: Callable[[], Awaitable[None]]) -> None:
    began = time.monotonic()
    with pytest.raises(AirflowTaskTimeout), timeout(LIMIT):
        run_async(stands())
    assert time.monotonic() - began < 10 * LIMIT


def test_it_is_not_lost_in_the_moment_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may survive the error, and the alarm comes but once."""

    def fails_as_it_comes(main: Coroutine[None, None, None], woken: object) -> None:
        main.close()
        os.kill(os.getpid(), signal.SIGALRM)
        raise TargetFull("no room")

    monkeypatch.setattr(threads, "_run_in_thread", fails_as_it_comes)
    with pytest.raises(AirflowTaskTimeout), timeout(10):
        run_async(when_it_ends())


async def copy(listed: Path, target: Path) -> ImagesCopied:
    async with LocalStore(listed.parent / "source") as source, LocalStore(target) as destination:
        return await copy_images(listed, site_id=SITE, source=source, source_key=SOURCE_KEY, destination=destination)


def test_it_ends_a_copy_of_images_at_any_moment(tmp_path: Path) -> None:
    ids = [input_id(n) for n in range(600)]
    listed = write_list(tmp_path / "images.parquet", ids, [".png"] * len(ids))
    (tmp_path / "source" / str(SITE)).mkdir(parents=True)
    for name in ids:
        (tmp_path / "source" / str(SITE) / f"{name}.png").write_bytes(b"x")
    chance = random.Random(3)
    for n in range(10):
        with pytest.raises(AirflowTaskTimeout), timeout(chance.uniform(LIMIT / 2, 1.5 * LIMIT)):
            run_async(copy(listed, tmp_path / f"target-{n}"))


def test_what_is_under_way_tidies_up_and_its_place_is_shown() -> None:
    tidy = []

    async def deliver() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(LIMIT / 5)
            tidy.append(True)

    with pytest.raises(AirflowTaskTimeout) as raised, timeout(LIMIT):
        run_async(deliver())
    assert tidy
    assert "deliver" in "".join(format_exception(raised.value))


def test_ctrl_c_lets_it_tidy_up_too() -> None:
    tidy = []

    async def deliver() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(10)
        finally:
            tidy.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), timeout(10):
            run_async(deliver())
    finally:
        signal.signal(signal.SIGINT, before)
    assert tidy


def test_otherwise_it_is_as_asyncio_runs_it() -> None:
    known = ContextVar("known", default=0)
    known.set(7)

    async def answer() -> int:
        return known.get()

    async def fail() -> None:
        raise TargetFull("no room")

    with timeout(10):
        assert run_async(answer()) == 7
        with pytest.raises(TargetFull, match="no room"):
            run_async(fail())


def test_only_a_thread_that_an_alarm_can_reach_gives_its_loop_away() -> None:
    async def where() -> threading.Thread:
        return threading.current_thread()

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert run_async(where()) is threading.main_thread()
    with timeout(10):
        assert run_async(where()) is not threading.main_thread()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: run_async(where()) is threading.current_thread()).result()
