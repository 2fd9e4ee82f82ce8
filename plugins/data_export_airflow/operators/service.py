"""The bodies of the DAGs of the service itself: the check of exports, the watch for late windows, the audit of what was
delivered, maintenance."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from data_export.config.fields import NAME, quoted
from data_export.errors import CheckFailed, ConfigError
from data_export_airflow.alerting.callbacks import tell_recovered
from data_export_airflow.operators.base import ExportOperator
from data_export_airflow.operators.links import ExportPageLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from data_export.check.results import CheckResult

#: Seconds between two pushes of what a check has found so far; the page asks as often.
_PAUSE = 1.0
log = logging.getLogger(__name__)


class CheckExportOperator(ExportOperator):
    """Tries everything that an export needs, from where it runs, and leaves nothing behind.

    Returns the steps, each with `step`, `ok` and `detail`; fails where one failed, after the others were tried.

    :param export: name of a customer file, without folder and suffix (templated)
    """

    template_fields: Sequence[str] = ("export",)
    operator_extra_links = (ExportPageLink(),)

    def __init__(
        self,
        *,
        export: Any,
        retries: int | None = 0,  # a person waits for the answer
        map_index_template: str | None = "{{ task.as_label(task.export) }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, map_index_template=map_index_template, **kwargs)
        self.export = export
        self.shown_export = ""

    def execute(self, context: "Context") -> list[dict[str, str | bool]]:
        from data_export.check.results import CheckResult, row, verdict
        from data_export_airflow.execution.checking import check_export  # imported late: parsing a DAG does not need it

        name, results, pushed = checked_name(self.export), list[CheckResult](), 0.0
        self.shown_export = name
        # Beside the result, which a failed task has not; under the export's name, by which the page finds it. The page
        # shows the rows as they come.
        push = partial(_push, context["ti"], name, results)
        try:
            for result in check_export(name):
                log.info("%s", row(result))
                results.append(result)
                if monotonic() - pushed > _PAUSE:
                    push(is_over=False)
                    pushed = monotonic()
        except ConfigError as error:
            results.append(CheckResult("configuration", False, str(error)))
        push(is_over=True)
        log.info("%s: %s", name, verdict(results))
        faults = [f"{result.step}: {result.detail}" for result in results if not result.ok]
        if faults:
            raise CheckFailed(f"{name}: {len(faults)} of {len(results)} steps failed: {'; '.join(faults)}")
        return [result.to_dict() for result in results]


def _push(ti: Any, name: str, results: "list[CheckResult]", *, is_over: bool) -> None:
    steps = [result.to_dict() for result in results]
    ti.xcom_push(name, {"ok": all(result.ok for result in results), "over": is_over, "steps": steps})


def checked_name(name: Any) -> str:
    """The name, if it can be one of an export.

    It becomes the key of an XCom, which Airflow's client writes into the path of a request as it is: `../` in it would
    make the task ask for something else in its own name, such as another DAG's run to be cleared.

    Raises:
        ConfigError: it cannot.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"{quoted(name)} is not the name of an export: use 1 to 63 of a-z, 0-9 and '-', as its file has"
        )
    return name


if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchExportsOperator(ExportOperator):
    """One look at all exports: alerts their owners and the platform's list of what is late or broken, once a day.

    Returns how many exports are `watched`, `late` and `broken`, and the late windows, which the page "Data exports"
    shows: it reads the task `look` of the DAG `data_export_watch`. Only that DAG has the operator: two would alert
    twice.

    :param execution_timeout: shorter than the time between two looks
    :param priority_weight: where slots are few, late windows must still be found
    """

    def __init__(
        self,
        *,
        retries: int | None = 1,  # the next look sees the same
        execution_timeout: timedelta | None = timedelta(minutes=14),
        priority_weight: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retries=retries, execution_timeout=execution_timeout, priority_weight=priority_weight, **kwargs
        )

    def execute(self, context: "Context") -> dict[str, Any]:
        from data_export_airflow.alerting.watch import watch  # late: parsing a DAG needs none of it

        found = {**watch({**context})}
        tell_recovered({**context})
        return found


#: What `MaintenanceOperator` can do, in this order.
MAINTENANCE_STEPS = ("sweep_staging", "tidy_targets", "remove_logs")


class MaintenanceOperator(ExportOperator):
    """Removes what nobody needs any more; what is left when its time is over goes the next time.

    Returns what was `removed`, how many seconds it took, and what could not be looked at, or that the step is switched
    off. Only a fault of the platform's own staging or settings fails it: a customer's server that is down is reported
    and left alone.

    :param step: one of `sweep_staging`, `tidy_targets`, `remove_logs`
    """

    def __init__(
        self,
        *,
        step: str,
        retries: int | None = 1,  # the next run removes the same
        execution_timeout: timedelta | None = timedelta(hours=1),
        priority_weight: int = 1,
        weight_rule: str = "absolute",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retries=retries,
            execution_timeout=execution_timeout,
            priority_weight=priority_weight,
            weight_rule=weight_rule,
            **kwargs,
        )
        if step not in MAINTENANCE_STEPS:
            raise ValueError(f"step={step!r} of task {self.task_id} is not known: use {', '.join(MAINTENANCE_STEPS)}")
        self.step = step

    def execute(self, context: "Context") -> dict[str, Any]:
        from data_export_airflow.execution.maintenance import maintain  # late: parsing a DAG does not need it

        done = maintain(self.step)
        log.info("%s: %s", self.step, done)
        return done


class AuditExportsOperator(ExportOperator):
    """Looks at what exports have delivered, one after the other: is it at the target, and as it was delivered?

    Reads only. Returns, by export, what an alert says; the whole result is the XCom of the export's name, which of
    the DAG `data_export_audit` the page and `status` show. A target that cannot be reached fails nothing: the result
    says so.

    :param exports: names of customer files, without folder and suffix (templated)
    :param since: looks at what was delivered since then; empty: as the settings say (templated)
    :param full: reads every file and looks at every image, not only a sample (templated)
    :param repair: has Airflow run the damaged windows again; empty: as the settings say (templated)
    :param drift: extracts windows again and counts what the source has changed since; empty: as the settings say
        (templated)
    """

    template_fields: Sequence[str] = ("exports", "since", "full", "repair", "drift")

    def __init__(
        self,
        *,
        exports: Any,
        since: Any = None,
        full: Any = False,
        repair: Any = None,
        drift: Any = None,
        retries: int | None = 1,
        map_index_template: str | None = "{{ task.as_label(task.exports[0]) }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, map_index_template=map_index_template, **kwargs)
        self.exports, self.since, self.full, self.repair, self.drift = exports, since, full, repair, drift

    def execute(self, context: "Context") -> dict[str, dict[str, Any]]:
        from data_export_airflow.execution.auditing import AuditRequest, audit_in_task  # late: parsing needs none of it

        since, flags = _given(self.since), [_flag(each) for each in (self.full, self.repair, self.drift)]
        asked = AuditRequest(since, bool(flags[0]), flags[1], flags[2])
        return {name: audit_in_task(checked_name(name), asked, context["ti"]) for name in self.exports}


def _given(since: Any) -> datetime | None:
    text = str(since or "")
    try:
        found = None if text in ("", "None") else datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"since={quoted(text)} is not an instant: write e.g. 2025-03-16") from None
    return found and (found if found.tzinfo else found.replace(tzinfo=UTC))


def _flag(value: Any) -> bool | None:
    text = str(value).lower()
    if text not in ("true", "false", "none", ""):
        raise ConfigError(f"{quoted(text)} is neither true nor false: write one of these")
    return None if text in ("none", "") else text == "true"


class SendNoticesOperator(ExportOperator):
    """Sends again what is left of the notices of `on_delivery`; fails where one was given up after a day.

    :param execution_timeout: shorter than the time between two looks of the watch
    """

    def __init__(
        self,
        *,
        retries: int | None = 1,  # the next run of the watch sends again, but a killed worker is no reason to alert
        execution_timeout: timedelta | None = timedelta(minutes=12),
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, execution_timeout=execution_timeout, **kwargs)

    def execute(self, context: "Context") -> None:
        from data_export.config.platform import load_platform
        from data_export_airflow.execution.steps import send_left_of_all  # late: parsing a DAG needs none of it

        send_left_of_all(load_platform(), datetime.now(UTC))
