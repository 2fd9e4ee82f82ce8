"""What a receipt says is what is at the target, on the first run and on every repeat."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from data_export import layout
from data_export.content import Content
from data_export.delivery.base import StoredObject
from data_export.delivery.local.store import LocalStore
from data_export.errors import ObjectRefused, OverwriteRefused, StagedFileGone, TargetUnavailable
from data_export.pipeline.receipts import deliver_receipts, make_receipt
from data_export.pipeline.site import copy_site_images, deliver_site
from data_export.pipeline.staging import clean_up
from data_export.receipt import DataFile, is_summary
from tests.pipeline.staged_run import NOW, SITE, WINDOW, StagedRuns, plan_of, stage

OLD, NEW = b'{"id":1}\n', b'{"id":1}\n{"id":2}\n'
TYPE = "work-orders-timeline"
ONE, OTHER = str(UUID(int=1)), str(UUID(int=2))


class CreateOnlyStore(LocalStore):
    """A target whose owner has granted create, but not delete."""

    async def replace(self, key: str, content: Content) -> StoredObject:
        raise OverwriteRefused(f"{key}: grant storage.objects.delete")


class ArchivingStore(LocalStore):
    """A target whose owner moves everything to a class that cannot be read; it can be looked at and replaced."""

    async def read(self, key: str, *_: object) -> AsyncIterator[bytes]:
        raise ObjectRefused(f"{key} is archived: restore it")
        yield b""


def receipts(folder: Path) -> dict[str, bytes]:
    found = (folder / "target" / str(SITE) / "receipts" / TYPE).iterdir()
    return {path.name: path.read_bytes() for path in found}


@pytest.mark.parametrize("if_exists", ["replace", "keep", "revision"])
def test_a_receipt_tells_of_the_file_that_is_there(tmp_path: Path, if_exists: str) -> None:
    runs = StagedRuns(tmp_path, if_exists=if_exists)
    runs.whole(OLD)
    (site,) = runs.whole(NEW).sites
    there = Path(site.uri.removeprefix("file://")).read_bytes()
    assert there == (OLD if if_exists == "keep" else NEW)
    assert (site.work_orders, site.bytes) == (there.count(b"\n"), len(there))
    assert site.sha256 == hashlib.sha256(there).hexdigest()
    assert site.crc32c == Content.of_bytes(there).digests.crc32c
    sums = {"sha256": hashlib.sha256(NEW).hexdigest(), "crc32c": Content.of_bytes(NEW).digests.crc32c}
    offered = DataFile(work_orders=2, bytes=len(NEW), **sums)
    assert site.offered == (offered if if_exists == "keep" else None)


def test_the_run_s_summary_tells_of_a_kept_file(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path, if_exists="keep")
    runs.whole(OLD)
    assert runs.whole(NEW).summary().endswith("1 files kept that differ")


def test_each_revision_has_its_receipt_where_nothing_may_be_replaced(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path, CreateOnlyStore(tmp_path / "target"), if_exists="revision")
    runs.whole(OLD)
    (site,) = runs.whole(NEW).sites
    assert (site.outcome, site.revision) == ("revision", 2)
    told = {name: json.loads(content)["sites"][0]["uri"] for name, content in receipts(tmp_path).items()}
    data = f"{runs.target.uri}{SITE}/data/{TYPE}/{WINDOW.stamp}"
    assert told == {f"{WINDOW.stamp}.json": f"{data}.json", f"{WINDOW.stamp}.r2.json": f"{data}.r2.json"}


def test_a_repeated_window_leaves_its_receipt_alone(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path)
    runs.image(ONE, b"one")
    runs.whole(OLD, [ONE, OTHER])
    first = receipts(tmp_path)
    assert runs.whole(OLD, [ONE, OTHER], NOW + timedelta(days=1)).sites[0].outcome == "unchanged"
    assert receipts(tmp_path) == first
    runs.image(OTHER, b"turned up")
    runs.whole(OLD, [ONE, OTHER])
    assert receipts(tmp_path) != first


def test_a_receipt_from_before_crc32c_is_left_alone_too(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path, if_exists="keep")
    runs.whole(OLD)
    runs.whole(NEW)
    path = tmp_path / "target" / layout.receipt_key(SITE, TYPE, WINDOW)
    earlier = json.loads(path.read_text())
    (site,) = earlier["sites"]
    del site["crc32c"], site["offered"]["crc32c"]
    path.write_text(json.dumps(earlier))
    runs.whole(NEW)
    assert json.loads(path.read_text()) == earlier


def test_a_receipt_of_another_version_is_replaced(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path)
    runs.whole(OLD)
    first = receipts(tmp_path)
    path = tmp_path / "target" / layout.receipt_key(SITE, TYPE, WINDOW)
    path.write_text('{"export": "acme"}')
    runs.whole(OLD)
    assert json.loads(path.read_text())["sites"][0]["outcome"] == "unchanged"
    assert receipts(tmp_path).keys() == first.keys()


def test_a_receipt_that_may_not_be_replaced_stays(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path, CreateOnlyStore(tmp_path / "target"))
    runs.whole(OLD, [ONE])
    first = receipts(tmp_path)
    runs.image(ONE, b"turned up")
    assert runs.whole(OLD, [ONE]).sites[0].outcome == "unchanged"
    assert receipts(tmp_path) == first


def test_a_repeat_needs_no_receipt_that_can_be_read(tmp_path: Path) -> None:
    """Old windows run again after a lifecycle rule has archived what was delivered."""
    runs = StagedRuns(tmp_path, ArchivingStore(tmp_path / "target"))
    runs.whole(OLD)
    first = receipts(tmp_path)
    assert runs.whole(OLD, None, NOW + timedelta(days=1)).sites[0].outcome == "unchanged"
    assert receipts(tmp_path).keys() == first.keys()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_kept_file_that_is_archived_is_told_of_as_far_as_it_is_known(tmp_path: Path, compression: str) -> None:
    runs = StagedRuns(tmp_path, ArchivingStore(tmp_path / "target"), if_exists="keep")
    runs.export = runs.export.model_copy(update={"compression": compression})
    first = runs.whole(OLD)
    receipt = runs.whole(NEW)
    (site,) = receipt.sites
    assert (site.outcome, site.work_orders, site.bytes, site.sha256) == ("kept", None, len(OLD), first.sites[0].sha256)
    assert site.offered is not None
    assert site.offered.work_orders == 2
    assert "work_orders" not in receipt.totals()
    assert receipt.summary().startswith("1 site, an unknown number of work orders, 9 B")
    assert is_summary(receipt.summary())
    (told,) = (json.loads(text) for text in receipts(tmp_path).values())
    assert told["sites"][0]["work_orders"] is None
    assert runs.whole(OLD).totals()["work_orders"] == 1


def test_an_earlier_receipt_tells_of_a_kept_file_that_is_archived(tmp_path: Path) -> None:
    """The rule archives large files, or those below `data/`, and leaves receipts alone."""

    class ArchivingData(LocalStore):
        async def read(self, key: str, *more: Any) -> AsyncIterator[bytes]:
            if "/data/" in key:
                raise ObjectRefused(f"{key} is archived: restore it")
            async for chunk in super().read(key, *more):
                yield chunk

    runs = StagedRuns(tmp_path, ArchivingData(tmp_path / "target"), if_exists="keep")
    (first,) = runs.whole(OLD).sites
    for _ in range(2):
        (site,) = runs.whole(NEW).sites
        assert (site.work_orders, site.sha256, site.records_sha256) == (1, first.sha256, first.records_sha256)
    Path(first.uri.removeprefix("file://")).write_bytes(b"another\n" * 3)
    assert runs.whole(NEW).sites[0].work_orders is None


def test_images_keep_to_the_customer_s_if_exists(tmp_path: Path) -> None:
    runs = StagedRuns(tmp_path, if_exists="keep")
    runs.image(ONE, b"one")
    runs.whole(OLD, [ONE])
    runs.image(ONE, b"another")
    receipt = runs.whole(OLD, [ONE])
    assert receipt.totals()["images_kept"] == receipt.totals()["images"] == 1
    assert (tmp_path / "target" / layout.image_key(SITE, ONE, ".png")).read_bytes() == b"one"
    assert "1 images kept that differ" in receipt.summary()


def test_every_missing_image_is_listed_at_the_target(tmp_path: Path) -> None:
    names = [str(UUID(int=n)) for n in range(250)]
    (site,) = StagedRuns(tmp_path).whole(OLD, names).sites
    assert site.images is not None
    assert len(site.images.missing) == 100
    assert (
        site.images.missing_list == f"file://{tmp_path}/target/{SITE}/receipts/{TYPE}/{WINDOW.stamp}.missing-images.txt"
    )
    listed = Path(site.images.missing_list.removeprefix("file://")).read_text().splitlines()
    assert listed == [f"{name}.png" for name in names]
    (told,) = (json.loads(text) for name, text in receipts(tmp_path).items() if name.endswith(".json"))
    assert told["sites"][0]["images"]["missing_list"] == site.images.missing_list


@pytest.mark.parametrize("fault", ["gone", "another"])
def test_a_list_of_missing_images_is_mended_beside_a_receipt_that_says_the_same(tmp_path: Path, fault: str) -> None:
    runs, names = StagedRuns(tmp_path), [str(UUID(int=n)) for n in range(250)]
    first, told = runs.whole(OLD, names), receipts(tmp_path)
    (path,) = (tmp_path / "target").rglob("*.missing-images.txt")
    if fault == "gone":
        path.unlink()
    else:
        path.write_text("\n".join(path.read_text().splitlines()[:200]))
    again = runs.whole(OLD, names, NOW + timedelta(days=1))
    assert (receipts(tmp_path), {*again.documents}) == (told, {*first.documents})


def test_a_repeat_names_missing_images_in_the_same_order_and_replaces_nothing(tmp_path: Path) -> None:
    runs, names = StagedRuns(tmp_path), [str(UUID(int=n)) for n in reversed(range(250))]
    runs.whole(OLD, names)
    (path,) = (tmp_path / "target").rglob("*.missing-images.txt")
    before = path.stat()
    runs.whole(OLD, names)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_close_repeated_when_staging_has_no_list_any_more_keeps_the_one_at_the_target(tmp_path: Path) -> None:
    runs, names = StagedRuns(tmp_path), [str(UUID(int=n)) for n in range(101)]
    plan = plan_of(runs.export)
    site = runs.deliver(plan, stage(runs.staging, plan, tmp_path, OLD, names))
    receipt = make_receipt(plan, "", [site], NOW)
    first = deliver_receipts(plan, receipt, runs.target, runs.staging)
    told = receipts(tmp_path)
    for path in (tmp_path / "staging").rglob("missing*"):
        path.unlink()
    again = deliver_receipts(plan, receipt, runs.target, runs.staging)
    assert (receipts(tmp_path), len(first.documents), {*again.documents}) == (told, 2, {*first.documents})
    (tmp_path / "target" / layout.missing_images_key(SITE, TYPE, WINDOW)).unlink()
    assert len(deliver_receipts(plan, receipt, runs.target, runs.staging).documents) == 1
    (tmp_path / "target" / layout.receipt_key(SITE, TYPE, WINDOW)).unlink()
    with pytest.raises(StagedFileGone, match="clear the run's `prepare` task"):
        deliver_receipts(plan, receipt, runs.target, runs.staging)


def test_where_no_receipt_is_delivered_the_list_stays_in_staging(tmp_path: Path) -> None:
    runs, names = StagedRuns(tmp_path), [str(UUID(int=n)) for n in range(101)]
    plan = plan_of(runs.export)
    receipt = make_receipt(plan, "", [runs.deliver(plan, stage(runs.staging, plan, tmp_path, OLD, names))], NOW)
    clean_up(plan, receipt, runs.staging)
    images = receipt.sites[0].images
    assert images is not None
    assert images.missing_list is not None
    left = [path for path in (tmp_path / "staging").rglob("*") if path.is_file()]
    assert [f"file://{path}" for path in left] == [images.missing_list]
    assert len(left[0].read_text().splitlines()) == 101


@pytest.mark.parametrize("if_exists", ["replace", "revision"])
def test_deliver_cleared_after_success_finds_its_file_or_says_what_to_clear(tmp_path: Path, if_exists: str) -> None:
    runs = StagedRuns(tmp_path, if_exists=if_exists)
    runs.whole(OLD)
    plan = plan_of(runs.export)
    transformed = stage(runs.staging, plan, tmp_path, NEW, [ONE])
    site = runs.deliver(plan, transformed)
    clean_up(plan, make_receipt(plan, "", [site], NOW), runs.staging)
    again = deliver_site(plan, transformed, runs.target, runs.staging)
    assert (again.outcome, again.uri) == ("unchanged", site.uri)
    Path(site.uri.removeprefix("file://")).write_bytes(b"")
    with pytest.raises(StagedFileGone, match="clear the run's `prepare` task"):
        deliver_site(plan, transformed, runs.target, runs.staging)
    with pytest.raises(StagedFileGone, match="clear the run's `prepare` task"):
        copy_site_images(plan, transformed, runs.images, "{input_id}", runs.target, runs.staging)


def test_a_fault_while_cleaning_fails_no_delivered_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(LocalStore):
        async def delete(self, key: str) -> None:
            raise TargetUnavailable("staging: connection reset")

    runs = StagedRuns(tmp_path)
    runs.staging = Faulty(tmp_path / "staging")
    assert runs.whole(OLD).sites[0].outcome == "created"
    assert "acme: staging is not cleaned now, the nightly maintenance will: staging: connection reset" in caplog.text
