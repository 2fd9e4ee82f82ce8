"""`copy_images`: exact counts, resumption, faults and bounds, on stores that keep the connector contract."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.errors import (
    AccessDenied,
    InvalidRecord,
    OverwriteRefused,
    TargetFull,
    TargetNotFound,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.images import CopyLimits, CopyRules, Progress, copy_images, source_key_of
from data_export.receipt import ImagesCopied
from tests.unit.memory_store import CopyingStore, MemoryStore

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
SOURCE_KEY = source_key_of("{site_id}/{input_id}{file_extension}", SITE)
QUICK = CopyLimits(backoff_seconds=0)


def input_id(n: int) -> str:
    return str(UUID(int=n))


def target_key(n: int) -> str:
    return f"{SITE}/inputs/{input_id(n)}.png"


def source_key(n: int) -> str:
    return SOURCE_KEY(input_id(n), ".png")


def write_list(path: Path, ids: list[str], extensions: list[str | None]) -> Path:
    pq.write_table(
        pa.table({"input_id": pa.array(ids, pa.string()), "file_extension": pa.array(extensions, pa.string())}), path
    )
    return path


class World:
    """Forty images in a source store, a list that names them, and an empty target."""

    def __init__(self, tmp_path: Path, source: MemoryStore, target: MemoryStore, count: int = 40) -> None:
        self.source, self.target, self.count = source, target, count
        for n in range(count):
            source.objects[source_key(n)] = b"%d " % n * (n + 1)
        self.list = write_list(tmp_path / "images.parquet", [input_id(n) for n in range(count)], [".png"] * count)

    @property
    def expected(self) -> dict[str, bytes]:
        return {target_key(n): b"%d " % n * (n + 1) for n in range(self.count)}

    async def copy(self, limits: CopyLimits = QUICK, **options: object) -> ImagesCopied:
        return await copy_images(
            options.pop("images", self.list),
            site_id=SITE,
            source=self.source,
            source_key=SOURCE_KEY,
            destination=self.target,
            limits=limits,
            **options,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/"))


@pytest.fixture
def copying(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), CopyingStore("memory://target/"))


@pytest.fixture
def sizes_only(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/", checksums=False))


async def test_every_image_arrives_and_a_repeat_sends_no_byte(world):
    copied = await world.copy()
    assert copied == ImagesCopied(site_id=SITE, copied=40, bytes=sum(map(len, world.expected.values())))
    assert world.target.objects == world.expected

    sent = world.target.sent
    assert await world.copy() == ImagesCopied(site_id=SITE, already_there=40)
    assert world.target.sent == sent
    assert world.source.calls["read"] == world.target.calls["create"] == 40
    assert world.target.calls["replace"] == world.target.calls["delete"] == 0


async def test_a_target_without_checksums_recognises_by_size(sizes_only):
    await sizes_only.copy()
    assert (await sizes_only.copy()).already_there == 40


async def test_extensions_are_part_of_the_name(world, tmp_path):
    ids, extensions = [input_id(n) for n in range(4)], [".jpeg", None, "", ".tar.gz"]
    for one, extension in zip(ids, extensions, strict=True):
        world.source.objects[SOURCE_KEY(one, extension)] = b"data"
    await world.copy(images=write_list(tmp_path / "few", ids, extensions))
    assert sorted(key.rpartition("/")[2] for key in world.target.objects) == [
        f"{ids[0]}.jpeg",
        ids[1],
        ids[2],
        f"{ids[3]}.tar.gz",
    ]


async def test_an_empty_list_is_done_at_once(world, tmp_path):
    told: list[Progress] = []
    copied = await world.copy(images=write_list(tmp_path / "none", [], []), progress=told.append)
    assert copied == ImagesCopied(site_id=SITE)
    assert (told[-1].done, told[-1].total) == (0, 0)


async def test_images_missing_at_the_source_are_counted_named_and_block_nothing(tmp_path, caplog):
    world = World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/"), count=150)
    for n in range(0, 150):
        if n % 50:
            del world.source.objects[source_key(n)]
    copied = await world.copy(missing_list=tmp_path / "missing")
    assert (copied.copied, copied.missing_at_source, copied.already_there) == (3, 147, 0)
    assert copied.missing == [f"{input_id(n)}.png" for n in range(150) if n % 50][:100]
    listed = (tmp_path / "missing").read_text().splitlines()
    assert sorted(listed) == [f"{input_id(n)}.png" for n in range(150) if n % 50]
    assert set(copied.missing) <= {f"{input_id(n)}.png" for n in range(150) if n % 50}
    assert "147 of 150 images are missing at memory://source/" in caplog.text

    world.source.objects[source_key(7)] = b"turned up"
    later = await world.copy()
    assert (later.copied, later.missing_at_source, later.already_there) == (1, 146, 3)


async def test_an_image_gone_from_the_source_but_delivered_before_is_there(world):
    await world.copy()
    world.source.objects.clear()
    assert await world.copy() == ImagesCopied(site_id=SITE, already_there=40)


async def test_an_image_removed_between_look_and_read_is_missing(world):
    def remove(call: str, key: str) -> None:
        if call == "read" and key == source_key(3):
            world.source.objects.pop(key, None)

    world.source.fault = remove
    copied = await world.copy()
    assert (copied.copied, copied.missing) == (39, [f"{input_id(3)}.png"])


@pytest.mark.parametrize("kind", ["world", "copying"])
async def test_a_missing_bucket_is_not_mistaken_for_missing_images(kind, request):
    world: World = request.getfixturevalue(kind)

    def no_bucket(call: str, key: str) -> None:
        if call in ("create", "copy_from"):
            raise TargetNotFound("bucket b does not exist")

    world.target.fault = no_bucket
    with pytest.raises(TargetNotFound, match="bucket b"):
        await world.copy()


async def test_another_content_is_replaced_and_only_that(world):
    await world.copy()
    world.target.objects[target_key(5)] = bytes(len(world.target.objects[target_key(5)]))
    copied = await world.copy()
    assert (copied.copied, copied.already_there) == (1, 39)
    assert world.target.calls["replace"] == 1
    assert world.target.objects == world.expected


@pytest.mark.parametrize("if_exists", ["keep", "revision"])
async def test_another_content_is_kept_where_the_customer_wants_that(world, if_exists, caplog):
    world.target.objects[target_key(5)] = b"delivered before"
    copied = await world.copy(rules=CopyRules(if_exists))
    assert (copied.copied, copied.kept, copied.already_there) == (39, 1, 0)
    assert world.target.objects == world.expected | {target_key(5): b"delivered before"}
    assert world.target.calls["replace"] == 0
    assert "1 of 40 images at memory://target/ differ from their source and are kept, e.g. 0000" in caplog.text


async def test_a_target_that_refuses_replacements_keeps_its_images_and_blocks_nothing(world, caplog):
    for n in (5, 6):
        world.target.objects[target_key(n)] = b"delivered before"

    def refuse(call: str, key: str) -> None:
        if call == "replace":
            raise OverwriteRefused("grant storage.objects.delete")

    world.target.fault = refuse
    copied = await world.copy()
    assert (copied.copied, copied.kept) == (38, 2)
    assert world.target.calls["replace"] == 2
    assert caplog.text.count("grant storage.objects.delete") == 1


async def test_a_target_without_checksums_is_read_back_on_request(sizes_only):
    await sizes_only.copy()
    sizes_only.target.objects[target_key(5)] = bytes(len(sizes_only.target.objects[target_key(5)]))
    assert (await sizes_only.copy()).already_there == 40
    assert sizes_only.target.calls["read"] == 0
    assert (await sizes_only.copy(rules=CopyRules(read_back=True))).copied == 1
    assert sizes_only.target.objects == sizes_only.expected


@pytest.mark.parametrize("checksums", [True, False], ids=["source's checksum", "both read"])
async def test_a_file_older_than_its_source_is_read_to_compare(tmp_path, checksums):
    """Its source may have been replaced since by an image of equal size."""
    source, target = (MemoryStore(uri, checksums=known) for uri, known in (("a://", checksums), ("b://", False)))
    world = World(tmp_path, source, target)
    await world.copy()
    noon = datetime(2025, 3, 16, 12, tzinfo=UTC)
    source.modified = {source_key(n): noon + timedelta(milliseconds=999) for n in range(40)}
    target.modified = {target_key(n): noon for n in range(40)}  # the same second, as SFTP tells times
    source.objects[source_key(5)] = source.objects[source_key(5)][::-1]
    assert (await world.copy()).already_there == 40
    target.modified |= {target_key(n): noon - timedelta(seconds=1) for n in (5, 6)}
    copied = await world.copy()
    assert (copied.copied, copied.already_there) == (1, 39)
    assert target.calls["read"] == (2 if checksums else 4)
    assert target.objects[target_key(5)] == source.objects[source_key(5)]


@pytest.mark.parametrize("boundary", range(20))
@pytest.mark.parametrize("applied", [True, False], ids=["after the write", "before the write"])
@pytest.mark.parametrize("kind", ["world", "copying", "sizes_only"])
async def test_a_killed_copy_resumes_with_what_is_missing(boundary, applied, kind, request):
    """The process dies around its n-th write, seeded: nothing it does afterwards takes effect."""
    world: World = request.getfixturevalue(kind)
    kill_at = random.Random(boundary).randint(1, 40)
    writes = 0

    class KilledError(Exception):
        pass

    def kill(call: str, key: str) -> None:
        nonlocal writes
        if call in ("create", "copy_from"):
            writes += 1
        if writes >= kill_at:
            raise KilledError

    if applied:
        world.target.after = kill
    else:
        world.target.fault = kill
    with pytest.raises(KilledError):
        await world.copy()

    left = dict(world.target.objects)
    assert left.items() <= world.expected.items()
    world.target.fault = world.target.after = lambda call, key: None
    world.target.sent = 0
    again = await world.copy()
    assert world.target.objects == world.expected
    assert (again.copied, again.already_there) == (40 - len(left), len(left))
    assert again.bytes == sum(len(data) for key, data in world.expected.items() if key not in left)
    assert world.target.sent == (again.bytes if kind != "copying" else 0)


@pytest.mark.parametrize("call", ["stat", "create"])
async def test_a_transient_fault_is_retried_for_that_image_alone(world, call):
    faults = 0

    def fail(now: str, key: str) -> None:
        nonlocal faults
        if now == call and key == target_key(9) and faults < 4:
            faults += 1
            raise TargetUnavailable("503")

    world.target.fault = fail
    copied = await world.copy()
    assert copied.copied == 40
    assert faults == 4
    assert world.target.calls["create"] == (44 if call == "create" else 40)


async def test_a_lasting_transient_fault_ends_the_step_after_its_tries(world):
    def fail(call: str, key: str) -> None:
        if key == source_key(9) and call == "read":
            raise TargetUnavailable("connection reset")

    world.source.fault = fail
    with pytest.raises(TargetUnavailable, match="connection reset"):
        await world.copy(CopyLimits(tries=3, backoff_seconds=0))
    assert world.source.active == world.target.active == 0
    left = len(world.target.objects)
    world.source.fault = lambda call, key: None
    assert (await world.copy()).copied == 40 - left


async def test_pauses_between_tries_grow_and_vary(world, monkeypatch):
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(60 if seconds == 999 else 0)

    def fail(call: str, key: str) -> None:
        if key == target_key(9):
            raise TargetUnavailable("503")

    world.target.fault = fail
    monkeypatch.setattr(asyncio, "sleep", record)
    with pytest.raises(TargetUnavailable):
        await world.copy(CopyLimits(report_seconds=999))
    pauses.remove(999)
    for pause, longest in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= pause < longest


async def test_a_failed_look_does_not_wait_for_the_other_side(world):
    """A stalled source must not hold back the error of the target."""
    stalled = asyncio.Event()

    async def stall(key: str) -> None:
        await stalled.wait()

    def fail(call: str, key: str) -> None:
        raise AccessDenied("401")

    world.source.stat, world.target.fault = stall, fail
    async with asyncio.timeout(5):
        with pytest.raises(AccessDenied):
            await world.copy()


async def test_a_full_target_is_left_to_the_retry_of_the_task(world):
    def full(call: str, key: str) -> None:
        if call == "create":
            raise TargetFull("disk full")

    world.target.fault = full
    with pytest.raises(TargetFull):
        await world.copy(CopyLimits(backoff_seconds=60))


async def test_a_permanent_fault_stops_everything_and_is_the_one_told(world):
    def fail(call: str, key: str) -> None:
        if call == "create":
            if key == target_key(10):
                raise AccessDenied("grant storage.objects.create")
            if key > target_key(10):
                raise TargetUnavailable("503")

    world.target.fault = fail
    with pytest.raises(AccessDenied, match=r"storage\.objects\.create"):
        await world.copy(CopyLimits(backoff_seconds=60))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert world.target.calls["create"] <= 10 + 2 * world.target.concurrency


async def test_of_faults_at_once_the_permanent_one_is_told(world):
    def fail(call: str, key: str) -> None:
        if call == "create":
            raise AccessDenied("403") if key == target_key(3) else TargetUnavailable("503")

    world.target.fault = fail
    with pytest.raises(AccessDenied):
        await world.copy(CopyLimits(tries=1))


async def test_a_lost_answer_sends_nothing_twice(world):
    """The server keeps the bytes, then the connection breaks: the retry finds them."""
    lost: set[str] = set()

    def lose(call: str, key: str) -> None:
        if key not in lost:
            lost.add(key)
            raise TargetUnavailable("connection reset after the last byte")

    world.target.after = lose
    copied = await world.copy()
    assert copied.copied + copied.already_there == 40
    assert world.target.calls["create"] == 40
    assert world.target.objects == world.expected


@pytest.mark.parametrize("kind", ["world", "copying", "sizes_only"])
async def test_two_copies_at_once_end_in_one_set_of_images(kind, request):
    world: World = request.getfixturevalue(kind)
    first, second = await asyncio.gather(world.copy(), world.copy())
    assert world.target.objects == world.expected
    assert first.copied + second.copied == 40
    assert first.already_there + second.already_there == 40
    assert world.target.calls["replace"] == 0


async def test_the_server_copies_by_itself_where_it_can(copying):
    copied = await copying.copy()
    assert copied == ImagesCopied(site_id=SITE, copied=40, bytes=sum(map(len, copying.expected.values())))
    assert copying.target.objects == copying.expected
    assert copying.source.calls["read"] == copying.target.calls["create"] == 0
    again = await copying.copy()
    assert again.already_there == 40
    assert copying.target.calls["copy_from"] == 40


async def test_a_server_that_may_not_read_the_source_is_fed_by_streaming(copying, caplog):
    def refuse(call: str, key: str) -> None:
        if call == "copy_from":
            raise AccessDenied("customer-sa may not read platform-images")

    copying.target.fault = refuse
    assert (await copying.copy()).copied == 40
    assert copying.target.objects == copying.expected
    assert copying.target.calls["copy_from"] <= copying.target.concurrency
    assert caplog.text.count("customer-sa may not read platform-images") == 1


async def test_a_difference_is_replaced_by_streaming_since_servers_only_create(copying):
    copying.target.objects[target_key(5)] = b"truncated"
    assert (await copying.copy()).copied == 40
    assert copying.target.objects == copying.expected
    assert (copying.target.calls["copy_from"], copying.target.calls["replace"]) == (39, 1)


class CorruptingStore(CopyingStore):
    """Its server copies each image wrongly."""

    async def copy_from(self, source: Destination, source_key: str, key: str) -> StoredObject:
        stored = await super().copy_from(source, source_key, key)
        self.objects[key] = self.objects[key][::-1] + b"!"
        return replace(stored, digests=Content.of_bytes(self.objects[key]).digests)


async def test_a_wrong_copy_of_the_server_is_noticed_and_mended(tmp_path):
    world = World(tmp_path, MemoryStore("memory://source/"), CorruptingStore())
    assert (await world.copy()).copied == 40
    assert world.target.objects == world.expected


class EndlessStore(MemoryStore):
    async def read(self, key: str) -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            await asyncio.sleep(0)


@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 20], ids=["file", "memory"])
async def test_an_endless_answer_is_cut_off(tmp_path, in_memory_bytes):
    world = World(tmp_path, EndlessStore("memory://source/"), MemoryStore())
    async with asyncio.timeout(5):
        with pytest.raises(VerificationFailed, match="longer than"):
            await world.copy(CopyLimits(tries=1, in_memory_bytes=in_memory_bytes))


class LyingStore(MemoryStore):
    """Says another size or checksum than its bytes have."""

    lie: Digests

    async def stat(self, key: str) -> StoredObject | None:
        return StoredObject(key, self.lie)


@pytest.mark.parametrize(
    "lie", [Digests(2, crc32c="AAAAAA=="), Digests(2, md5="1B2M2Y8AsgTpgAmY7PhCfg=="), Digests(1), Digests(9)]
)
@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 20], ids=["file", "memory"])
async def test_an_image_that_is_not_what_its_store_says_is_never_written(tmp_path, lie, in_memory_bytes):
    source = LyingStore("memory://source/")
    source.lie = lie
    world = World(tmp_path, source, MemoryStore(), count=1)
    with pytest.raises(VerificationFailed, match="memory://source/"):
        await world.copy(CopyLimits(tries=2, backoff_seconds=0, in_memory_bytes=in_memory_bytes))
    assert world.target.objects == {}


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


async def test_cancelling_leaves_no_task_and_no_partial_object(world):
    world.target._steps = 50
    running = asyncio.create_task(world.copy())
    while not world.target.objects:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert world.target.objects.items() <= world.expected.items()
    assert world.source.active == world.target.active == 0


@pytest.mark.parametrize("bad", ["../../etc/passwd", "433A60F6-9756-473E-B1E9-9E89E24BB787", "x\n", ""])
async def test_an_id_that_is_no_uuid_writes_nothing(world, tmp_path, bad):
    with pytest.raises(InvalidRecord, match="not a uuid"):
        await world.copy(images=write_list(tmp_path / "bad", [bad], [".png"]))
    assert not world.target.objects


@pytest.mark.parametrize("bad", ["/../../x", ".png/..", "..", ".p\0ng", ".png\n", "\u202egnp.", ".pñg"])
async def test_an_extension_that_could_leave_the_folder_writes_nothing(world, tmp_path, bad):
    with pytest.raises(InvalidRecord, match="file_extension"):
        await world.copy(images=write_list(tmp_path / "bad", [input_id(1)], [bad]))
    assert not world.target.objects


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


async def test_an_image_that_comes_and_goes_is_a_transient_fault(world):
    def flicker(call: str, key: str) -> None:
        if key == target_key(9):
            if call == "create":
                world.target.objects[key] = b"another run's"
            else:
                world.target.objects.pop(key, None)

    world.target.fault = flicker
    with pytest.raises(TargetUnavailable, match=r"0009\.png comes and goes"):
        await world.copy()


async def test_the_log_is_told_where_nobody_else_is(world, caplog):
    with caplog.at_level("INFO"):
        await world.copy()
    assert "memory://target/: 40 of 40 images (100.0 %)" in caplog.text


class Constant(MemoryStore):
    """Has every image, all alike, keeps nothing, and looks at the process's memory now and then."""

    concurrency = 64
    most_memory = 0

    async def stat(self, key: str) -> StoredObject | None:
        self.calls["stat"] += 1
        if self.calls["stat"] % 5_000 == 0:
            self.most_memory = max(self.most_memory, psutil.Process().memory_info().rss)
        return StoredObject(key, Digests(3))


async def test_two_hundred_thousand_images_hold_no_more_than_a_few(tmp_path):
    count = 200_000
    images = write_list(tmp_path / "many.parquet", [input_id(n) for n in range(count)], [".png"] * count)
    world = World(tmp_path, Constant("memory://source/"), Constant("memory://target/"), count=0)
    before = psutil.Process().memory_info().rss
    copied = await world.copy(images=images)
    assert copied == ImagesCopied(site_id=SITE, already_there=count)
    assert world.target.calls["stat"] == world.source.calls["stat"] == count
    assert world.target.most_memory - before < 20 << 20  # the list and its keys take more than 50 MB when held
