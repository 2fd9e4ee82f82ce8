"""Broken customer files as an import error of a DAG file of its own, so that no customer's DAG is hidden by it."""

from airflow.sdk import DAG, get_parsing_context
from airflow.sdk.exceptions import AirflowException

from data_export.config.load import load_customers


class _BrokenFiles(DAG):
    """Never becomes a DAG: Airflow keeps the message of its validation as the file's import error."""

    def validate(self) -> None:
        raise AirflowException(self.description)


def sentinel_dags() -> dict[str, DAG]:
    """One DAG that fails its validation with all problems, one per line; none where every file is right."""
    if get_parsing_context().dag_id is not None:
        return {}
    problems = [str(problem) for problem in load_customers().problems if problem.is_error]
    if not problems:
        return {}
    message = "Customer files with problems (the other exports run):\n" + "\n".join(problems)
    return {"data_export_config_errors": _BrokenFiles("data_export_config_errors", schedule=None, description=message)}
