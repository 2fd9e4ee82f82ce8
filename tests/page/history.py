"""Puts exports, runs and receipts into Airflow's tables as Airflow would."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.types import DagRunType
from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from data_export.alerts.watch import Report
from data_export.config.models import dag_id, name_of
from data_export.lateness import Due
from data_export.receipt import ImagesCopied, Receipt, SiteReceipt
from data_export.window import ExportWindow
from data_export_airflow.dags.service_dags import WATCH_DAG, WATCH_TASK

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
FILE = """\
site_id: [{site}]
interval: {interval}
start_date: {start}
{more}connector_type: cloud_storage
connector_config:
  storage_uri: gs://customer-bucket/{name}/
  export_images: true
"""
BUNDLE = "dags-folder"
_FOLDER = Path(__file__).parents[2] / "dags"
#: What the service's own DAGs follow.
_SETTINGS = r"AIRFLOW_|DATA_EXPORT_(?!CUSTOMERS_DIR)"
_STORED = ("dag", "dag_tag", "dag_version", "dag_code", "serialized_dag")
_service_dags: dict[frozenset[tuple[str, str]], list[tuple[Table, list[dict[str, Any]]]]] = {}


def _receipt(
    name: str,
    window: ExportWindow,
    orders: int,
    /,
    images_missing: int = 0,
    images_kept: int = 0,
    refused: tuple[str, ...] = (),
    **site: Any,
) -> Receipt:
    missing = [f"image-{number}.jpg" for number in range(min(images_missing, 100))]
    images = ImagesCopied(
        site_id=SITE,
        copied=orders * 2,
        kept=images_kept,
        missing_at_source=images_missing,
        missing=missing,
        missing_list=f"gs://customer-bucket/{SITE}/missing/{window.stamp}.txt" if images_missing > 100 else None,
        bytes=orders * 50_000,
    )
    part = {
        "site_id": SITE,
        "work_orders": orders,
        "quarantined": 0,
        "bytes": orders * 1000,
        "sha256": "ab" * 32,
        "uri": f"gs://customer-bucket/{SITE}/data/work-orders-timeline/{window.start:%Y-%m-%d_%H:%M:%S}.json",
        "outcome": "created",
        "images": images,
    }
    return Receipt(
        export=name,
        export_type="work-orders-timeline",
        window=window.to_dict(),
        connector="cloud_storage",
        target="gs://customer-bucket/",
        config_hash="0" * 64,
        sites=[SiteReceipt.model_validate(part | site)],
        delivered_at=window.end.isoformat(),
        refused_recipients=list(refused),
    )


class History:
    """Everything is committed, so that other sessions see it."""

    def __init__(self, session: Session, customers: Path) -> None:
        self.session, self.customers = session, customers

    def export(self, name: str, interval: str = "daily", start: str = "2025-01-01", **more: str) -> str:
        """Adds a customer file and has Airflow store its DAG, unpaused; returns the dag_id."""
        (dag,) = self.exports(name, interval=interval, start=start, **more)
        return dag

    def exports(self, *names: str, **settings: str) -> tuple[str, ...]:
        """As `export` of each, which differ by their names alone, at once."""
        for name in names:
            self.write(name, **settings)
        self.parse()
        return tuple(map(dag_id, names))

    def write(self, name: str, interval: str = "daily", start: str = "2025-01-01", **more: str) -> None:
        lines = "".join(f"{key}: {value}\n" for key, value in more.items())
        text = FILE.format(site=SITE, interval=interval, start=start, name=name, more=lines)
        (self.customers / f"{name}.yaml").write_text(text)

    def parse(self) -> None:
        """What the dag-processor does with the customer files as they are now; and unpauses all DAGs.

        The service's own DAGs, which follow the settings alone, are parsed once, and then stored as that stored them.
        """
        self.session.expire_all()  # Airflow's sessions keep what they loaded, the dag-processor begins with a new one
        self.bundles()
        settings = frozenset(item for item in os.environ.items() if re.match(_SETTINGS, item[0]))
        if settings not in _service_dags:
            self._sync(*sorted(_FOLDER.glob("*.py")))
            _service_dags[settings] = list(self._of_the_service())
        else:
            if self.session.get(DagModel, WATCH_DAG) is None:
                for table, rows in _service_dags[settings]:
                    self.session.execute(table.insert(), rows)
            self._sync(*(_FOLDER / name for name in ("config_errors.py", "customer_exports.py")))
        self.unpause()

    def _sync(self, *files: Path) -> None:
        bag = DagBag(_FOLDER, bundle_path=_FOLDER, bundle_name=BUNDLE, collect_dags=False)
        for file in files:
            bag.process_file(str(file))
        sync_bag_to_db(bag, BUNDLE, None, session=self.session)

    def _of_the_service(self) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
        """By table what Airflow has stored of the service's own DAGs."""
        for table in map(Base.metadata.tables.__getitem__, _STORED):
            wanted = table.select().where(table.c.dag_id.not_like(r"data\_export\_\_%", escape="\\"))
            yield table, [dict(row) for row in self.session.execute(wanted).mappings()]

    def bundles(self) -> None:
        DagBundlesManager().sync_bundles_to_db(session=self.session)
        self.session.commit()

    def unpause(self) -> None:
        for dag in self.session.scalars(select(DagModel)):
            dag.is_paused = False
        self.session.commit()

    def next_window(self, dag: str, start: datetime, end: datetime) -> None:
        """What the scheduler would create next, five minutes after its end."""
        row = self.session.get_one(DagModel, dag)
        row.next_dagrun_data_interval_start, row.next_dagrun_data_interval_end = start, end
        row.next_dagrun_create_after = end + timedelta(minutes=5)
        self.session.commit()

    def run(self, dag: str, start: datetime, end: datetime, state: str = "success", **more: Any) -> DagRun:
        """A run of the schedule for a window, queued five minutes after its end; with what it delivered: `orders`."""
        began = more.pop("began", end + timedelta(minutes=5))
        orders, sums, logical_date = more.pop("orders", 7), more.pop("sums", {}), more.pop("logical_date", start)
        run = DagRun(
            dag_id=dag,
            run_id=more.pop("run_id", f"scheduled__{start.isoformat()}"),
            run_type=more.pop("run_type", DagRunType.SCHEDULED),
            state=state,
            logical_date=logical_date,
            data_interval=(start, end) if logical_date else None,
            run_after=end,
            queued_at=began,
            start_date=None if state == "queued" else began,
            conf=more.pop("conf", {}),
        )
        assert not more, f"no such argument: {more}"
        run.end_date = began + timedelta(seconds=30) if state in ("success", "failed") else None
        self.session.add(run)
        self.session.commit()
        if state == "success":
            self.deliver(run, start, end, orders, **sums)
        return run

    def look(
        self,
        at: datetime,
        late: Mapping[str, Sequence[Due]] = MappingProxyType({}),
        following: datetime | None = None,
        **more: Any,
    ) -> None:
        """A look of the watch at some time, and its report: by export the late windows; or another `value`."""
        report = Report.of(at, following or at + timedelta(minutes=15), late, more.pop("unknown", ()))
        value = more.pop("value", report.to_dict())
        run = DagRun(
            dag_id=WATCH_DAG,
            run_id=f"look__{uuid4()}",
            run_type=DagRunType.SCHEDULED,
            state=more.pop("state", "success"),
            logical_date=more.pop("logical_date", at),
            run_after=at,
            queued_at=at,
            start_date=at,
            conf={},
        )
        assert not more, f"no such argument: {more}"
        run.end_date = at + timedelta(seconds=5)
        self.session.add(run)
        self.session.commit()
        self.result(run, WATCH_TASK, XCOM_RETURN_KEY, value, map_index=-1, state="success")

    def backfill(self, dag: str, first: datetime, last: datetime, runs: list[DagRun]) -> int:
        """Of the windows that start at `first` up to and including `last`; Airflow has not noticed that it is over."""
        made = self.session.execute(
            Backfill.__table__.insert().values(  # type: ignore[attr-defined]  # its class asks the DAG for limits
                dag_id=dag, from_date=first, to_date=last, max_active_runs=3, created_at=datetime.now(UTC),
                updated_at=datetime.now(UTC), is_paused=False, reprocess_behavior="none", dag_run_conf={},
            )
        ).inserted_primary_key[0]  # fmt: skip
        for number, run in enumerate(runs, 1):
            run.backfill_id = made
            self.session.add(BackfillDagRun(backfill_id=made, dag_run_id=run.id, sort_ordinal=number))
        self.session.commit()
        return int(made)

    def deliver(self, run: DagRun, start: datetime, end: datetime, orders: int = 7, **sums: Any) -> AssetEvent:
        """The event of the task `close`, with its receipt; `sums` are further totals, `site` more of its one site."""
        receipt = _receipt(name_of(run.dag_id) or "", ExportWindow(start, end), orders, **sums)
        extra = {"summary": receipt.summary(), "totals": receipt.totals(), **receipt.to_dict()}
        assert run.start_date is not None
        event = AssetEvent(
            asset_id=self._asset(run.dag_id),
            source_task_id="close",
            source_dag_id=run.dag_id,
            source_run_id=run.run_id,
            source_map_index=-1,
            timestamp=run.start_date + timedelta(seconds=20),
            extra=extra,
        )
        self.session.add(event)
        self.session.commit()
        return event

    def result(
        self, run: DagRun, task_id: str, key: str, value: Any, map_index: int = 0, state: str = "failed"
    ) -> None:
        """A task instance and what it pushed."""
        version = self.session.scalar(select(DagVersion.id).where(DagVersion.dag_id == run.dag_id))
        assert version is not None
        self.session.execute(
            TaskInstance.__table__.insert().values(  # type: ignore[attr-defined]
                id=UUID(int=hash((run.dag_id, run.run_id, task_id, map_index)) % 2**128),
                task_id=task_id,
                dag_id=run.dag_id,
                run_id=run.run_id,
                map_index=map_index,
                state=state,
                pool="default_pool",
                pool_slots=1,
                try_number=1,
                dag_version_id=version,
            )
        )
        if value is not None:
            row = XComModel(
                dag_run_id=run.id,
                task_id=task_id,
                map_index=map_index,
                key=key,
                dag_id=run.dag_id,
                run_id=run.run_id,
                value=value,
                timestamp=run.end_date or datetime.now(UTC),
            )
            self.session.add(row)
        self.session.commit()

    def retry(self, run: DagRun, task_id: str, reason: str | None, number: int, seconds: float, at: datetime) -> None:
        """A try of a task has failed `at` some time, and is made again after so many seconds."""
        self.result(run, task_id, "failure", None, state="up_for_retry")
        ti = self.session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).one()
        ti.try_number, ti.max_tries, ti.end_date = number, 8, at
        ti.retry_reason, ti.retry_delay_override = reason, seconds
        self.session.commit()

    def _asset(self, dag: str) -> int:
        name = "data_export/" + dag.removeprefix("data_export__").replace("_", "-")
        found = self.session.scalar(select(AssetModel.id).where(AssetModel.name == name))
        assert found is not None, f"{dag}: the dag-processor stored no asset {name}"
        return found
