"""The DAG that checks exports from where they run: the workers' network, keys and connections."""

import logging
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from data_export.errors import CheckFailed

_MOST = 1024  # Airflow's core.max_map_length: more would fail without a word of why
log = logging.getLogger(__name__)
_DOC = """Tries everything that an export needs (source, staging, images, target or mail), and leaves nothing behind.

*Trigger* asks for the export's name; without one all are checked, one task each. The log of `check` has the table."""


def build_check_dag() -> DAG:
    """`list_exports`, then one `check` for each; a check that finds a fault fails with its first fix."""
    with DAG(
        "data_export_check",
        schedule=None,
        tags={"data-export", "check"},
        doc_md=_DOC,
        params={"export": Param(None, type=["null", "string"], description="name of the export; empty: all")},
    ) as dag:
        exports: Any = task(task_id="list_exports")(_list_exports)()
        shown = "{{ task.op_kwargs['name'] }}"
        task(task_id="check", map_index_template=shown, retries=0)(_check).expand(name=exports)
    return dag


def _list_exports() -> list[str]:
    from data_export.config.load import load_customers

    wanted = get_current_context()["params"]["export"]
    names = [wanted] if wanted else sorted(load_customers().exports)
    if len(names) > _MOST:
        raise CheckFailed(f"{len(names)} exports are more than one run can check ({_MOST}): name one of them")
    return names


def _check(name: str) -> list[dict[str, str | bool]]:
    from data_export.check import table
    from data_export_airflow.checking import check_export

    results = check_export(name)
    log.info("%s\n%s", name, table(results))
    faults = [f"{result.step}: {result.detail}" for result in results if not result.ok]
    if faults:
        raise CheckFailed(f"{name}: {len(faults)} of {len(results)} steps failed: {'; '.join(faults)}")
    return [result.to_dict() for result in results]
