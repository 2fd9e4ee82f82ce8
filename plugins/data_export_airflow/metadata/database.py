"""What is wrong with Airflow's own database, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.configuration import conf
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError

from data_export.errors import ConfigError

_SETTING = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@contextmanager
def airflow_database() -> Iterator[None]:
    """For commands that ask it: a database that does not answer, or is none of Airflow's, is no fault of ours.

    Raises:
        ConfigError: in place of what SQLAlchemy says over a page.
    """
    try:
        yield
    except DBAPIError as error:
        place = make_url(conf.get_mandatory_value("database", "sql_alchemy_conn")).render_as_string(hide_password=True)
        said = next(iter(str(error.orig).splitlines()), type(error).__name__)
        fix = f"start it, or correct {_SETTING} (beside `make up`: `. .state/airflow.env`)"
        if isinstance(error, ProgrammingError) or "no such table" in said:
            fix = f"`airflow db migrate` makes its tables; if it is the wrong one, correct {_SETTING}"
        raise ConfigError(f"Airflow's database {place} cannot be used ({said}): {fix}") from None
