"""What the signed-in user may see: the page asks Airflow's auth manager for the rights that Airflow's API asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException

from data_export.config.models import name_of
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.dags.service_dags import CHECK_DAG


@dataclass(frozen=True, slots=True)
class Rights:
    """What the user may read of an export's history, apart from its DAG.

    `runs` as for `dags/{dag_id}/dagRuns`; `receipts`, which are asset events, as for `assets/events`; `reasons`, why
    which task failed, as for its `xcomEntries`.
    """

    runs: bool
    receipts: bool
    reasons: bool


ALL = Rights(runs=True, receipts=True, reasons=True)


def _readable(user: GetUserDep) -> set[str]:
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def _on_dag(user: BaseUser, dag_id: str | None, method: Literal["GET", "POST"] = "GET") -> Callable[..., bool]:
    """Says what of a DAG, or of all, the user may read; or do, by another method."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id) if dag_id else None)
    ask = partial(get_auth_manager().is_authorized_dag, method=method, details=details, user=user)
    return lambda entity: ask(access_entity=entity)


def _rights(user: GetUserDep, dag_id: str | None = None) -> Rights:
    may = _on_dag(user, dag_id)
    return Rights(
        runs=may(DagAccessEntity.RUN),
        receipts=get_auth_manager().is_authorized_asset(method="GET", user=user),
        reasons=may(DagAccessEntity.TASK_INSTANCE) and may(DagAccessEntity.XCOM),
    )


def _rights_on_all(user: GetUserDep) -> Rights:
    return _rights(user)


def _rights_on_one(user: GetUserDep, dag_id: str) -> Rights:
    return _rights(user, dag_id)


#: The dag_ids the user may read; 401 without a user.
ReadableDep = Annotated[set[str], Depends(_readable)]
#: On all of those, asked once, as Airflow's own lists of many DAGs (`dags/~/dagRuns`) ask.
RightsDep = Annotated[Rights, Depends(_rights_on_all)]
#: On the DAG of the path.
RightsOnOneDep = Annotated[Rights, Depends(_rights_on_one)]


def _is_export(_: GetUserDep, dag_id: str) -> None:
    """Before the database is asked for it: text with a NUL, which PostgreSQL refuses, is no name either."""
    if name_of(dag_id) is None:
        raise HTTPException(404, f"{dag_id!r} is no data export")


#: For routes of one export: 404 where the path names none, 403 where its runs are not for this user.
of_an_export = [Depends(_is_export), Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
may_read_receipts = Depends(requires_access_asset("GET"))
may_read_checks, may_read_audits = (
    [Depends(requires_access_dag("GET", entity, dag)) for entity in (DagAccessEntity.RUN, DagAccessEntity.XCOM)]
    for dag in (CHECK_DAG, AUDIT_DAG)
)


def _reads_audits(user: GetUserDep) -> bool:
    return all(map(_on_dag(user, AUDIT_DAG), (DagAccessEntity.RUN, DagAccessEntity.XCOM)))


#: As `may_read_audits`, for what tells more than audits.
AuditsDep = Annotated[bool, Depends(_reads_audits)]


def forbid_unless(may: bool, what: str) -> None:
    if not may:
        raise HTTPException(403, f"It takes the right to read {what}.")


def may_see_import_errors(user: BaseUser) -> bool:
    return get_auth_manager().is_authorized_view(access_view=AccessView.IMPORT_ERRORS, user=user)


def _sees_import_errors(user: GetUserDep) -> bool:
    return may_see_import_errors(user)


#: Whether the user may see what is wrong with customer files.
ImportErrorsDep = Annotated[bool, Depends(_sees_import_errors)]


def may_run(user: BaseUser, dag_id: str) -> bool:
    """The right that `POST /api/v2/backfills` and a trigger ask for."""
    return _on_dag(user, dag_id, "POST")(DagAccessEntity.RUN)
