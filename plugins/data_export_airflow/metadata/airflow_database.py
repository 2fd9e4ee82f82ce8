"""Airflow's own database: what is wrong with it, its pools, and its requests to parse."""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from datetime import datetime

from airflow.configuration import conf
from sqlalchemy import func, make_url, select, table
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from data_export.errors import ConfigError

_SETTING = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@contextmanager
def airflow_database() -> Iterator[None]:
    """For commands that ask it: a database that does not answer, or is not Airflow's, is no fault of ours.

    Raises:
        ConfigError: in place of what SQLAlchemy says over a page.
    """
    try:
        yield
    except DBAPIError as error:
        fix = f"start it, or correct {_SETTING} (with `make up`: `. .state/airflow.env`)"
        if isinstance(error, ProgrammingError) or "no such table" in str(error.orig):
            fix = f"`airflow db migrate` makes its tables; if it is the wrong one, correct {_SETTING}"
        place = conf.get_mandatory_value("database", "sql_alchemy_conn")
        raise _unusable("Airflow's database", place, error, fix) from None


def _unusable(what: str, place: str, error: DBAPIError, fix: str) -> ConfigError:
    said = next(iter(str(error.orig).splitlines()), type(error).__name__)
    return ConfigError(f"{what} {make_url(place).render_as_string(hide_password=True)} cannot be used ({said}): {fix}")


@contextmanager
def airflow_session() -> Iterator[Session]:
    """Committed at the end, rolled back by what is raised."""
    from airflow.utils.session import create_session  # late, as below: this module is loaded where nothing is asked

    with create_session() as session:
        yield session


#: The tables of which `clean` says how many rows went: all others belong to these, or are small.
_COUNTED = ("dag_run", "task_instance", "xcom", "log", "asset_event", "job")


def clean(before: datetime) -> dict[str, int]:
    """Removes history from before a moment, as `airflow db clean` does; returns how many rows went, by table.

    The last run of each DAG stays. Rows go in batches, so that no transaction is long.
    """
    from airflow.utils.db_cleanup import run_cleanup

    with airflow_session() as session:
        rows = _rows(session)
        run_cleanup(
            clean_before_timestamp=before,  # type: ignore[arg-type]  # any datetime with a zone will do
            confirm=False,
            skip_archive=True,
            batch_size=10_000,
            error_on_cleanup_failure=True,
            session=session,
        )
        left = _rows(session)
    return {table: rows[table] - left[table] for table in _COUNTED}


def _rows(session: Session) -> dict[str, int]:
    return {name: session.scalar(select(func.count()).select_from(table(name))) or 0 for name in _COUNTED}


def clean_results() -> int | None:
    """Has Celery remove the results of tasks that ended a day ago (its `result_expires`); returns how many went.

    They are in a database of their own, which `clean` does not reach, and the Celery beat that would remove them does
    not run. None where no database has results: other stores forget them by themselves.

    Raises:
        ConfigError: Celery's database cannot be used.
    """
    if not _queued():
        return None
    from airflow.providers.celery.executors.celery_executor_utils import app
    from celery.backends.database import DatabaseBackend  # type: ignore[import-untyped]

    backend = app.backend
    if not (isinstance(backend, DatabaseBackend) and backend.expires):
        return None
    try:
        with backend.ResultSession() as session:
            ended = backend.task_cls.date_done
            expired = int(session.scalar(select(func.count()).where(ended < app.now() - backend.expires)))
        backend.cleanup()
    except DBAPIError as error:
        fix = "start it, or correct AIRFLOW__CELERY__RESULT_BACKEND"
        raise _unusable("Celery's database", backend.url, error, fix) from None
    return expired


def pool_slots() -> dict[str, int]:
    """The slots of every pool, by name.

    Raises:
        RuntimeError: asked on a worker, which may not ask the database.
    """
    from airflow.models.pool import Pool

    return {str(pool.pool): pool.slots for pool in Pool.get_pools()}


def tasks_at_once() -> int:
    """How many tasks this Airflow runs at once, which must be what its workers have slots for."""
    return int(conf.getint("core", "parallelism"))


def queue_limits() -> tuple[float, int] | None:
    """Seconds after which a task that no worker has begun is queued anew, and how often; None without a queue."""
    if not _queued():
        return None
    seconds = conf.getfloat("scheduler", "task_queued_timeout")
    return seconds, int(conf.getint("scheduler", "num_stuck_in_queued_retries"))


def _queued() -> bool:
    """Whether Celery's workers run the tasks."""
    return "Celery" in conf.get_mandatory_value("core", "executor")


def create_pool(name: str, slots: int, description: str) -> bool:
    """Whether the pool was made; one that is there stays as it is, with the slots that somebody may have changed."""
    from airflow.models.pool import Pool

    if Pool.get_pool(name) is not None:
        return False
    Pool.create_or_update_pool(name, slots=slots, description=description, include_deferred=False)
    return True


def request_parsing(bundle: str, files: Set[str]) -> None:
    """Asks the dag-processor to parse these files of a bundle next, as the button in the UI does."""
    from airflow.models.dagbag import DagPriorityParsingRequest

    requests = DagPriorityParsingRequest
    with airflow_session() as session:
        there = select(requests.relative_fileloc).where(requests.bundle_name == bundle)
        for file in sorted(files - set(session.scalars(there))):
            session.add(requests(bundle, file))
