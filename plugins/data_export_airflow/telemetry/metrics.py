"""Metrics of the exports, through whatever Airflow's own metrics are set to: StatsD, OpenTelemetry or nothing.

Labels are bounded whatever the number of exports: connectors, steps, outcomes and error classes are few, and only the
watch names exports, the most late ones. docs/metrics.md explains each metric to the people who watch them.
"""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from data_export.alerts.guide import kind_of
from data_export.errors import ConfigError, DataExportError

if TYPE_CHECKING:
    from data_export.receipt import ImagesCopied, SiteReceipt

log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """`labels` are all that it ever has; `meaning` has the unit."""

    kind: Literal["counter", "gauge", "timer"]
    labels: tuple[str, ...]
    meaning: str


METRICS = {
    "data_export.rows": Metric("counter", ("connector", "outcome"), "work orders in data files at the target"),
    "data_export.bytes": Metric("counter", ("connector", "outcome"), "bytes of data files at the target"),
    "data_export.files": Metric("counter", ("connector", "outcome"), "data files at the target"),
    "data_export.quarantined": Metric("counter", ("connector",), "work orders left out of a data file"),
    "data_export.images": Metric("counter", ("connector", "outcome"), "images that data files refer to"),
    "data_export.image_bytes": Metric("counter", ("connector",), "bytes of images copied"),
    "data_export.windows": Metric("counter", ("connector",), "windows delivered, to all sites of the export"),
    "data_export.step_duration": Metric("timer", ("connector", "step"), "milliseconds of a step that succeeded"),
    "data_export.retries": Metric("counter", ("connector", "step", "error"), "failed tries of tasks that try again"),
    "data_export.failures": Metric("counter", ("connector", "step", "error"), "tasks that failed for good"),
    "data_export.alert_mails": Metric("counter", ("outcome",), "alert mails"),
    "data_export.lag": Metric("gauge", ("export",), "seconds since the deadline of the oldest late window, 0 if none"),
    "data_export.late_windows": Metric("gauge", ("export",), "late windows of an export"),
    "data_export.exports_watched": Metric("gauge", (), "exports that the watch looks at"),
    "data_export.exports_late": Metric("gauge", (), "exports with late windows"),
    "data_export.exports_broken": Metric("gauge", (), "exports that do not run because their files are broken"),
    "data_export.watch_time": Metric("gauge", (), "when the watch last looked, in seconds since 1970"),
}
#: By class of the operator: a task's own name is free in DAGs of one's own.
STEPS = {
    "PrepareExportOperator": "prepare",
    "ExtractOperator": "extract",
    "TransformOperator": "transform",
    "CopyImagesOperator": "copy_images",
    "DeliverOperator": "deliver",
    "CloseExportOperator": "close",
    "NotifyOperator": "notify",
    "DeliverFileOperator": "deliver_file",
    "CheckExportOperator": "check",
    "WatchExportsOperator": "watch",
    "SendNoticesOperator": "notices",
    "AuditExportsOperator": "audit",
    "MaintenanceOperator": "maintenance",
}
#: Exports that are named at a time. OpenTelemetry drops what is beyond 2,000 label values of a metric.
MOST_NAMED = 1_000
_UNKNOWN = "unknown"


def count(name: str, value: int, **labels: str) -> None:
    """Adds to a counter of `METRICS`. As all here, it never raises."""
    if value > 0:
        _send("incr", name, value, labels)


def gauge(name: str, value: float, **labels: str) -> None:
    """Sets a gauge of `METRICS`."""
    _send("gauge", name, value, labels)


@contextmanager
def timed(step: str, connector: str) -> Iterator[None]:
    """Measures a step, if it succeeds: how long it takes to fail is a matter of the fault."""
    start = time.monotonic()
    yield
    _send("timing", "data_export.step_duration", (time.monotonic() - start) * 1000, _of(connector) | {"step": step})


def site_delivered(connector: str, site: "SiteReceipt") -> None:
    """Counts one site's data file, by what became of it."""
    labels = _of(connector) | {"outcome": site.outcome}
    count("data_export.files", 1, **labels)
    count("data_export.rows", site.work_orders or 0, **labels)  # a kept file that cannot be read adds none
    count("data_export.bytes", site.bytes, **labels)
    count("data_export.quarantined", site.quarantined, **_of(connector))


def images_copied(connector: str, images: "ImagesCopied") -> None:
    """Counts one site's images, by what became of them."""
    for outcome in ("copied", "already_there", "kept", "missing_at_source", "failed"):
        count("data_export.images", getattr(images, outcome), **_of(connector), outcome=outcome)
    count("data_export.image_bytes", images.bytes, **_of(connector))


def task_failed(ti: Any, error: BaseException | str | None) -> None:
    """Counts a failed try of one of the service's operators.

    Called in the worker; where that died, in the scheduler, which has no exception and does not know the connector.
    """
    try:
        task = getattr(ti, "task", None)
        step = STEPS.get(getattr(ti, "operator", None) or type(task).__name__)
        if step:
            again = str(getattr(ti.state, "value", ti.state)) == "up_for_retry"
            labels = _of(_connector_of(task)) | {"step": step, "error": error_class(error)}
            count(f"data_export.{'retries' if again else 'failures'}", 1, **labels)
    except Exception:  # a metric must not cost the note of the failure, which comes next
        log.debug("the failure is not counted", exc_info=True)


def error_class(error: BaseException | str | None) -> str:
    """The class of the service's own errors and of Python's; others are `other`, since anybody may make more."""
    if not isinstance(error, BaseException):
        return "WorkerLost"
    name = kind_of(error)
    known = isinstance(error, DataExportError) or type(error).__module__ == "builtins" or name == "AirflowTaskTimeout"
    return name if known else "other"


def exports_watched(
    lag: Mapping[str, tuple[float, int]], before: Sequence[str], watched: int, broken: int, now: float
) -> None:
    """What a look of the watch found.

    Args:
        lag: by late export the seconds since its oldest deadline, and its late windows.
        before: those that were late at the look before, the most late first; StatsD would show the last values of the
            ones that it named for ever.
    """
    worst = sorted(lag, key=lambda name: -lag[name][0])
    named = dict.fromkeys([*worst[:MOST_NAMED], *before[:MOST_NAMED]])
    for number, name in enumerate(named, 1):
        seconds, windows = lag.get(name, (0, 0))
        gauge("data_export.lag", seconds, export=name)
        gauge("data_export.late_windows", windows, export=name)
        if number % 50 == 0:
            time.sleep(0.01)  # StatsD has a datagram for each: more at once than the receiver's buffer holds are lost
    gauge("data_export.exports_watched", watched)
    gauge("data_export.exports_late", len(lag))
    gauge("data_export.exports_broken", broken)
    gauge("data_export.watch_time", now)


def _of(connector: str) -> dict[str, str]:
    return {"connector": connector}


def _connector_of(task: Any) -> str:
    from data_export.plan import ExportPlan  # late: every process of Airflow imports the listeners, and few need it
    from data_export.seal import SIGNATURE

    plan = getattr(task, "plan", None)
    if not isinstance(plan, Mapping):
        return _UNKNOWN
    try:
        return ExportPlan.from_dict({key: value for key, value in plan.items() if key != SIGNATURE}).export.scheme
    except ConfigError:  # which may be why it failed
        return _UNKNOWN


def _send(how: Literal["incr", "gauge", "timing"], name: str, value: float, labels: Mapping[str, str]) -> None:
    try:
        getattr(_stats(), how)(name, value, tags=dict(labels))
    except Exception:  # neither a wrong setting nor a collector that is away may cost a delivery
        log.debug("metric %s is not sent", name, exc_info=True)


def _stats() -> Any:
    """Airflow's module of metrics for this process.

    There are two, alike, and a process sets up one: tasks theirs, scheduler and dag-processor the other. A task of
    LocalExecutor, a fork of the scheduler, has both.
    """
    from airflow.sdk.observability import stats

    if vars(sys.modules[stats.initialize.__module__]).get("_factory") is None:
        from airflow.observability import stats as server_stats

        return server_stats
    return stats
