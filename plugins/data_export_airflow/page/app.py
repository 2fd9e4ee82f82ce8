"""The page's API. Every route needs Airflow's own user, and shows what that user may read."""

import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime
from starlette.staticfiles import StaticFiles

from data_export.config.models import name_of
from data_export.errors import ConfigError
from data_export.handover.render import html, markdown, style_source
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.commands.handover import sheet_of
from data_export_airflow.dags.service_dags import CHECK_DAG
from data_export_airflow.metadata import failures as faults
from data_export_airflow.metadata import receipts
from data_export_airflow.metadata.access import (
    ReadableDep,
    RightsDep,
    RightsOnOneDep,
    forbid_unless,
    may_read_audits,
    may_read_checks,
    may_read_receipts,
    may_run,
    may_see_import_errors,
    of_an_export,
)
from data_export_airflow.metadata.backfills import under_way
from data_export_airflow.metadata.exports import Volume, totals
from data_export_airflow.metadata.late import UNREADABLE
from data_export_airflow.metadata.overview import with_delivery
from data_export_airflow.page import remote
from data_export_airflow.page.answers import OverviewDep, deliveries, failures, overview, volume
from data_export_airflow.page.detail import detail, files_of
from data_export_airflow.page.search import Asked, SortKey, listing, permitted

STATIC = FilePath(__file__).parent / "static"
_LATE_LISTED = 50

#: The page loads nothing but its own files, and only Airflow frames it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked again each time; answered without content where nothing changed
}

log = logging.getLogger(__name__)
router = APIRouter(prefix="/api")
#: What the calendar may be asked for: years that Python can count from and to, in every zone.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_MOST_EVENTS = 2**31 - 1  # an id of Airflow's is no larger


@router.get("/exports")
def list_exports(
    readable: ReadableDep,
    rights: RightsDep,
    found: OverviewDep,
    session: SessionDep,
    search: Annotated[str, Query(max_length=100)] = "",
    state: str = "",
    connector: str = "",
    sort: SortKey = "name",
    order: Literal["asc", "desc"] = "asc",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """One page of the exports that the user may read."""
    as_of, rows, late_unknown = found
    mine = [permitted(row, rights) for row in rows if row.dag_id in readable]
    asked = Asked(search, state, connector, sort, order == "desc", offset, limit)
    noted = {"as_of": as_of, "late_unknown": late_unknown if rights.runs else None}
    return {**noted, **listing(mine, asked, lambda rows: deliveries(session, rows if rights.receipts else []))}


@router.get("/problems")
def list_problems(user: GetUserDep, readable: ReadableDep, session: SessionDep) -> dict[str, Any]:
    """The problems of broken customer files; none for users who may not see import errors."""
    if not may_see_import_errors(user):
        return {"problems": []}
    found = [problem for problem in faults.problems(session) if problem.dag_id is None or problem.dag_id in readable]
    return {"problems": [asdict(problem) for problem in found]}


@router.get("/exports/{dag_id}", dependencies=of_an_export)
def one_export(
    dag_id: str,
    user: GetUserDep,
    rights: RightsOnOneDep,
    found: OverviewDep,
    session: SessionDep,
    before: Annotated[AwareDatetime | None, Query(ge=_FIRST, lt=_LAST)] = None,
) -> dict[str, Any]:
    """One export and a period of its windows; receipts and reasons for users who may read these."""
    as_of, rows, late_unknown = found
    row = next((row for row in rows if row.dag_id == dag_id), None)
    shown = detail(session, dag_id, row, datetime.now(UTC), before, rights) if row else None
    if row is None or shown is None:
        raise HTTPException(404, f"{dag_id} is no data export that Airflow knows")
    export = with_delivery(permitted(row, rights), deliveries(session, [row] if rights.receipts else []))
    noted = {"as_of": as_of, "late_unknown": late_unknown or (UNREADABLE if row.late_windows is None else None)}
    return {**noted, "export": export, "may_backfill": may_run(user, dag_id), **shown}


@router.get("/exports/{dag_id}/files/{event_id}", dependencies=[*of_an_export, may_read_receipts])
def files_of_one(
    dag_id: str, event_id: Annotated[int, Path(ge=0, le=_MOST_EVENTS)], session: SessionDep
) -> dict[str, Any]:
    """Where the files of a delivery are."""
    found = receipts.receipt(session, dag_id, event_id)
    if found is None:
        raise HTTPException(404, f"{dag_id} has no receipt {event_id}")
    return files_of(found)


@router.get("/exports/{dag_id}/backfills", dependencies=of_an_export)
def backfills_under_way(dag_id: str, session: SessionDep) -> dict[str, Any]:
    """The backfills of an export that have runs left."""
    return {"backfills": under_way(session, dag_id)}


@router.get("/exports/{dag_id}/check", dependencies=[*of_an_export, *may_read_checks])
def one_check(dag_id: str, user: GetUserDep, session: SessionDep) -> dict[str, Any]:
    """What the last check of an export found."""
    name, may_check = name_of(dag_id) or "", faults.can_check(session) and may_run(user, CHECK_DAG)
    return {"dag_id": CHECK_DAG, "export": name, "may_check": may_check, **faults.last_check(session, name)}


@router.get("/exports/{dag_id}/audit", dependencies=[*of_an_export, *may_read_audits])
def one_audit(dag_id: str, user: GetUserDep, session: SessionDep) -> dict[str, Any]:
    """What the last audit of an export found."""
    name, may = name_of(dag_id) or "", may_run(user, AUDIT_DAG)
    found = faults.last_audit(session, name)
    words = found and faults.audit_in_words(found)
    return {"dag_id": AUDIT_DAG, "export": name, "may": may, "result": found, "words": words}


@router.get("/exports/{dag_id}/sheet", dependencies=of_an_export)
def hand_over(dag_id: str, format: Literal["html", "markdown"] = "html") -> Response:
    """What the command `sheet` writes: one page without scripts, with its own style alone; or Markdown, to be saved."""
    name = name_of(dag_id)
    if name is None:
        raise HTTPException(404, f"{dag_id} is no data export")
    try:
        sheet = sheet_of(name, datetime.now(UTC))
    except ConfigError:  # whose words are for those who may see import errors
        fix = f"`python -m data_export_airflow sheet {name}` says what to change"
        raise HTTPException(409, f"The customer file of {name} or the platform's settings have errors: {fix}") from None
    if format == "markdown":
        saved = {"Content-Disposition": f'attachment; filename="{name}.md"'}
        return Response(markdown(sheet), media_type="text/markdown", headers=saved)
    policy = (
        f"default-src 'none'; style-src {style_source()}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return Response(html(sheet), media_type="text/html", headers={"Content-Security-Policy": policy})


@router.get("/fleet")
def fleet(readable: ReadableDep, rights: RightsDep, found: OverviewDep) -> dict[str, Any]:
    """Late now, of the exports that the user may read."""
    forbid_unless(rights.runs, "DAG runs")
    as_of, rows, late_unknown = found
    mine = [permitted(row, rights) for row in rows if row.dag_id in readable]
    late = sorted((row for row in mine if row.late_seconds is not None), key=lambda row: -(row.late_seconds or 0))
    retrying = [row for row in mine if row.retry is not None]
    return {
        "as_of": as_of,
        "late_unknown": late_unknown,
        "exports": len(mine),
        "late": [with_delivery(row, {}) for row in late[:_LATE_LISTED]],
        "late_count": len(late),
        "retrying": [with_delivery(row, {}) for row in retrying[:_LATE_LISTED]],
        "retrying_count": len(retrying),
    }


@router.get("/failures")
def failures_by_reason(
    readable: ReadableDep, rights: RightsDep, found: Annotated[list[faults.Failure], Depends(failures)]
) -> dict[str, Any]:
    """Failed within a day, of the exports that the user may read."""
    forbid_unless(rights.runs and rights.reasons, "DAG runs, task instances and XComs")
    return {"failures": faults.by_reason([failure for failure in found if failure.dag_id in readable])}


@router.get("/volume")
def delivered_per_day(
    readable: ReadableDep, rights: RightsDep, found: Annotated[dict[date, Volume], Depends(volume)]
) -> dict[str, Any]:
    """What each of the last days delivered, of the exports that the user may read."""
    forbid_unless(rights.receipts, "assets")
    return {"days": [{"day": day, **totals(delivered, readable)} for day, delivered in found.items()]}


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Adds what keeps text of customer files and errors from ever becoming a script, whatever the page does with it."""
    answer: Response
    try:
        answer = await call_next(request)
    except TimeoutError:
        answer = JSONResponse({"detail": "Airflow's database is too slow to answer now: try again in a minute."}, 503)
    except Exception:
        log.exception("%s cannot be answered", request.url.path)
        answer = JSONResponse({"detail": "The page cannot answer this: the API server's log says why."}, 500)
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _prepare() -> None:
    with suppress(Exception):  # which is in the log
        for cached in (overview, failures, volume):  # one after the other: the list is asked for first
            cached.refresh().result()


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    """With the API server's own start, so that the first who looks does not wait for an answer to be made."""
    threading.Thread(target=_prepare, daemon=True).start()
    yield


app = FastAPI(title="Data exports", openapi_url=None, lifespan=_lifespan)
app.include_router(router)
app.include_router(remote.router)
app.middleware("http")(_guarded)
app.mount("/", StaticFiles(directory=STATIC, html=True))
