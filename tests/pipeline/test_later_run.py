"""A try that has waited for its target for hours does not put back what a later run of the window has delivered since;
and no run is stopped where that is not known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_export import layout
from data_export.content import Content
from data_export.delivery.base import StoredObject
from data_export.delivery.local.store import LocalStore
from data_export.pipeline.receipts import site_receipt
from data_export.pipeline.site import deliver_site
from data_export.plan import ExportPlan
from data_export.receipt import Delivered, Transformed
from tests.pipeline.staged_run import SITE, WINDOW, export_to, plan_of, stage
from tests.unit.memory_store import MemoryStore

OLD, NEW = b'{"id":"at two"}\n', b'{"id":"at nine"}\n'
KEY = layout.data_key(SITE, "work-orders-timeline", WINDOW)
R2 = layout.data_key(SITE, "work-orders-timeline", WINDOW, 2)


class Keeping(MemoryStore):
    """Keeps with an object when its run began, as Cloud Storage, S3 and Azure do."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: dict[str, str | None] = {}

    def _put(self, call: str, key: str, content: Content) -> StoredObject:
        self.moments[key] = content.digests.moment
        return super()._put(call, key, content)

    def _stored(self, key: str) -> StoredObject:
        stored = super()._stored(key)
        return replace(stored, digests=replace(stored.digests, moment=self.moments[key]))


class Runs:
    """Runs of one window that have each come as far as `deliver`."""

    def __init__(self, folder: Path, target: MemoryStore, if_exists: str = "replace") -> None:
        self.target, self.staging = target, LocalStore(folder / "staging")
        self._folder, self._export = folder, export_to("cloud_storage", if_exists=if_exists)

    def begin(self, began: datetime, data: bytes, read_after: timedelta) -> tuple[ExportPlan, Transformed]:
        plan = plan_of(self._export).model_copy(update={"created_at": began.isoformat(timespec="seconds")})
        transformed = stage(self.staging, plan, self._folder, data)
        read_at = (began + read_after).isoformat(timespec="seconds")
        return plan, transformed.model_copy(update={"read_at": read_at})

    def deliver(self, run: tuple[ExportPlan, Transformed]) -> Delivered:
        return deliver_site(*run, self.target, self.staging)


TWO, NINE = datetime(2025, 6, 1, 2, tzinfo=UTC), datetime(2025, 6, 1, 9, tzinfo=UTC)
SOON = timedelta(minutes=10)


@pytest.mark.parametrize("data", [OLD, b""], ids=["some", "none"])
@pytest.mark.parametrize("if_exists", ["replace", "revision"])
def test_what_a_later_run_delivered_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, if_exists: str, data: bytes
) -> None:
    runs = Runs(tmp_path, Keeping(), if_exists)
    plan, waiting = runs.begin(TWO, data, SOON)
    assert runs.deliver(runs.begin(NINE, NEW, SOON)).outcome == "created"
    site = site_receipt(waiting, None, runs.deliver((plan, waiting)))
    new = Content.of_bytes(NEW).digests
    assert (site.outcome, site.offered) == ("unchanged", None)
    assert (site.work_orders, site.bytes, site.sha256) == (1, new.size, new.sha256)  # of what is there
    assert runs.target.objects == {KEY: NEW}
    assert "stays: its run began at 2025-06-01T09:00:00+00:00" in caplog.text


def test_keep_keeps_it_and_the_same_data_is_no_fault(tmp_path: Path) -> None:
    runs = Runs(tmp_path, Keeping(), "keep")
    waiting = runs.begin(TWO, OLD, SOON)
    runs.deliver(runs.begin(NINE, NEW, SOON))
    assert runs.deliver(waiting).outcome == "kept"
    assert Runs(tmp_path, runs.target).deliver(runs.begin(TWO, NEW, SOON)).outcome == "unchanged"


@pytest.mark.parametrize("if_exists", ["replace", "revision"])
def test_a_later_run_delivers_over_an_earlier_one(tmp_path: Path, if_exists: str) -> None:
    runs = Runs(tmp_path, Keeping(), if_exists)
    runs.deliver(runs.begin(TWO, OLD, SOON))
    runs.deliver(runs.begin(NINE, NEW, SOON))
    assert runs.target.objects[KEY if if_exists == "replace" else R2] == NEW


def test_a_server_that_writes_anew_what_it_takes_stops_no_retry(tmp_path: Path) -> None:
    runs = Runs(tmp_path, Keeping())
    run = runs.begin(TWO, OLD, SOON)
    runs.deliver(run)
    runs.target.objects[KEY] = OLD + b"scanned\n"
    runs.target.modified[KEY] = NINE
    assert runs.deliver(run).outcome == "replaced"


@pytest.mark.parametrize("data", [OLD, b""], ids=["some", "none"])
def test_data_that_was_read_after_the_other_run_began_is_not_known_to_be_older(tmp_path: Path, data: bytes) -> None:
    runs = Runs(tmp_path, Keeping())
    late = runs.begin(TWO, data, timedelta(hours=8))  # tries of `extract` until ten
    runs.deliver(runs.begin(NINE, NEW, SOON))
    assert runs.deliver(late).outcome == "replaced"


def test_clocks_differ_by_some_minutes(tmp_path: Path) -> None:
    runs = Runs(tmp_path, Keeping())
    run = runs.begin(TWO, OLD, SOON)
    runs.deliver(runs.begin(TWO + SOON + timedelta(minutes=4), NEW, SOON))
    assert runs.deliver(run).outcome == "replaced"


def test_a_clock_that_was_a_year_ahead_does_not_stop_all_runs_for_a_year(tmp_path: Path) -> None:
    runs = Runs(tmp_path, Keeping())
    runs.deliver(runs.begin(datetime.now(UTC) + timedelta(days=365), OLD, SOON))
    assert runs.deliver(runs.begin(NINE, NEW, SOON)).outcome == "replaced"


def test_a_target_that_keeps_no_moment_is_written_to_as_before(tmp_path: Path) -> None:
    runs = Runs(tmp_path, MemoryStore())
    waiting = runs.begin(TWO, OLD, SOON)
    runs.deliver(runs.begin(NINE, NEW, SOON))
    assert runs.deliver(waiting).outcome == "replaced"
