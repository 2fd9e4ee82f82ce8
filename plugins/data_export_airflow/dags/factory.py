"""One DAG per customer file."""

import json
import logging
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from uuid import UUID

from airflow.sdk import DAG, Param, get_parsing_context
from pendulum import instance

from data_export.config.folder import file_of
from data_export.config.load import load_customers, owner_in
from data_export.config.models import CustomerExport, dag_id
from data_export.config.platform import customers_dir, load_platform, shown
from data_export.config.sections import LimitSettings
from data_export.errors import ConfigError
from data_export.limits import Limits, limits_of
from data_export.wording import as_code
from data_export_airflow.alerting.callbacks import NOTIFY_TASK, on_failure
from data_export_airflow.dags.shards import names_in
from data_export_airflow.metadata.assets import asset_of
from data_export_airflow.operators import CloseExportOperator, NotifyOperator, PrepareExportOperator, export_sites
from data_export_airflow.operators.links import page_address
from data_export_airflow.timetables import timetable_of

log = logging.getLogger(__name__)

INVALID_TAG = "invalid-config"
_PREPARE = "prepare"


def customer_dags(file: str, shards: int | None = None) -> dict[str, DAG]:
    """The DAGs, by dag_id, of the exports that this DAG file holds; where Airflow asks for one DAG, that one alone.

    So many `shards` share the exports; without a number the file holds them all. A task finds its DAG in any of the
    files, also while their number changes. No error escapes: one broken customer file would otherwise hide every DAG.
    It gets a placeholder that keeps its history visible and its runs going; `dags/config_errors.py` reports it.
    """
    wanted, platform = get_parsing_context().dag_id, _platform_limits()
    loaded = load_customers(only_dag_id=wanted)
    errors = loaded.errors()
    names: Set[str] = loaded.exports.keys() | errors.keys()
    if wanted is None:
        names = names_in(Path(file).name, names, shards)
    dags = {}
    for name in sorted(names):
        export, problems = loaded.exports.get(name), errors.get(name, [])
        dag = _build_or_explain(name, export, platform, problems) if export else _placeholder(name, problems, platform)
        dags[dag.dag_id] = dag
    return dags


def faults(exports: Mapping[str, CustomerExport]) -> dict[str, str]:
    """The exports whose DAGs cannot be made although their files are right, and why.

    The DAGs are made without tasks, which no customer file shapes: 0.2 ms each instead of 3.
    """
    platform, found = _platform_limits(), {}
    for name, export in exports.items():
        try:
            _frame(name, export, limits_of(name, export, platform)).validate()  # type: ignore[no-untyped-call]
        except Exception as error:
            found[name] = _in_words(error)
    return found


def _build_or_explain(name: str, export: CustomerExport, platform: LimitSettings, problems: Sequence[str]) -> DAG:
    try:
        dag = build_dag(name, export, limits_of(name, export, platform), problems)
        dag.validate()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        dag.check_cycle()
        return dag
    except Exception as error:
        log.exception("%s: the DAG cannot be built", name)
        return _placeholder(name, [_in_words(error)], platform)


def _in_words(error: Exception) -> str:
    return f"a fault of the service keeps its DAG from being built ({type(error).__name__}: {error}): report it"


def build_dag(name: str, export: CustomerExport, limits: Limits, problems: Sequence[str] = ()) -> DAG:
    """`prepare`, then for each site `extract` -> `transform` -> `copy_images` -> `deliver`, then `close`.

    With `on_delivery` also `notify`, whose failure fails no run.

    Reads nothing but its arguments: no connection, network or database while parsing.
    """
    transfers_at_once = export.transfers_at_once(limits.sites_at_once)
    frame, notifies = _frame(name, export, limits, problems), bool(export.on_delivery)
    return _with_tasks(
        frame, name, limits.sites_at_once, transfers_at_once, timezone=export.timezone, notifies=notifies
    )


def _frame(name: str, export: CustomerExport, limits: Limits, problems: Sequence[str] = ()) -> DAG:
    """The DAG without its tasks."""
    return _dag(
        name,
        export.owner,
        schedule=timetable_of(export, limits.settle) if export.enabled else None,
        start_date=instance(export.start).in_timezone(export.timezone),  # which is the DAG's zone, too
        # No end_date, which the timetable has: Airflow makes no task of a run by hand after it, and calls it a success.
        max_active_runs=limits.max_active_runs.value,
        max_active_tasks=limits.sites_at_once,  # of each run
        tags={export.connector_type, export.scheme, export.export_type, export.interval},
        doc_md=describe(name, export, problems),
    )


def _placeholder(name: str, problems: Sequence[str], platform: LimitSettings) -> DAG:
    """The DAG of a file that cannot be used: without a schedule, with the problems as its description.

    Its tasks are those of every export, or Airflow would take those of a run under way for removed: the run has frozen
    what it does, and goes on. A new run fails in `prepare`, which reads the file again. Transfers are one at a time,
    since how many connections the target takes is in the file.
    """
    dag = _dag(
        name,
        owner_in(file_of(name)),
        schedule=None,
        max_active_runs=platform.max_active_runs,
        max_active_tasks=platform.sites_at_once,
        tags={INVALID_TAG},
        doc_md=describe_broken(name, problems),
    )
    return _with_tasks(dag, name, platform.sites_at_once, transfers_at_once=1)


def _dag(name: str, owner: str | None, **options: Any) -> DAG:
    return DAG(
        dag_id=dag_id(name),
        dag_display_name=name,
        catchup=False,
        default_args={
            "owner": owner or "data-export",
            "on_failure_callback": on_failure,
            # Where slots are few the later tasks go first, so that exports end one after the other. By Airflow's own
            # rule all would be prepared, then all extracted, and at midnight the first file would come with the last.
            "weight_rule": "upstream",
        },
        render_template_as_native_obj=True,
        **options,
    )


def _with_tasks(
    dag: DAG, name: str, sites_at_once: int, transfers_at_once: int, *, timezone: str = "", notifies: bool = False
) -> DAG:
    with dag:
        _wire(name, sites_at_once, transfers_at_once, notifies)
    # Each task has it. For the DAG, Airflow would look up its source text and throw it away, 0.2 ms.
    del dag.default_args["on_failure_callback"]
    # Not before the tasks are there: each would take a copy, to be validated when it is serialised, 8 ms a DAG in all.
    instant: dict[str, Any] = {"type": ["null", "string"], "format": "date-time"}
    zone = f", in the zone that Airflow's pages show; the export's windows are cut in {timezone}" if timezone else ""
    param = Param if get_parsing_context().task_id in (None, _PREPARE) else _UncheckedParam
    dag.params["from"] = param(None, description=f"window starts (inclusive){zone}", **instant)
    dag.params["to"] = param(None, description=f"window ends (exclusive){zone}", **instant)
    return dag


class _UncheckedParam(Param):
    """A parameter in the process of a task that goes by the plan, where Airflow checks each twice more, 3 ms in all.

    It has checked them when it made the run, and does in `prepare`, which alone goes by them.
    """

    def resolve(self, value: Any = None, suppress_exception: bool = False) -> Any:
        self.value = self.value if value is None else value
        return self.value


def _wire(name: str, sites_at_once: int, transfers_at_once: int, notifies: bool) -> None:
    prepare = PrepareExportOperator(task_id=_PREPARE, export=name)
    delivered = export_sites(
        prepare.plan, prepare.output, sites_at_once=sites_at_once, transfers_at_once=transfers_at_once
    )
    close = CloseExportOperator(task_id="close", plan=prepare.plan, sites=delivered, outlets=[asset_of(name)])
    if notifies:  # without it the watch sends what `close` has recorded, as where the file broke meanwhile
        close >> NotifyOperator(task_id=NOTIFY_TASK, plan=prepare.plan)


def _platform_limits() -> LimitSettings:
    """The platform's, or the defaults where platform.yaml is broken, which every run then reports."""
    try:
        return load_platform().limits
    except ConfigError:
        return LimitSettings()


_RECORDS = {
    "work-orders-timeline": "every work order created or updated in the window, with all inputs of each work item",
    "work-orders-states": "every work order created or updated in the window, with the last input of each work item",
}
_FILES = {"json": "JSON Lines", "gzip": "JSON Lines (gzip)", "zstd": "JSON Lines (zstd)", "parquet": "Parquet"}


def describe(name: str, export: CustomerExport, problems: Sequence[str] = ()) -> str:
    """Markdown: what is exported, when, to where, and which problems do not keep it from running."""
    until = f" until {export.end_date} (exclusive)" if export.end_date else ""
    lines = [
        f"### Export `{name}`",
        f"One {_FILES[export.encoding]} file per site and window: {_RECORDS[export.export_type]}.",
        "",
        f"- **Target**: {export.connector_config.describe()}",
        f"- **Images**: {'copied next to the data' if export.export_images else 'not exported'}",
        f"- **Windows**: {export.interval}, from {export.start_date}{until}, cut in {export.timezone}",
        f"- **Sites**: {', '.join(_as_site(export, site) for site in export.sites)}",
        f"- **Owner**: {as_code(export.owner) if export.owner else 'nobody but the list of platform.yaml'}",
        f"- **Customer file**: `{shown(customers_dir() / f'{name}.yaml')}`",
        f"- **Configuration**: {as_code(_settings(export), 2000)}",
        f"- **Page**: [Data exports]({page_address(name)})",
    ]
    if not export.enabled:
        lines.append("- **Not enabled**: no run is scheduled (`enabled: false`)")
    lines += [f"- **Problem**: {as_code(problem, 1000)}" for problem in problems]
    lines += [
        "",
        "Another range: *Trigger*, with `from` and `to`. History: *Trigger*, then *Backfill*.",
        "After a change of `interval` or `timezone`, the time between the last window as it was and the first new one "
        "is in no window: the watch alerts about it, and *Trigger* with `from` and `to` exports it.",
    ]
    return "\n".join(lines)


def _as_site(export: CustomerExport, site: UUID) -> str:
    name = export.site_label(site)
    return f"`{site}`" if name == str(site) else f"{as_code(name)} (`{site}`)"


def _settings(export: CustomerExport) -> str:
    """What the customer file says, secrets masked; the sites have a line of their own."""
    return json.dumps(export.model_dump(mode="json", exclude_unset=True, exclude={"site_id"}), ensure_ascii=False)


def describe_broken(name: str, problems: Sequence[str]) -> str:
    """Markdown: what is wrong with a customer file."""
    errors = "\n".join(f"    {problem}" for problem in problems)
    title = f"### Export `{name}` does not run: its customer file is broken"
    then = "The DAG returns when the file is fixed. Runs under way continue with what they froze; a new run fails."
    return f"{title}\n\n{errors}\n\n{then}"
