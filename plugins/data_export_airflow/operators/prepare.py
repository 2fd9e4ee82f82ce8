"""The first task of an export's run: freezes what the run will do."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import XComArg

from data_export.config.fields import NAME, quoted
from data_export.config.load import load_beside
from data_export.config.models import AnyExport, name_of
from data_export.config.moments import instant, moment
from data_export.config.platform import load_platform
from data_export.config.precedence import require_owner
from data_export.config.validate import load_values
from data_export.errors import ConfigError
from data_export.limits import Limits, limits_of
from data_export.plan import prepare
from data_export.window import ExportWindow
from data_export_airflow.operators.base import ExportOperator
from data_export_airflow.schedule.windows import window_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

PLAN = "plan"
_RANGE = ("from", "to")


class PrepareExportOperator(ExportOperator):
    """Freezes configuration, window and limits, so that editing a customer file never changes a run under way.

    Returns the site ids, to map over; the plan itself is the XCom `plan`::

        prepare = PrepareExportOperator(task_id="prepare", export="acme")
        delivered = export_sites(prepare.plan, prepare.output)
        CloseExportOperator(task_id="close", plan=prepare.plan, sites=delivered)

    The window is `[start, end)` where both are given, else the `from` and `to` of the trigger form, else the run's data
    interval, else the last window of the export that was complete when the run was due to begin.

    :param export: name of a customer file, without folder and suffix; with `config`, what the export is called in
        staging, receipts and alerts: 1 to 63 of a-z, 0-9 and '-', by default the DAG's id (templated)
    :param start: the window starts here, inclusive: ISO 8601; without a zone it is in the export's `timezone`
        (templated)
    :param end: the window ends here, exclusive; as `start` (templated)
    :param config: what a customer file would hold, as a dict, in place of one; secrets only as `env:NAME` or
        `var:NAME` (templated)
    """

    template_fields: Sequence[str] = ("export", "start", "end", "config")
    template_fields_renderers: ClassVar[dict[str, str]] = {"config": "json"}

    def __init__(
        self, *, export: Any = None, start: Any = None, end: Any = None, config: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if export is None and config is None:
            raise ValueError(f"task {self.task_id} has neither export nor config: name a customer file, or give a dict")
        self.export = export
        self.start = start
        self.end = end
        self.config = config
        self._has_range, self._has_config = start is not None or end is not None, config is not None

    @property
    def plan(self) -> XComArg:
        """The frozen plan, for the argument `plan` of the other operators."""
        output: Any = self.output
        plan: XComArg = output[PLAN]
        return plan

    def execute(self, context: "Context") -> list[str]:
        from data_export_airflow.execution.sealed import seal_of  # late: parsing a DAG does not need it
        from data_export_airflow.telemetry.metrics import timed

        name, now = self._name(context), datetime.now(UTC)
        export = self._settings(name, context)
        settings = load_platform()
        limits = limits_of(name, export, settings.limits, place="config" if self._has_config else None)
        with timed("prepare", export.scheme):
            plan = prepare(name, export, self._window(export, context, limits), limits, now)
        sealed = seal_of({**context}, settings).sign(PLAN, plan.to_dict())
        context["ti"].xcom_push(PLAN, sealed)  # not the result itself, since Airflow maps over results only
        return [str(site) for site in plan.sites]

    def _name(self, context: "Context") -> str:
        name = context["ti"].dag_id.lower().replace("_", "-") if self.export is None else self.export
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(
                f"export={quoted(name)} of task {self.task_id} is not the name of an export: "
                "use 1 to 63 of a-z, 0-9 and '-', as the customer file has"
            )
        return name

    def _settings(self, name: str, context: "Context") -> AnyExport:
        if self._has_config:
            return load_values(name, self.config)
        from data_export_airflow.metadata.task_runs import TaskRuns  # late: parsing a DAG needs none of what asks

        return require_owner(name, load_beside(name), TaskRuns(context["ti"]).last_delivery)

    def _window(self, export: AnyExport, context: "Context", limits: Limits) -> ExportWindow:
        if self._has_range:
            return self._range(export)
        values: dict[str, Any] = {**context}
        if name_of(context["ti"].dag_id) is None:  # a DAG of one's own may have parameters of its own
            params: Mapping[str, Any] = values.get("params") or {}
            values["params"] = {key: params[key] for key in _RANGE if key in params}
        return window_of_run(export, values, limits.settle)

    def _range(self, export: AnyExport) -> ExportWindow:
        bounds = {"start": self.start, "end": self.end}
        for key, value in bounds.items():
            if value is None or str(value).strip() in ("", "None"):
                raise ConfigError(
                    f"{key}={value!r} of task {self.task_id} is no instant once it is rendered: give start and end "
                    "both as ISO 8601, e.g. 2025-03-16T00:00:00Z, or neither of them"
                )
        try:
            return ExportWindow(*(instant(moment(value), export.timezone) for value in bounds.values()))
        except ValueError as error:
            raise ConfigError(f"start and end of task {self.task_id}: {error}") from None
