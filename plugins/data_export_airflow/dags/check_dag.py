"""The DAG that checks exports from where they run: the workers' network, keys and connections."""

import logging
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from data_export.config.fields import NAME, quoted
from data_export.config.load import customer_names
from data_export.errors import CheckFailed, ConfigError

CHECK_DAG, CHECK_TASK = "data_export_check", "check"
_MOST_SHOWN = 500  # more make a list that nobody reads, stored anew whenever a file comes or goes
_MOST = 1024  # Airflow's core.max_map_length: more would fail without a word of why
log = logging.getLogger(__name__)
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
        shown = "{{ task.op_kwargs['name'] }}"
        task(task_id=CHECK_TASK, map_index_template=shown, retries=0)(_check).expand(name=exports)
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
    names = [_named(wanted)] if wanted else sorted(load_customers().exports)
    if len(names) > _MOST:
        raise CheckFailed(f"{len(names)} exports are more than one run can check ({_MOST}): name one of them")
    return names


def _named(name: str) -> str:
    """The name, if it can be one of an export.

    It becomes the key of an XCom, which Airflow's client writes into the path of a request as it is: `../` in it would
    make the task ask for something else in its own name, such as another DAG's run to be cleared.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{quoted(name)} is not the name of an export: use 1 to 63 of a-z, 0-9 and '-', as its file has"
        )
    return name


def _check(name: str) -> list[dict[str, str | bool]]:
    from data_export.check.results import CheckResult, table
    from data_export_airflow.execution.checking import check_export

    _named(name)
    try:
        results = check_export(name)
    except ConfigError as error:
        results = [CheckResult("configuration", False, str(error))]
    steps = [result.to_dict() for result in results]
    # Beside the result, which a failed task has not; under the export's name, by which the page finds it.
    get_current_context()["ti"].xcom_push(name, {"ok": all(result.ok for result in results), "steps": steps})
    log.info("%s\n%s", name, table(results))
    faults = [f"{result.step}: {result.detail}" for result in results if not result.ok]
    if faults:
        raise CheckFailed(f"{name}: {len(faults)} of {len(results)} steps failed: {'; '.join(faults)}")
    return steps
