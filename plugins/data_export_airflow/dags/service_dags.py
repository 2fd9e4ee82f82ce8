"""The DAGs of the service itself: the check, from the workers' network with their keys, watch, audit, maintenance."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from data_export.config.fields import NAME
from data_export.config.folder import customer_names, require_listed
from data_export.config.platform import PlatformSettings, load_platform
from data_export.config.sections import AlertSettings, AuditSettings, MaintenanceSettings
from data_export.errors import CheckFailed, ConfigError
from data_export_airflow.alerting.callbacks import AUDIT_DAG, MAINTENANCE_DAG, NOTICES_TASK, on_failure
from data_export_airflow.operators.base import DELIVERY_POOL
from data_export_airflow.operators.service import (
    MAINTENANCE_STEPS,
    AuditExportsOperator,
    CheckExportOperator,
    MaintenanceOperator,
    SendNoticesOperator,
    WatchExportsOperator,
    checked_name,
)

CHECK_DAG, CHECK_TASK = "data_export_check", "check"
WATCH_DAG, WATCH_TASK = "data_export_watch", "look"
AUDIT_TASK = "audit"
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


def _asked(*names: str) -> Any:
    """The parameters, which are what the run was triggered with."""
    from data_export_airflow.schedule.windows import require_passed_on  # late: parsing a DAG does not need it

    context = get_current_context()
    require_passed_on({**context}, *names)
    return context["params"]


def _list_exports() -> list[str]:
    wanted = _asked("export")["export"]
    if not wanted:
        require_listed()  # nothing would be checked, and all be well
    names = [checked_name(wanted)] if wanted else sorted(customer_names())  # a broken file fails its own check
    if len(names) > _MOST:
        raise CheckFailed(f"{len(names)} exports are more than one run can check ({_MOST}): name one of them")
    return names


_DOC = """Looks, as often as `alerts.watch_schedule` says, for exports with a window that was not delivered within
`limits.late_after_hours`, whether its run is slow, stuck, or was never created, and for exports whose customer file is
broken; alerts their owners and the platform's list, once per export a day. Paused exports are left alone. The page
*Data exports* shows what `look` found. `notices` sends again, for a day, what the receivers of `on_delivery` did not
take."""


def build_watch_dag() -> DAG:
    """The look, and what is left of notices; never two at once, nor one made up for: the next sees the same."""
    with _dag(
        WATCH_DAG,
        _setting(lambda settings: settings.alerts.watch_schedule, AlertSettings().watch_schedule),
        "watch",
        _DOC,
    ) as dag:
        WatchExportsOperator(task_id=WATCH_TASK)
        SendNoticesOperator(task_id=NOTICES_TASK)
    return dag


_DOC = """Removes what nobody needs, as often as `maintenance.schedule` of platform.yaml says, each step as
`maintenance` switches it: what failed, removed or paused exports staged; unfinished uploads and files of killed runs;
Airflow's old log files. The result of each task says how much was removed."""


def build_maintenance_dag() -> DAG:
    """One task for each step, one after the other: it is never in a hurry."""
    with _dag(
        MAINTENANCE_DAG,
        _setting(lambda settings: settings.maintenance.schedule, MaintenanceSettings().schedule),
        "maintenance",
        _DOC,
        max_active_tasks=1,
    ) as dag:
        for step in MAINTENANCE_STEPS:
            MaintenanceOperator(task_id=step, step=step)
    return dag


_DOC = """Looks, as often as `audit.schedule` of platform.yaml says, whether what was delivered is still at the targets:
by a listing and a sample, or everything with `full`. It reads only. With `repair` it clears the runs of damaged
windows, so that they deliver again; with `drift` it counts what the source has changed since. The page *Data exports*
shows what it found, and `report` alerts the owners, once for each finding."""


def build_audit_dag() -> DAG:
    """`list_exports`, then `audit` for each, or for some where Airflow cannot map over so many, then `report`."""
    flag: dict[str, Any] = {"type": ["null", "boolean"]}
    with _dag(
        AUDIT_DAG,
        _setting(lambda settings: settings.audit.schedule, AuditSettings().schedule),
        "audit",
        _DOC,
        max_active_tasks=4,  # it is never in a hurry
        params={
            "export": _which_export(),
            "since": Param(None, type=["null", "string"], description="delivered since; empty: audit.days"),
            "full": Param(False, type="boolean", description="read every file and look at every image"),
            "repair": Param(None, **flag, description="run damaged windows again; empty: as the settings say"),
            "drift": Param(None, **flag, description="compare with the source; empty: as the settings say"),
        },
    ) as dag:
        batches: Any = task(task_id="list_exports")(_list_audited)()
        asked = {name: f"{{{{ params.{name} }}}}" for name in ("since", "full", "repair", "drift")}
        audits: Any = AuditExportsOperator.partial(task_id=AUDIT_TASK, pool=DELIVERY_POOL, **asked).expand(
            exports=batches
        )
        task(task_id="report", trigger_rule="all_done")(_report_audit)(audits.output)
    return dag


def _list_audited() -> list[list[str]]:
    """One export each, so that the grid shows them one by one, or more in each where there are too many."""
    from data_export.config.load import load_customers

    wanted, settings = _asked("export", "since", "full", "repair", "drift")["export"], load_platform().audit
    require_listed()  # nothing would be audited, and all be well
    exports = load_customers().exports
    chosen = [
        name
        for name, export in sorted(exports.items())
        if name == wanted
        or (not wanted and export.enabled and (export.audit.over(settings) if export.audit else settings).enabled)
    ]
    if wanted and not chosen:
        raise ConfigError(f"there is no export {checked_name(wanted)}, or its file is broken: correct the name")
    return [chosen[first::_MOST] for first in range(min(_MOST, len(chosen)))]


def _report_audit(audited: Any) -> list[str]:
    from data_export_airflow.alerting.watch import report_audit  # late: parsing a DAG does not need it

    found = {name: one for each in audited[:] for name, one in (each or {}).items()}
    return report_audit({**get_current_context()}, found)


def _dag(dag_id: str, schedule: str, tag: str, description: str, **options: Any) -> DAG:
    """Of the service's own, by the clock: one run at a time, none made up for; the platform hears of a failed task."""
    return DAG(
        dag_id,
        schedule=schedule,
        start_date=datetime(2025, 1, 1),  # noqa: DTZ001 - Airflow reads it as UTC
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"on_failure_callback": on_failure},
        tags={"data-export", tag},
        doc_md=description,
        **options,
    )


def _setting(choose: Callable[[PlatformSettings], str], default: str) -> str:
    """The default where platform.yaml is broken: its task then fails and says why."""
    try:
        return choose(load_platform())
    except ConfigError:
        return default
