"""`deliver`: every `if_exists`, repeats, lost answers and races, on a store that keeps the connector contract."""

import asyncio
import logging
import tracemalloc

import pytest

from data_export.content import Content
from data_export.delivery.deliver import deliver
from data_export.errors import AccessDenied, ObjectRefused, OverwriteRefused, TargetRefused, TargetUnavailable
from data_export.pipeline.file import revision_key
from tests.unit.memory_store import MemoryStore

OLD, NEW = Content.of_bytes(b"old\n"), Content.of_bytes(b"new\n")  # equal sizes, so that only a checksum can tell


def key_of(revision: int) -> str:
    return "file.json" if revision == 1 else f"file.r{revision}.json"


@pytest.fixture(params=[True, False], ids=["checksums", "sizes only"])
def store(request: pytest.FixtureRequest) -> MemoryStore:
    return MemoryStore(checksums=request.param)


@pytest.mark.parametrize("if_exists", ["replace", "keep", "revision"])
async def test_a_fresh_object_is_created_and_its_repeat_sends_nothing(store, if_exists):
    assert await deliver(store, key_of, NEW, if_exists) == ("file.json", "created", 1)
    assert await deliver(store, key_of, NEW, if_exists) == ("file.json", "unchanged", 1)
    assert store.sent == NEW.size
    assert store.calls["create"] == 1
    assert store.calls["replace"] == 0


async def test_a_checksum_of_the_server_spares_reading_back():
    store = MemoryStore()
    await deliver(store, key_of, NEW, "replace")
    await deliver(store, key_of, NEW, "replace")
    assert store.calls["read"] == 0


async def test_another_size_is_other_content_without_reading():
    store = MemoryStore(checksums=False)
    store.objects["file.json"] = b"longer than the new one"
    assert await deliver(store, key_of, NEW, "keep") == ("file.json", "kept", 1)
    assert store.calls["read"] == 0


async def test_replace_replaces_other_content(store):
    await deliver(store, key_of, OLD, "replace")
    assert await deliver(store, key_of, NEW, "replace") == ("file.json", "replaced", 1)
    assert store.objects == {"file.json": b"new\n"}


async def test_keep_keeps_other_content_and_warns(store, caplog):
    await deliver(store, key_of, OLD, "keep")
    with caplog.at_level(logging.WARNING):
        assert await deliver(store, key_of, NEW, "keep") == ("file.json", "kept", 1)
    assert store.objects == {"file.json": b"old\n"}
    assert "memory://store/file.json holds other content" in caplog.text


@pytest.mark.parametrize(
    ("if_exists", "expected"),
    [
        ("keep", ("file.json", "kept", 1)),
        ("replace", ("file.json", "replaced", 1)),
        ("revision", ("file.r2.json", "revision", 2)),
    ],
)
async def test_what_is_archived_and_must_be_read_to_compare_is_taken_for_other_content(if_exists, expected, caplog):
    def refuse(call: str, key: str) -> None:
        if call == "read":
            raise ObjectRefused(f"memory://store/{key} is archived")

    store = MemoryStore(checksums=False)
    store.objects["file.json"] = b"old\n"
    store.fault = refuse
    assert await deliver(store, key_of, NEW, if_exists) == expected
    assert "since it cannot be read: memory://store/file.json is archived" in caplog.text


async def test_revision_writes_beside_the_newest_and_finds_that_again(store):
    third = Content.of_bytes(b"3rd\n")
    await deliver(store, key_of, OLD, "revision")
    assert await deliver(store, key_of, NEW, "revision") == ("file.r2.json", "revision", 2)
    assert await deliver(store, key_of, third, "revision") == ("file.r3.json", "revision", 3)
    sent = store.sent
    assert await deliver(store, key_of, third, "revision") == ("file.r3.json", "unchanged", 3)
    assert store.sent == sent
    assert store.objects == {"file.json": b"old\n", "file.r2.json": b"new\n", "file.r3.json": b"3rd\n"}


async def test_content_that_was_there_before_is_the_newest_again(store):
    """A mistake that was delivered and taken back: whoever takes the highest number must not keep the mistake."""
    for content in (OLD, NEW):
        await deliver(store, key_of, content, "revision")
    assert await deliver(store, key_of, OLD, "revision") == ("file.r3.json", "revision", 3)
    assert await deliver(store, key_of, OLD, "revision") == ("file.r3.json", "unchanged", 3)
    assert store.objects == {"file.json": b"old\n", "file.r2.json": b"new\n", "file.r3.json": b"old\n"}


class Listed(MemoryStore):
    """A store that lists, as buckets do."""

    async def list(self, prefix):
        self.calls["list"] += 1
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield self._stored(key)


@pytest.mark.parametrize("kept", [[6], [9], [3, 7], [2, 6, 12], [1, 6], [1, 2, 7, 40]])
async def test_of_revisions_only_the_newest_may_be_left(kept):
    store = Listed()
    store.objects |= {f"sub.folder/{key_of(number)}": b"old\n" for number in kept} | {"sub.folder/file.rx.json": b""}
    newest = kept[-1]
    where = await deliver(store, lambda number: f"sub.folder/{key_of(number)}", NEW, "revision")
    assert where == (f"sub.folder/file.r{newest + 1}.json", "revision", newest + 1)


async def test_what_a_gap_hides_is_listed_for_changed_content_once_and_compared():
    store = Listed()
    store.objects |= {key_of(1): b"old\n", key_of(6): b"new\n"}
    assert await deliver(store, key_of, NEW, "revision") == ("file.r6.json", "unchanged", 6)
    assert await deliver(store, key_of, Content.of_bytes(b"3rd\n"), "revision") == ("file.r7.json", "revision", 7)
    assert store.calls["list"] == 2
    del store.objects[key_of(6)], store.objects[key_of(7)]
    assert await deliver(store, key_of, OLD, "revision") == ("file.json", "unchanged", 1)
    assert store.calls["list"] == 2


async def test_a_name_that_begins_at_a_later_revision_hides_none_of_other_digits():
    """As a manifest's: its first is the newest that is known."""
    store = Listed()
    store.objects |= {key_of(12): b"old\n", key_of(20): b"old\n"}
    placed = await deliver(store, lambda number: key_of(number + 11), NEW, "revision")
    assert placed.key == "file.r21.json"


@pytest.mark.parametrize("name", [".hidden.json", "x.json", "a.b/c.json.gz"])
async def test_only_names_of_revisions_are_listed(name):
    class Watched(Listed):
        asked = None

        async def list(self, prefix):
            self.asked = prefix
            async for stored in super().list(prefix):
                yield stored

    store = Watched()
    await deliver(store, lambda number: revision_key(name, number), NEW, "revision")
    assert store.asked == name.partition(".json")[0] + "."


async def test_whoever_may_not_list_delivers_all_the_same():
    class Refusing(MemoryStore):
        async def list(self, prefix):
            raise AccessDenied("no right to list")
            yield

    store = Refusing()
    assert await deliver(store, key_of, OLD, "revision") == ("file.json", "created", 1)
    assert await deliver(store, key_of, NEW, "revision") == ("file.r2.json", "revision", 2)


@pytest.mark.parametrize("gone", [[1], [2], [1, 2], [2, 3, 4]])
async def test_revisions_that_somebody_moved_away_leave_the_newest_the_newest(store, gone):
    for number in range(1, 6):
        await deliver(store, key_of, Content.of_bytes(b"%d\n" % number), "revision")
    for number in gone:
        del store.objects[key_of(number)]
    assert await deliver(store, key_of, Content.of_bytes(b"5\n"), "revision") == ("file.r5.json", "unchanged", 5)
    assert await deliver(store, key_of, NEW, "revision") == ("file.r6.json", "revision", 6)


async def test_a_second_revision_without_a_first_is_the_newest(store):
    """Somebody has moved the first away."""
    store.objects["file.r2.json"] = b"old\n"
    assert await deliver(store, key_of, OLD, "revision") == ("file.r2.json", "unchanged", 2)
    assert await deliver(store, key_of, NEW, "revision") == ("file.r3.json", "revision", 3)


@pytest.mark.parametrize("if_exists", ["replace", "keep", "revision"])
async def test_content_is_asked_for_only_to_be_written(store, if_exists):
    """A task cleared after its run's success has the digests only."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1

    store.objects["file.json"] = b"old\n"
    await deliver(store, key_of, NEW, if_exists, ask)
    assert asked == (if_exists != "keep")
    await deliver(store, key_of, NEW, if_exists, ask)
    assert asked == (if_exists != "keep")


async def test_revisions_come_to_an_end():
    store = MemoryStore()
    store.objects["file.json"] = b"old\n"
    with pytest.raises(TargetRefused, match=r"memory://store/file\.json has 999 revisions"):
        await deliver(store, lambda revision: "file.json", NEW, "revision")


async def test_a_refused_replace_passes_and_changes_nothing(store):
    store.objects["file.json"] = b"old\n"

    def refuse(call: str, key: str) -> None:
        if call == "replace":
            raise OverwriteRefused("grant storage.objects.delete")

    store.fault = refuse
    with pytest.raises(OverwriteRefused, match=r"storage\.objects\.delete"):
        await deliver(store, key_of, NEW, "replace")
    assert store.objects == {"file.json": b"old\n"}


@pytest.mark.parametrize(
    ("there", "if_exists", "expected"),
    [
        (b"new\n", "replace", ("file.json", "unchanged", 1)),
        (b"old\n", "replace", ("file.json", "replaced", 1)),
        (b"old\n", "keep", ("file.json", "kept", 1)),
        (b"old\n", "revision", ("file.r2.json", "revision", 2)),
    ],
)
async def test_an_object_that_appears_while_we_create_is_compared(store, there, if_exists, expected):
    """Between our stat and our create another run was quicker, or the server kept our bytes and lost its answer."""

    def appear(call: str, key: str) -> None:
        if call == "create":
            store.objects.setdefault("file.json", there)

    store.fault = appear
    assert await deliver(store, key_of, NEW, if_exists) == expected
    assert b"new\n" in store.objects.values() or if_exists == "keep"


async def test_a_lost_answer_that_fails_the_task_is_recognised_by_its_retry(store):
    def lose(call: str, key: str) -> None:
        store.after = lambda call, key: None
        raise TargetUnavailable("connection reset after the last byte")

    store.after = lose
    with pytest.raises(TargetUnavailable):
        await deliver(store, key_of, NEW, "revision")
    assert await deliver(store, key_of, NEW, "revision") == ("file.json", "unchanged", 1)
    assert store.objects == {"file.json": b"new\n"}


@pytest.mark.parametrize("if_exists", ["replace", "keep", "revision"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
async def test_two_runs_of_the_same_window_at_once_leave_one_object(if_exists, steps):
    store = MemoryStore(steps=steps)
    results = await asyncio.gather(*(deliver(store, key_of, NEW, if_exists) for _ in range(4)))
    assert sorted(outcome for _, outcome, _ in results) == ["created", "unchanged", "unchanged", "unchanged"]
    assert {key for key, *_ in results} == {"file.json"}
    assert store.objects == {"file.json": b"new\n"}
    assert store.calls["replace"] == 0


async def test_runs_with_different_content_at_once_lose_none_under_revision(store):
    contents = [Content.of_bytes(f"{n}\n".encode()) for n in range(6)]
    results = await asyncio.gather(*(deliver(store, key_of, content, "revision") for content in contents))
    assert {store.objects[key] for key, *_ in results} == {b"%d\n" % n for n in range(6)}
    assert sorted(store.objects) == sorted(key_of(n) for n in range(1, 7))


async def test_an_object_removed_while_it_is_read_back_is_created():
    store = MemoryStore(checksums=False)
    store.objects["file.json"] = b"old\n"

    def remove(call: str, key: str) -> None:
        if call == "read":
            store.objects.clear()

    store.fault = remove
    assert await deliver(store, key_of, NEW, "keep") == ("file.json", "created", 1)
    assert store.objects == {"file.json": b"new\n"}


@pytest.mark.parametrize("checksums", [True, False])
async def test_an_object_that_comes_and_goes_is_a_transient_fault(checksums):
    store = MemoryStore(checksums=checksums)

    def flicker(call: str, key: str) -> None:
        if call == "create":
            store.objects[key] = NEW.source
        elif call in ("stat", "read"):
            store.objects.pop(key, None)

    store.fault = flicker
    with pytest.raises(TargetUnavailable, match=r"memory://store/file\.json comes and goes"):
        await deliver(store, key_of, NEW, "replace")


async def test_reading_back_holds_a_chunk_not_the_file(tmp_path):
    store = MemoryStore(checksums=False)
    store.objects["file.json"] = bytes(64 << 20)
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    content = Content.of_file(path)
    tracemalloc.start()
    assert await deliver(store, key_of, content, "replace") == ("file.json", "unchanged", 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 << 20
