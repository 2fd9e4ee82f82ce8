"""The DAG that checks exports from where they run: the workers' network, keys and connections."""

from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from data_export.config.fields import NAME
from data_export.config.load import customer_names
from data_export.errors import CheckFailed
from data_export_airflow.operators.check import CheckExportOperator, checked_name

CHECK_DAG, CHECK_TASK = "data_export_check", "check"
_MOST_SHOWN = 500  # more make a list that nobody reads, stored anew whenever a file comes or goes
_MOST = 1024  # Airflow's core.max_map_length: more would fail without a word of why
_DOC = """Tries everything that an export needs (source, staging, images, target or mail), and leaves nothing behind.

*Trigger* asks for the export's name; without one all are checked, one task each. The log of `check` has the table."""


def build_check_dag() -> DAG:
    """`list_exports`, then one `check` for each; a check that finds a fault fails with its first fix."""
    with DAG(
        CHECK_DAG,
        schedule=None,
        is_paused_upon_creation=False,  # it runs only when somebody asks; paused, it would leave them waiting
        tags={"data-export", "check"},
        doc_md=_DOC,
        params={"export": _which_export()},
    ) as dag:
        exports: Any = task(task_id="list_exports")(_list_exports)()
        CheckExportOperator.partial(task_id=CHECK_TASK).expand(export=exports)
    return dag


def _which_export() -> Param:
    """A name to type, with those of all files to choose from; the DAG changes only when a file comes or goes."""
    names = customer_names()
    choice: dict[str, Any] = {"examples": names} if 0 < len(names) <= _MOST_SHOWN else {}
    pattern = f"^({NAME.pattern})?$"  # else Airflow refuses the trigger
    return Param(None, type=["null", "string"], pattern=pattern, description="name of the export; empty: all", **choice)


def _list_exports() -> list[str]:
    from data_export.config.load import load_customers

    wanted = get_current_context()["params"]["export"]
    names = [checked_name(wanted)] if wanted else sorted(load_customers().exports)
    if len(names) > _MOST:
        raise CheckFailed(f"{len(names)} exports are more than one run can check ({_MOST}): name one of them")
    return names
