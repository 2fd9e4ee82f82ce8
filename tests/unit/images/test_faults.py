"""Faults of a copy: killed it resumes, what passes is tried again, what lasts stops it with the right error."""

import asyncio
import random

import pytest

from data_export.delivery.retry import NoSuchObject
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    ObjectRefused,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from data_export.images import CopyLimits
from tests.unit.images.world import World, input_id, source_key, target_key, write_list


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


async def test_a_fault_of_the_whole_place_ends_the_step_after_its_tries(world):
    def fail(call: str, key: str) -> None:
        if key >= source_key(9) and call == "read":
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
    sleep, here = asyncio.sleep, asyncio.get_running_loop()

    async def record(seconds: float) -> None:
        if asyncio.get_running_loop() is not here:  # a server of other tests, in its thread
            await sleep(seconds)
            return
        if seconds:
            pauses.append(seconds)
        await sleep(60 if seconds == 999 else 0)

    def fail(call: str, key: str) -> None:
        if key == target_key(9):
            raise TargetUnavailable("503")

    world.target.fault = fail
    monkeypatch.setattr(asyncio, "sleep", record)
    assert (await world.copy(CopyLimits(report_seconds=999))).failed == 1
    pauses.remove(999)
    for pause, longest in zip(pauses, (0.5, 1, 2, 4) * 2, strict=True):  # again when all others are done
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
                raise CredentialsRefused("the key has expired")
            if key > target_key(10):
                raise TargetUnavailable("503")

    world.target.fault = fail
    with pytest.raises(CredentialsRefused, match="the key has expired"):
        await world.copy(CopyLimits(backoff_seconds=60))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert world.target.calls["create"] <= 10 + 2 * world.target.concurrency


async def test_of_faults_at_once_the_permanent_one_is_told(world):
    def fail(call: str, key: str) -> None:
        if call == "create":
            raise CredentialsRefused("403") if key == target_key(3) else TargetUnavailable("503")

    world.target.fault = fail
    with pytest.raises(CredentialsRefused):
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


async def test_an_image_that_comes_and_goes_fails_alone(world):
    def flicker(call: str, key: str) -> None:
        if key == target_key(9):
            if call == "create":
                world.target.objects[key] = b"another run's"
            else:
                world.target.objects.pop(key, None)

    world.target.fault = flicker
    copied = await world.copy()
    assert (copied.copied, copied.failed) == (39, 1)
    assert "0009.png comes and goes" in copied.failures[0]


@pytest.mark.parametrize("kind", ["world", "copying", "sizes_only"])
@pytest.mark.parametrize(
    "error",
    [
        ObjectRefused("is archived"),
        AccessDenied("quarantined"),
        TargetRefused("file type not allowed"),
        NoSuchObject("the store lists it only"),
        TargetNotFound("a folder by that name"),
        TargetUnavailable("the virus scanner resets the connection"),
        VerificationFailed("not there after it was stored"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("side", ["source", "target"])
async def test_what_concerns_one_image_keeps_back_neither_the_others_nor_the_data(kind, error, side, request):
    world: World = request.getfixturevalue(kind)
    bad = {source_key(0), target_key(0), source_key(9), target_key(9)}

    def fail(call: str, key: str) -> None:
        if key in bad and call in (("read",) if side == "source" else ("create",)):
            raise error
        if key in bad and call == "copy_from":
            raise error

    store = world.source if side == "source" else world.target
    store.fault = world.target.fault = fail
    copied = await world.copy()
    assert (copied.copied, copied.failed) == (38, 2)
    assert [line.partition(": ")[0] for line in copied.failures] == [f"{input_id(n)}.png" for n in (0, 9)]
    assert all(str(error) in line for line in copied.failures)
    if kind == "copying":
        assert world.target.calls["create"] <= (0 if isinstance(error, ObjectRefused) else 20)  # not switched off

    again = await world.copy()
    assert (again.already_there, again.failed) == (38, 2)
    store.fault = world.target.fault = lambda call, key: None
    assert (await world.copy()).copied == 2
    assert world.target.objects == world.expected


async def test_the_only_image_fails_and_the_data_goes_on(world, tmp_path):
    def fail(call: str, key: str) -> None:
        if call == "read":
            raise TargetUnavailable("reset")

    world.source.fault = fail
    copied = await world.copy(images=write_list(tmp_path / "one", [input_id(3)], [".png"]))
    assert (copied.copied, copied.failed) == (0, 1)


@pytest.mark.parametrize("error", [AccessDenied("grant it"), TargetRefused("no"), TargetUnavailable("503")])
@pytest.mark.parametrize("count", [2, 40])
async def test_what_no_image_survives_stops_the_run(world, tmp_path, error, count):
    def fail(call: str, key: str) -> None:
        if call == "create":
            raise error

    world.target.fault = fail
    with pytest.raises(type(error), match=str(error)):
        await world.copy(images=write_list(tmp_path / "some", [input_id(n) for n in range(count)], [".png"] * count))


async def test_a_host_that_goes_away_at_the_end_stops_the_run(world):
    def fail(call: str, key: str) -> None:
        if world.target.calls["create"] > 35:
            raise TargetUnavailable("down")

    world.target.fault = fail
    with pytest.raises(TargetUnavailable, match="down"):
        await world.copy()


@pytest.mark.parametrize("error", [TargetUnavailable("503"), VerificationFailed("cut")], ids=["503", "cut"])
@pytest.mark.parametrize("of", ["read", "create"])
async def test_what_may_pass_is_an_images_failure_on_the_last_try_only(world, error, of):
    """A retry finds the others at the target: nothing else then shows whether source or target is ill."""
    bad = {key(n) for n in range(1, 40, 2) for key in (source_key, target_key)}

    def fail(call: str, key: str) -> None:
        if key in bad and call == of:
            raise error

    world.source.fault = world.target.fault = fail
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            await world.copy(CopyLimits(tries=1), last_try=False)
        assert len(world.target.objects) == 20  # the others are not kept waiting
    assert (await world.copy(CopyLimits(tries=1))).failed == 20
    world.source.fault = world.target.fault = lambda call, key: None
    assert (await world.copy(last_try=False)).copied == 20


async def test_a_refused_image_is_final_at_once(world):
    def fail(call: str, key: str) -> None:
        if call == "create" and key == target_key(9):
            raise ObjectRefused("too large")

    world.target.fault = fail
    assert (await world.copy(last_try=False)).failed == 1
