"""A target that answers without end, or holds more than a disk: whatever reads it stops, and says so."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_export import layout
from data_export.config.models import EXPORT
from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.errors import TargetUnavailable, VerificationFailed
from data_export.images import CopyRules
from data_export.pipeline import file as file_there
from data_export.pipeline.audit import AuditRules, audit
from data_export.pipeline.expected import Delivery, expected
from data_export.pipeline.manifest import deliver_manifest
from data_export.pipeline.verify import Verified, files_of, verify
from tests.pipeline.staged_run import NOW, SITE, WINDOW, StagedRuns, plan_of
from tests.pipeline.test_packed import LINES, PackedRuns
from tests.unit.images.world import World
from tests.unit.memory_store import MemoryStore

DATA = b'{"id":1}\n'
TYPE = "work-orders-timeline"
_MOST = 64 << 20  # bytes: more than anything that is held back, and far from the end


class Endless(MemoryStore):
    """Knows sizes only, says the right ones, and once `ends` is false goes on answering."""

    def __init__(self) -> None:
        super().__init__("memory://target/", checksums=False)
        self.ends = True
        self.read_in_all = 0

    async def read(self, key: str) -> AsyncIterator[bytes]:
        async for chunk in super().read(key):
            yield chunk
        while not self.ends:
            self.read_in_all += 1 << 16
            if self.read_in_all > _MOST:
                raise AssertionError(f"{key} is read without end")
            yield bytes(1 << 16)


@pytest.fixture
def target() -> Endless:
    return Endless()


def test_the_data_file_is_another_one(tmp_path: Path, target: Endless) -> None:
    runs = StagedRuns(tmp_path, target)
    runs.whole(DATA)
    target.ends = False
    with pytest.raises(VerificationFailed, match="is longer than the"):
        runs.whole(DATA)


def test_a_file_that_is_kept(tmp_path: Path, target: Endless) -> None:
    runs = StagedRuns(tmp_path, target, if_exists="keep")
    target.objects[layout.data_key(SITE, TYPE, WINDOW)] = b"theirs"
    target.ends = False
    with pytest.raises(VerificationFailed, match="is longer than the 6 bytes"):
        runs.whole(DATA)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_there.shutil, "disk_usage", lambda _path: SimpleNamespace(free=40))


@pytest.mark.usefixtures("small_disk")
def test_a_kept_file_larger_than_the_disk_is_told_as_it_is(tmp_path: Path, target: Endless) -> None:
    runs = StagedRuns(tmp_path, target, if_exists="keep")
    target.objects[layout.data_key(SITE, TYPE, WINDOW)] = DATA * 300
    (site,) = runs.whole(DATA).sites
    assert (site.outcome, site.work_orders, site.bytes) == ("kept", 300, len(DATA) * 300)
    assert site.records_sha256 == site.sha256 == hashlib.sha256(DATA * 300).hexdigest()


@pytest.mark.usefixtures("small_disk")
def test_a_kept_packed_file_larger_than_the_disk_is_an_error(tmp_path: Path, target: Endless) -> None:
    target.objects[layout.data_key(SITE, TYPE, WINDOW, 1, "gzip")] = gzip.compress(LINES, 0)
    with pytest.raises(TargetUnavailable, match="more than half of the disk that is left here"):
        PackedRuns(tmp_path, target, if_exists="keep").run(DATA, 6)


def test_a_packed_file_many_times_as_large_is_replaced_unread(tmp_path: Path) -> None:
    class Huge(MemoryStore):
        async def read(self, key: str) -> AsyncIterator[bytes]:
            if key.endswith(".gz"):
                raise AssertionError("a terabyte is read")
            async for chunk in super().read(key):
                yield chunk

        async def stat(self, key: str) -> StoredObject | None:
            found = await super().stat(key)
            return StoredObject(key, Digests(1 << 40), None) if found and key.endswith(".gz") else found

    target = Huge()
    runs = PackedRuns(tmp_path, target)
    target.objects[layout.data_key(SITE, TYPE, WINDOW, 1, "gzip")] = b"theirs"
    data, site = runs.run(LINES, 6)
    assert (site.outcome, target.objects[layout.data_key(SITE, TYPE, WINDOW, 1, "gzip")]) == ("replaced", data)


def test_a_manifest(tmp_path: Path, target: Endless) -> None:
    runs = StagedRuns(tmp_path, target)
    plan = plan_of(EXPORT.validate_python(runs.export.model_dump(mode="json") | {"manifest": True}))
    receipt = runs.whole(DATA)
    deliver_manifest(plan, receipt, target)
    target.ends = False
    with pytest.raises(VerificationFailed, match=r"memory://target/manifests/.* is longer than the"):
        deliver_manifest(plan, receipt, target)


def test_verify_and_the_audit_say_that_it_is_another_one(tmp_path: Path, target: Endless) -> None:
    receipt = StagedRuns(tmp_path, target).whole(DATA)
    target.ends = False
    found: list[Verified] = []
    verify(target, files_of(receipt.to_dict()), found.append)
    assert [one.found for one in found] == ["other content"]
    delivered = expected([Delivery(receipt.to_dict(), "data_export__acme", "run")], 10)
    seen = audit(target, delivered, AuditRules(full=True), None, NOW)
    assert [one.found for _, one in seen.findings] == ["other content"]


def test_an_image_is_another_one(tmp_path: Path, target: Endless) -> None:
    async def run() -> None:
        world = World(tmp_path, MemoryStore("memory://source/"), target, count=2)
        await world.copy(rules=CopyRules(read_back=True))
        target.ends = False
        assert (await world.copy(rules=CopyRules("keep", read_back=True))).kept == 2

    asyncio.run(run())
