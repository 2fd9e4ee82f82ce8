"""Packed data files from staging to the target and the mailed link: recognised by their records, not their bytes."""

import asyncio
import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from data_export import layout
from data_export.config.models import EXPORT, CustomerExport
from data_export.content import Content, Digests
from data_export.delivery.base import Destination, StoredObject
from data_export.pipeline.file import FilesThere
from data_export.pipeline.receipts import deliver_receipts, make_receipt
from data_export.receipt import DataFile, SiteReceipt, Transformed
from data_export.transform.encoding import look_into
from tests.pipeline.staged_run import NOW, SITE, WINDOW, StagedRuns, plan_of, stage
from tests.unit.memory_store import MemoryStore

LINES = b'{"id":1}\n{"id":2}\n' * 500
OTHER = b'{"id":3}\n'
TYPE = "work-orders-timeline"


class KeepingStore(MemoryStore):
    """Keeps digests in metadata, as Cloud Storage and S3 do."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Digests] = {}

    def _put(self, call: str, key: str, content: Content) -> StoredObject:
        self.kept[key] = content.digests
        return super()._put(call, key, content)

    def _stored(self, key: str) -> StoredObject:
        stored = super()._stored(key)
        kept = self.kept[key]
        return replace(stored, digests=replace(stored.digests, sha256=kept.sha256, records_sha256=kept.records_sha256))


def packed_export(export: CustomerExport, **keys: str) -> CustomerExport:
    return EXPORT.validate_python(export.model_dump(mode="json") | keys)


class PackedRuns(StagedRuns):
    """Runs of a gzip export, packed at any level."""

    def __init__(self, folder: Path, target: Destination, **config: object) -> None:
        super().__init__(folder, target, **config)
        self.export = packed_export(self.export, compression="gzip")
        self.folder = folder

    def run(self, lines: bytes, level: int) -> tuple[bytes, SiteReceipt]:
        plan, data = plan_of(self.export), gzip.compress(lines, level, mtime=0)
        transformed = packed(stage(self.staging, plan, self.folder, data), self.folder, data)
        receipt = make_receipt(plan, self.target.uri, [self.deliver(plan, transformed)], NOW)
        return data, deliver_receipts(plan, receipt, self.target, self.staging).sites[0]


def packed(transformed: Transformed, folder: Path, data: bytes) -> Transformed:
    (folder / "look").write_bytes(data)
    count, digests = look_into(folder / "look", "gzip")
    return transformed.model_copy(update={"work_orders": count, "records_sha256": digests.records_sha256})


STORES: dict[str, Callable[[], MemoryStore]] = {
    "metadata": KeepingStore,
    "checksums": MemoryStore,
    "sizes only": lambda: MemoryStore(checksums=False),
}


@pytest.fixture(params=[*STORES])
def store(request: pytest.FixtureRequest) -> MemoryStore:
    return STORES[request.param]()


def test_other_bytes_of_the_same_records_are_not_sent_again(tmp_path: Path, store: MemoryStore) -> None:
    runs = PackedRuns(tmp_path, store)
    first, created = runs.run(LINES, 9)
    there = dict(store.objects)
    second, repeated = runs.run(LINES, 1)
    assert first != second
    assert (created.outcome, repeated.outcome) == ("created", "unchanged")
    assert created.uri.endswith(f"/data/{TYPE}/{WINDOW.stamp}.json.gz")
    assert store.objects == there  # the receipt too
    same = {"outcome": "created"}
    assert repeated.model_copy(update=same) == created  # the receipt is of the file that is there
    assert repeated.bytes == len(first)


@pytest.mark.parametrize("if_exists", ["replace", "keep", "revision"])
def test_other_records_are_other_content(tmp_path: Path, store: MemoryStore, if_exists: str) -> None:
    runs = PackedRuns(tmp_path, store, if_exists=if_exists)
    first, created = runs.run(LINES, 6)
    second, changed = runs.run(OTHER, 6)
    key = layout.data_key(SITE, TYPE, WINDOW, encoding="gzip")
    revision = layout.data_key(SITE, TYPE, WINDOW, 2, "gzip")
    assert revision.endswith(".r2.json.gz")
    if if_exists == "replace":
        assert (changed.outcome, store.objects[key]) == ("replaced", second)
    elif if_exists == "revision":
        assert (changed.outcome, store.objects[key], store.objects[revision]) == ("revision", first, second)
        assert runs.run(OTHER, 1)[1].outcome == "unchanged"
    else:
        assert (changed.outcome, store.objects[key]) == ("kept", first)
        assert (changed.work_orders, changed.sha256) == (1000, created.sha256)
        assert changed.records_sha256 == created.records_sha256
        assert changed.offered is not None
        assert changed.offered.work_orders == 1


@pytest.mark.parametrize("foreign", [b"", b"somebody's own", gzip.compress(LINES)[:-4]], ids=["empty", "text", "cut"])
def test_what_is_no_file_of_ours_is_other_content(tmp_path: Path, foreign: bytes) -> None:
    store = MemoryStore(checksums=False)
    key = layout.data_key(SITE, TYPE, WINDOW, encoding="gzip")
    store.objects[key] = foreign
    runs = PackedRuns(tmp_path, store, if_exists="keep")
    kept = runs.run(LINES, 6)[1]
    assert (kept.outcome, kept.work_orders, kept.records_sha256) == ("kept", 0, "")
    runs = PackedRuns(tmp_path, store)
    assert runs.run(LINES, 6)[1].outcome == "replaced"


def test_an_object_copied_without_its_metadata_is_read(tmp_path: Path) -> None:
    store = KeepingStore()
    runs = PackedRuns(tmp_path, store)
    _, created = runs.run(LINES, 9)
    key = layout.data_key(SITE, TYPE, WINDOW, encoding="gzip")
    store.kept[key] = Digests(len(store.objects[key]))
    _, repeated = runs.run(LINES, 1)
    assert (repeated.outcome, repeated.sha256) == ("unchanged", created.sha256)


def test_a_plain_file_s_receipt_of_an_earlier_version_says_the_same() -> None:
    earlier = {"work_orders": 1, "bytes": 9, "sha256": "ab" * 32}
    assert DataFile.model_validate(earlier).records_sha256 == "ab" * 32
    site = earlier | {"site_id": str(SITE), "quarantined": 0, "uri": "gs://b/x.json", "outcome": "created"}
    assert SiteReceipt.model_validate(site).records_sha256 == "ab" * 32


def test_a_task_that_has_to_stop_does_not_unpack_to_the_end(tmp_path: Path) -> None:
    """Six megabytes that unpack to 67 GB: the thread that looks into it ends with the task."""
    store = MemoryStore()
    frame = pa.compress(bytes(64 << 20), "zstd", asbytes=True)
    store.objects["file"] = frame * 1000

    async def given_up() -> None:
        there = FilesThere(store, tmp_path / "file", "zstd", "receipt")
        await asyncio.wait_for(there.kept("file"), 0.5)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(given_up())
    assert time.monotonic() - began < 15
