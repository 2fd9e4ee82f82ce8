"""What commands ask from a machine that does not reach Airflow's database, see `connections.airflow_api`."""

from typing import Any

from fastapi import APIRouter, HTTPException

from data_export.errors import ConfigError
from data_export.pipeline.verify import DeliveredFile
from data_export_airflow.metadata.access import (
    ALL,
    AuditsDep,
    ImportErrorsDep,
    ReadableDep,
    RightsDep,
    forbid_unless,
    may_read_receipts,
    of_an_export,
)
from data_export_airflow.metadata.airflow_database import airflow_session
from data_export_airflow.metadata.backfills import has_scheduler
from data_export_airflow.metadata.overview import standing
from data_export_airflow.metadata.receipts import files_of_windows
from data_export_airflow.metadata.windows import schedule
from data_export_airflow.page.answers import OverviewDep, deliveries

router = APIRouter(prefix="/api")
_FILES = 10_000


@router.get("/status")
def status(
    readable: ReadableDep,
    rights: RightsDep,
    with_broken: ImportErrorsDep,
    with_audits: AuditsDep,
    found: OverviewDep,
) -> dict[str, Any]:
    """How the exports stand that the user may read, each with its reason; broken files for who may see import errors,
    what audits found for who may read these.

    Half of it would be no answer for a cron job, so it takes every right that the list on the page asks for.
    """
    forbid_unless(rights == ALL, "DAG runs, task instances, XComs and assets")
    as_of, rows, late_unknown = found
    mine = [row for row in rows if row.dag_id in readable]
    others = {row.dag_id for row in rows} - readable
    with airflow_session() as session:
        shown = {"with_broken": with_broken, "with_audits": with_audits}
        exports = standing(session, mine, deliveries(session, mine), others, **shown)
        is_alive = has_scheduler(session)
    return {"as_of": as_of, "scheduler": is_alive, "late_unknown": late_unknown, "exports": exports}


@router.get("/exports/{dag_id}/delivered", dependencies=[*of_an_export, may_read_receipts])
def delivered(
    dag_id: str, start: str | None = None, end: str | None = None, window: str | None = None, paged: bool = False
) -> dict[str, Any]:
    """The files of an export's windows, as `files` lists them; if `paged`, with `next`: where to go on from, or null.

    An export of a thousand sites has a million files in three years, and the API server answers others too. An earlier
    version of the commands, which does not know of pages, is given all.
    """
    given, following = list[DeliveredFile](), None
    with airflow_session() as session:
        plan = schedule(session, dag_id)
        if plan is None:
            raise HTTPException(404, f"{dag_id} is no data export that Airflow knows")
        try:
            files = files_of_windows(session, dag_id, plan.timezone.key, start, end, window)
        except ConfigError as error:
            raise HTTPException(422, str(error)) from None
        for file in files:
            if paged and len(given) >= _FILES and file.start != given[-1].start:  # windows with one start stay together
                following = file.start
                break
            given.append(file)
    return {"files": [file.to_dict() for file in given], "next": following}
