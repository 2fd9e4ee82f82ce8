"""Broken customer files as an import error of a DAG file of its own, so that no customer's DAG is hidden by it."""

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


def sentinel_dags() -> dict[str, DAG]:
    """One DAG that fails its validation with the problems, one per line; none where every file is right."""
    if get_parsing_context().dag_id is not None:
        return {}
    loaded, folder = load_customers(), customers_dir()
    problems = [
        *(problem for problem in loaded.problems if problem.is_error),
        *(ConfigProblem(folder / f"{name}.yaml", None, None, why) for name, why in faults(loaded.exports).items()),
    ]
    if not problems:
        return {}
    lines = map(str, first_of_many(problems, folder))
    message = "Customer files with problems (the other exports run):\n" + "\n".join(lines)
    return {"data_export_config_errors": _BrokenFiles("data_export_config_errors", schedule=None, description=message)}
