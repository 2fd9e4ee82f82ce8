"""The byte budget and the line of progress."""

import asyncio

import pytest

from data_export.images import Progress
from data_export.images.bounds import ByteBudget


async def test_the_budget_is_never_exceeded_and_always_returned():
    budget, held, most = ByteBudget(100), 0, 0

    async def use(size: int) -> None:
        nonlocal held, most
        async with budget.hold(size):
            held += min(size, 100)
            most = max(most, held)
            await asyncio.sleep(0)
            held -= min(size, 100)

    await asyncio.gather(*(use(n * 37 % 130) for n in range(200)))
    assert 90 < most <= 100
    async with asyncio.timeout(1), budget.hold(100):
        pass


async def test_a_large_image_is_not_starved_by_small_ones():
    budget, order = ByteBudget(10), []

    async def use(name: str, size: int) -> None:
        async with budget.hold(size):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(use("small 1", 6), use("large", 10), *(use(f"small {n}", 1) for n in range(2, 9)))
    assert order[:2] == ["small 1", "large"]


async def test_a_cancelled_wait_takes_nothing():
    budget = ByteBudget(10)
    async with budget.hold(10):
        waiting = asyncio.create_task(asyncio.wait_for(budget.hold(5).__aenter__(), 0.001))
        with pytest.raises(TimeoutError):
            await waiting
    async with asyncio.timeout(1), budget.hold(10):
        pass


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (
            Progress(12_000, 500_000, 310_000_000, 60),
            "12,000 of 500,000 images (2.4 %), 310 MB, 5.2 MB/s, 0:40:40 left",
        ),
        (Progress(0, 10, 0, 0), "0 of 10 images (0.0 %), 0 B, 0 B/s"),
        (Progress(0, 0, 0, 1), "0 of 0 images (100.0 %), 0 B, 0 B/s"),
    ],
)
def test_progress_reads_as_a_line(progress, line):
    assert str(progress) == line
