"""What a copy holds at once, and its word on how far it is."""

import asyncio

import psutil
import pytest

from data_export.content import Content, Digests
from data_export.delivery.base import StoredObject
from data_export.images import CopyLimits, Progress
from data_export.receipt import ImagesCopied
from tests.unit.images.world import SITE, World, input_id, source_key, write_list
from tests.unit.memory_store import MemoryStore


async def test_large_images_pass_through_files_that_are_gone_afterwards(world, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    assert (await world.copy(CopyLimits(in_memory_bytes=10))).copied == 40
    assert world.target.objects == world.expected
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "limits", [CopyLimits(memory_bytes=150), CopyLimits(in_memory_bytes=0, disk_bytes=150)], ids=["memory", "file"]
)
async def test_tasks_and_held_bytes_never_exceed_their_bounds(world, limits):
    held = most = 0

    def hold(call: str, key: str) -> None:
        nonlocal held, most
        if call == "read":
            held += len(world.source.objects[key])
            most = max(most, held)

    def release(call: str, key: str) -> None:
        nonlocal held
        held -= len(world.target.objects[key])

    world.source.fault, world.target.after = hold, release
    assert (await world.copy(limits)).copied == 40
    assert 80 < most <= 150
    assert world.target.most_active == world.target.concurrency


async def test_progress_is_told_while_it_runs_and_at_the_end(world):
    world.target._steps = 200
    told: list[Progress] = []
    await world.copy(CopyLimits(report_seconds=0.001), progress=told.append)
    assert len(told) > 2
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert (told[-1].done, told[-1].total, told[-1].bytes) == (40, 40, sum(map(len, world.expected.values())))


async def test_bytes_are_told_while_one_large_image_is_sent(tmp_path):
    class Slow(MemoryStore):
        async def create(self, key: str, content: Content) -> StoredObject:
            for _ in content.chunks(10):
                await asyncio.sleep(0.002)
            return await super().create(key, content)

    world = World(tmp_path, MemoryStore("memory://source/"), Slow("memory://target/"), count=1)
    world.source.objects[source_key(0)] = bytes(200)
    told: list[Progress] = []
    await world.copy(CopyLimits(report_seconds=0.001), progress=told.append)
    sent = [progress.bytes for progress in told if not progress.done]
    assert sent == sorted(sent)
    assert len({*sent} - {0, 200}) > 2
    assert (told[-1].done, told[-1].bytes) == (1, 200)


async def test_the_log_is_told_where_nobody_else_is(world, caplog):
    with caplog.at_level("INFO"):
        await world.copy()
    assert "memory://target/: 40 of 40 images (100.0 %)" in caplog.text


class Constant(MemoryStore):
    """Has every image, all alike, keeps nothing, and looks at the process's memory now and then."""

    concurrency = 64
    first_memory = most_memory = 0

    async def stat(self, key: str) -> StoredObject | None:
        self.calls["stat"] += 1
        if self.calls["stat"] % 10_000 == 0 and self.calls["stat"] > 40_000:
            now = psutil.Process().memory_info().rss
            self.first_memory, self.most_memory = self.first_memory or now, max(self.most_memory, now)
        return StoredObject(key, Digests(3))


async def test_two_hundred_thousand_images_hold_no_more_than_a_few(tmp_path):
    count = 200_000
    images = write_list(tmp_path / "many.parquet", [input_id(n) for n in range(count)], [".png"] * count)
    world = World(tmp_path, Constant("memory://source/"), Constant("memory://target/"), count=0)
    copied = await world.copy(images=images)
    assert copied == ImagesCopied(site_id=SITE, already_there=count)
    assert world.target.calls["stat"] == world.source.calls["stat"] == count
    # From the first fifth on, which brings the libraries' own buffers. The list and its keys take more than 50 MB when
    # they are held.
    assert world.target.most_memory - world.target.first_memory < 20 << 20
