"""Broken customer files as an import error of a DAG file of its own, so that no customer's DAG is hidden by it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context
from airflow.sdk.exceptions import AirflowException

from data_export.config.load import load_customers
from data_export.config.platform import customers_dir
from data_export.config.problems.problems import ConfigProblem, first_of_many
from data_export_airflow.dags.factory import faults


class _BrokenFiles(DAG):
    """Never becomes a DAG: Airflow keeps the message of its validation as the file's import error."""

    def validate(self) -> None:
        raise AirflowException(self.description)


def broken_file(problems: Sequence[str]) -> dict[str, DAG]:
    """The same for one customer file, in a DAG file of its name that the bundle wrote."""
    return _sentinel("Customer file with problems (the other exports run):", problems)


def _sentinel(heading: str, lines: Iterable[str]) -> dict[str, DAG]:
    message = "\n".join([heading, *lines])
    return {"data_export_config_errors": _BrokenFiles("data_export_config_errors", schedule=None, description=message)}


def sentinel_dags(file: str) -> dict[str, DAG]:
    """One DAG that fails its validation with the problems, one per line; none where every file is right.

    Args:
        file: the DAG file that asks. Files with a DAG file beside it that shows their problems are left to that.
    """
    if get_parsing_context().dag_id is not None:
        return {}
    loaded, folder = load_customers(), customers_dir()
    beside = {path.name for path in Path(file).parent.iterdir()}  # not Path.exists: it raises where a name is too long
    problems = [
        *(each for each in loaded.problems if each.is_error and f"{each.path.name}.py" not in beside),
        *(ConfigProblem(folder / f"{name}.yaml", None, None, why) for name, why in faults(loaded.exports).items()),
    ]
    if not problems:
        return {}
    return _sentinel("Customer files with problems (the other exports run):", map(str, first_of_many(problems, folder)))
