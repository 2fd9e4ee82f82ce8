"""What all operators of an export have in common: when they are tried again, their pools, how they are templated."""

import random
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, RetryDecision, RetryPolicy
from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.alerts.guide import kind_of
from data_export.config.models import dag_id
from data_export.config.platform import platform_file
from data_export.config.problems.problems import BrokenFile, MissingFile
from data_export.config.reading.file_text import NOT_NOW
from data_export.config.tenants import tenants_file
from data_export.errors import ConfigError, PermanentError, TransientError
from data_export.wording import harmless

if TYPE_CHECKING:
    from data_export_airflow.execution.sealed import SealedSteps

SOURCE_POOL, DELIVERY_POOL = "data_export_source", "data_export_delivery"
#: Created by `python -m data_export_airflow init`, with at most these slots. A task of a missing pool waits for ever.
POOLS = {
    SOURCE_POOL: (4, "Extracts that read the platform's database at once"),
    DELIVERY_POOL: (16, "Transfers to customers' targets at once"),
}


def slots_that_fit(pool: str, at_once: int) -> int:
    """The most slots of a pool where Airflow runs `at_once` tasks: a quarter stays for tasks that are not of the pool.

    Otherwise a few long transfers hold every worker, and no other export even begins.
    """
    return max(1, min(POOLS[pool][0], at_once * 3 // 4))


LONGEST_TRANSFER = timedelta(hours=24)
Result = dict[str, Any]


RETRIES = 8  # an hour or so of tries, which outlives a restart or a maintenance of a customer's server
#: So long after its last change a file may be half written, by an editor or a deployment.
_EDITED, _TRIES_WHILE_EDITED = timedelta(minutes=5), 5
_FIRST, _LONGEST = timedelta(seconds=20), timedelta(minutes=20)
_TIMED_OUT = "data_export_timed_out"


class ExportRetryPolicy(RetryPolicy):
    """Permanent faults fail at once; transient ones wait twice as long each time, with jitter; others as Airflow does.

    A customer file that broke a moment ago counts as transient: it may be half written, and a backfill must not lose
    windows to that. So does what is wrong with platform.yaml or tenants.yaml while it may be, and a file that its disk
    does not give now. So does one that is missing, in the export's own DAG, which goes a moment later if the file was
    removed: its run then waits, and goes on when the file is back. A task that runs into its time limit is tried once
    more: what it has delivered is not sent again.

    After a clear, tries and time limits count from the start again; Airflow's own `try_number` goes on counting.
    The reason, class and line of the error, is logged and kept on the task instance, from where the page and the run's
    note have it. Evaluated in the worker
    (Airflow 3.3, `airflow.sdk.definitions.retry_policy`).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        first = _first_try(try_number, max_tries, context)
        # Of so many tries only, which take longer than an edit: where each try has files of its own, they are all new.
        edited = try_number - first < _TRIES_WHILE_EDITED and _is_being_edited(exception)
        changing = edited or _is_not_read_now(exception) or _was_just_there(exception, context)
        if isinstance(exception, PermanentError) and not changing:
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, TransientError) or changing:
            # Bounded before the power: a DAG of one's own may have thousands of retries.
            longest = min(_FIRST * 2 ** min(try_number - first, 16), _LONGEST)
            delay = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter keeps many tasks from returning at once
            return RetryDecision.retry(delay=delay, reason=f"{kind_of(exception)}: {harmless(exception, 2000)}")
        if isinstance(exception, AirflowTaskTimeout) and _timed_out_before(first, try_number, context):
            return RetryDecision.fail(reason="the task ran into its time limit a second time")
        return RetryDecision.default()


def _first_try(try_number: int, max_tries: int, context: Context | None) -> int:
    """Number of the first try since the task was last cleared: a clear sets `max_tries` to tries so far + `retries`."""
    retries = context["task"].retries if context else max_tries
    return min(max(max_tries - (retries or 0), 0) + 1, try_number)


def _timed_out_before(first: int, try_number: int, context: Context | None) -> bool:
    """Whether a try since `first` ran into the time limit too; remembers that this one did."""
    if context is None:
        return try_number > first
    before = context["task_state_store"].get(_TIMED_OUT)
    context["task_state_store"].set(_TIMED_OUT, try_number)
    return isinstance(before, int) and first <= before < try_number


def _was_just_there(exception: BaseException, context: Context | None) -> bool:
    """Whether it is a missing customer file, in the DAG that Airflow has from this file."""
    return isinstance(exception, MissingFile) and context is not None and context["ti"].dag_id == dag_id(exception.name)


def _is_being_edited(exception: BaseException) -> bool:
    """Whether the configuration is wrong while a file that the error names is being written."""
    if not isinstance(exception, ConfigError):
        return False
    broken = [problem.path for problem in exception.problems] if isinstance(exception, BrokenFile) else []
    named = [file for file in (platform_file(), tenants_file()) if str(file) in str(exception)]
    return any(map(_just_changed, {*broken, *named}))


def _is_not_read_now(exception: BaseException) -> bool:
    return isinstance(exception, ConfigError) and NOT_NOW in str(exception)


def _just_changed(file: Path) -> bool:
    """Whether the file is gone, or changed within the last minutes; what is dated in the future did not."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    # `mv`, `rsync -t` and `cp -p` bring an old date of the content along.
    return any(abs(time.time() - moment) < _EDITED.total_seconds() for moment in (found.st_mtime, found.st_ctime))


_POLICY = ExportRetryPolicy()


class ExportOperator(BaseOperator):
    """Base of the operators: a DAG of your own fails and retries as the customers' DAGs do, without a word about it.

    Every argument of Airflow's operators is accepted, and one that is given, also in a DAG's `default_args`, wins.

    :param retries: tries after the first one, an hour or so in all
    :param retry_delay: first pause where the retry policy has no say, such as after the death of a worker
    :param retry_exponential_backoff: by what each further pause of those is longer
    :param max_retry_delay: the longest of them
    :param retry_policy: permanent faults fail at once, transient ones wait longer each time
    """

    ui_color = "#e8f0fe"
    #: What the task read and wrote, set by operators that deliver; for OpenLineage.
    lineage: Any = None
    #: The pool of a task that names none.
    default_pool: ClassVar[str] = "default_pool"

    # Airflow reads these defaults from the signature, for `partial` too, and puts a DAG's default_args in their place.
    def __init__(
        self,
        *,
        pool: str | None = None,
        retries: int | None = RETRIES,
        retry_delay: timedelta | float = timedelta(minutes=1),
        retry_exponential_backoff: float = 2.0,
        max_retry_delay: timedelta | float | None = timedelta(minutes=10),
        retry_policy: RetryPolicy | None = _POLICY,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool=pool or self.default_pool,
            retries=retries,
            retry_delay=retry_delay,
            retry_exponential_backoff=retry_exponential_backoff,
            max_retry_delay=max_retry_delay,
            retry_policy=retry_policy,
            **kwargs,
        )

    def get_openlineage_facets_on_complete(self, _ti: Any) -> Any:
        """What OpenLineage's provider, where it is installed, asks for after a task's success or failure."""
        from data_export_airflow.telemetry.lineage import lineage_of

        return self.lineage or lineage_of([], [])

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's own, which knows no default of a pool."""
        made = BaseOperator.partial.__func__(cls, **kwargs)  # type: ignore[attr-defined]  # it is a class method
        made.kwargs.setdefault("pool", cls.default_pool)
        return made

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """As Airflow's own; but a text without a template stays as it is.

        In a DAG with `render_template_as_native_obj` an export named `2024` would become a number.
        """
        if isinstance(content, str) and "{" not in content:
            return content
        return super().render_template(content, *args, **kwargs)

    def as_label(self, text: object) -> str:
        """The text for a `map_index_template`, which Airflow renders by itself and which must become a text again."""
        return repr(str(text)) if self.dag.render_template_as_native_obj else str(text)


class PlannedOperator(ExportOperator):
    """Base of the operators that do what a plan says.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    """

    template_fields: Sequence[str] = ("plan",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json"}

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def steps(self, context: Context) -> "SealedSteps":
        """The steps of the run that signed this plan.

        Raises:
            SignatureRejected: this run did not sign it.
            ConfigError: the plan is not one of this version of the service.
        """
        from data_export_airflow.execution.sealed import SealedSteps  # late: parsing a DAG does not need it

        return SealedSteps(self.plan, {**context})
