"""Has Airflow make the backfill that was forecast."""

from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version
from airflow.models.backfill import AlreadyRunningBackfill, ReprocessBehavior, _create_backfill
from airflow.sdk.exceptions import AirflowException
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from pendulum import instance

from data_export.errors import ConfigError, LimitExceeded
from data_export_airflow.backfill.dry_run import Forecast


def create(made: Forecast) -> int:
    """Has Airflow make the runs; returns the id of its backfill.

    Raises:
        LimitExceeded: another backfill of the export is under way.
        ConfigError: Airflow refuses, in its own words.
    """
    if made.under_way:
        raise _busy(made, made.under_way)
    with create_session() as session:
        latest = resolve_run_on_latest_version(None, made.dag_id, session, fallback=True)
    try:
        backfill = _create_backfill(
            dag_id=made.dag_id,
            from_date=instance(made.first.start),
            to_date=instance(made.last.start),  # inclusive: the last window's start
            max_active_runs=made.max_active_runs,
            reverse=made.asked.newest_first,
            dag_run_conf=None,
            triggering_user_name=getuser(),
            reprocess_behavior=ReprocessBehavior(made.asked.reprocess),
            run_on_latest_version=latest,
        )
    except AlreadyRunningBackfill:  # somebody else's, since we looked
        raise _busy(made, "another backfill") from None
    except (AirflowException, ValueError) as error:
        raise ConfigError(f"{made.asked.name}: Airflow refuses the backfill: {error}") from None
    return backfill.id


def _busy(made: Forecast, other: str) -> LimitExceeded:
    return LimitExceeded(
        f"{made.asked.name}: {other} is under way, and Airflow has one per DAG at a time: wait for its end, which "
        "Airflow notices up to half a minute late, or cancel it"
    )
