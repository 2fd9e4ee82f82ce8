"""The four steps of one site, each an operator that is mapped over the sites of a run."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import TriggerRule, XComArg, task_group
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowSkipException

from data_export.config.sections import LimitSettings
from data_export.config.sites import label_in
from data_export_airflow.operators.base import DELIVERY_POOL, LONGEST_TRANSFER, SOURCE_POOL, PlannedOperator, Result
from data_export_airflow.operators.links import DeliveredFileLink, console_address

if TYPE_CHECKING:
    from airflow.sdk import Context

_SITES_AT_ONCE = LimitSettings().sites_at_once
_RESULT = "return_value"  # the key of what a task returns


class SiteOperator(PlannedOperator):
    """Base of the steps of one site. The grid shows each mapped task by its site's name.

    :param site_id: the site, one of those that `PrepareExportOperator` returns (templated)
    """

    template_fields: Sequence[str] = (*PlannedOperator.template_fields, "site_id")

    def __init__(
        self, *, site_id: Any, map_index_template: str | None = "{{ task.as_label(task.site_label) }}", **kwargs: Any
    ) -> None:
        super().__init__(map_index_template=map_index_template, **kwargs)
        self.site_id = site_id

    @property
    def site_label(self) -> str:
        """The site's name, or its uuid where the customer file names none."""
        return label_in(self.plan, str(self.site_id))


class ExtractOperator(SiteOperator):
    """Lands one moment of a site's window in the staging area, as Parquet.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    :param site_id: the site, one of those that `PrepareExportOperator` returns (templated)
    """

    default_pool = SOURCE_POOL

    def __init__(self, *, execution_timeout: timedelta | None = timedelta(hours=6), **kwargs: Any) -> None:
        super().__init__(execution_timeout=execution_timeout, **kwargs)

    def execute(self, context: "Context") -> Result:
        return self.steps(context).extract(self.site_id, context["ti"].try_number)


class TransformOperator(SiteOperator):
    """Turns what `ExtractOperator` landed into a data file and the list of its images.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    :param site_id: the site, one of those that `PrepareExportOperator` returns (templated)
    :param extracted: result of `ExtractOperator` (templated)
    """

    template_fields: Sequence[str] = (*SiteOperator.template_fields, "extracted")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "extracted": "json"}

    def __init__(self, *, extracted: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extracted = extracted

    def execute(self, context: "Context") -> Result:
        return self.steps(context).transform(self.site_id, self.extracted)


class CopyImagesOperator(SiteOperator):
    """Copies every image that the site's file refers to, except those already at the target; skipped without images.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    :param site_id: the site, one of those that `PrepareExportOperator` returns (templated)
    :param transformed: result of `TransformOperator` (templated)
    """

    template_fields: Sequence[str] = (*SiteOperator.template_fields, "transformed")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "transformed": "json"}
    default_pool = DELIVERY_POOL

    def __init__(
        self, *, transformed: Any, execution_timeout: timedelta | None = LONGEST_TRANSFER, **kwargs: Any
    ) -> None:
        super().__init__(execution_timeout=execution_timeout, **kwargs)
        self.transformed = transformed

    def execute(self, context: "Context") -> Result:
        ti = context["ti"]
        last_try = ti.try_number > ti.max_tries
        copied = self.steps(context).copy_images(self.site_id, self.transformed, last_try=last_try)
        if copied is None:
            # `deliver` asks for it all the same, and a result that is not there makes the worker log an error.
            ti.xcom_push(_RESULT, None)
            raise AirflowSkipException("this export has no images (connector_config.export_images)")
        return copied


class DeliverOperator(SiteOperator):
    """Puts the site's file at the target, complete or absent; the same bytes are found there and not sent again.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    :param site_id: the site, one of those that `PrepareExportOperator` returns (templated)
    :param transformed: result of `TransformOperator` (templated)
    :param images: result of `CopyImagesOperator`; None where there are no images (templated)
    """

    template_fields: Sequence[str] = (*SiteOperator.template_fields, "transformed", "images")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "transformed": "json", "images": "json"}
    operator_extra_links: Any = (DeliveredFileLink(),)
    default_pool = DELIVERY_POOL

    def __init__(
        self,
        *,
        transformed: Any,
        images: Any = None,
        execution_timeout: timedelta | None = LONGEST_TRANSFER,
        trigger_rule: TriggerRule = TriggerRule.NONE_FAILED,  # without images their task is skipped
        **kwargs: Any,
    ) -> None:
        super().__init__(execution_timeout=execution_timeout, trigger_rule=trigger_rule, **kwargs)
        self.transformed = transformed
        self.images = images
        self.delivered_uri = ""

    def execute(self, context: "Context") -> Result:
        steps = self.steps(context)
        site = steps.deliver(self.site_id, self.transformed, self.images)
        self.lineage = steps.lineage
        self.delivered_uri = site["uri"] if steps.has_console else ""
        if not console_address(self.delivered_uri):
            self.operator_extra_links = ()  # an empty address need not be pushed
        return site


class _OfSameSite(PlainXComArg):
    """What another step returned for the same site.

    Of what Airflow gives a task of a mapped group, it first asks the API server twice how many tasks the group has: 8
    requests for each site of a run, whose answers change nothing where both steps are in the same group.
    """

    def resolve(self, context: Mapping[str, Any]) -> Any:
        ti = context["ti"]
        return ti.xcom_pull(task_ids=self.operator.task_id, key=self.key, map_indexes=ti.map_index)


def export_sites(
    plan: Any,
    site_ids: Any,
    *,
    group_id: str = "site",
    prefix_group_id: bool = False,
    sites_at_once: int = _SITES_AT_ONCE,
    transfers_at_once: int | None = None,
) -> XComArg:
    """The four steps as one task group that is mapped over the sites; returns what each delivered.

    :param plan: what `PrepareExportOperator` froze, its `.plan`
    :param site_ids: what `PrepareExportOperator` returns, its `.output`, or some of it
    :param group_id: name of the task group
    :param prefix_group_id: whether it stands before the names of its tasks, as two groups in one DAG need it
    :param sites_at_once: how many sites are at the same step at once, over all runs: what is slow or dead leaves
        workers to the other DAGs
    :param transfers_at_once: how many sites are copied or delivered to the target at once (default: `sites_at_once`);
        not more than the `max_connections` of an SFTP server
    """
    site: dict[str, Any] = {"max_active_tis_per_dag": sites_at_once}
    transfer: dict[str, Any] = {"max_active_tis_per_dag": transfers_at_once or sites_at_once}

    @task_group(group_id=group_id, prefix_group_id=prefix_group_id)
    def one_site(site_id: Any) -> Any:
        same: dict[str, Any] = {"plan": plan, "site_id": site_id}
        extract = ExtractOperator(task_id="extract", **same, **site)
        transform = TransformOperator(task_id="transform", extracted=_OfSameSite(extract), **same, **site)
        same["transformed"] = _OfSameSite(transform)
        images = CopyImagesOperator(task_id="copy_images", **same, **transfer)
        return DeliverOperator(task_id="deliver", images=_OfSameSite(images), **same, **transfer).output

    delivered: Any = one_site.expand(site_id=site_ids)
    found: XComArg = delivered
    return found
