"""The steps of a run as its tasks call them: each uses only what an earlier task of the same run signed."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from uuid import UUID

from data_export import layout
from data_export.alerts.ledger import has_known
from data_export.config.load import load_named
from data_export.config.models import name_of
from data_export.config.platform import PlatformSettings, load_platform
from data_export.delivery.base import Store
from data_export.delivery.threads import run_async
from data_export.errors import DataExportError, SignatureRejected
from data_export.limits import limits_of
from data_export.plan import ExportPlan, prepare
from data_export.receipt import Extracted, ImagesCopied, Receipt, SiteReceipt, Transformed
from data_export.seal import SIGNATURE, Seal, key_in_staging, keys_of_environment
from data_export_airflow.connections.clients import store
from data_export_airflow.execution.steps import Steps
from data_export_airflow.schedule.windows import window_of_run
from data_export_airflow.telemetry import metrics
from data_export_airflow.telemetry.lineage import of_delivery

PLAN, EXTRACTED, TRANSFORMED, IMAGES, DELIVERED = "plan", "extracted", "transformed", "images", "delivered"
#: The moment of the upgrade to signed plans: runs that began before it may go on with theirs.
UNSIGNED_BEFORE = "DATA_EXPORT_UNSIGNED_BEFORE"
Result = dict[str, Any]
_log = logging.getLogger(__name__)


def seal_of(context: Mapping[str, Any], settings: PlatformSettings) -> Seal:
    """Signs for the run of this context.

    Raises:
        DataExportError: the environment has no key, and none can be had from staging.
    """
    keys = keys_of_environment(os.environ)
    if not keys:
        keys = [run_async(key_in_staging(store(settings.staging.uri, settings.staging.conn_id)))]
    return Seal(keys, (context["ti"].dag_id, context["ti"].run_id))


class SealedSteps:
    """Opens what the task before signed, runs the step, and signs its result.

    Raises, in the constructor and in every method:
        SignatureRejected: a plan or result that this run did not sign, or that is of another site.
    """

    def __init__(self, plan: Any, context: Mapping[str, Any]) -> None:
        settings = load_platform()
        self._seal = seal_of(context, settings)
        self._signed = not isinstance(plan, Mapping) or SIGNATURE in plan
        self.plan = ExportPlan.from_dict(self._open(PLAN, plan))
        self._own_dag = name_of(context["ti"].dag_id) == self.plan.name
        if not self._signed:
            _require_as_filed(self.plan, context, settings)
        self._steps = Steps(self.plan, settings)
        self._source = settings.source.conn_id
        #: Of what `deliver` delivered, for OpenLineage; None where that is not installed or has nowhere to send to.
        self.lineage: Any = None
        #: Whether people may know of failures that `close` ends.
        self.is_recovery = True

    @property
    def has_console(self) -> bool:
        """Whether the provider's console shows what the run delivers."""
        return self._steps.has_console

    def extract(self, site_id: str, attempt: int) -> Result:
        self._check(site_id)
        with self._timed("extract"):
            extracted = self._steps.extract(UUID(site_id), attempt)
        return self._seal.sign(EXTRACTED, extracted.to_dict())

    def transform(self, site_id: str, extracted: Any) -> Result:
        found = Extracted.model_validate(self._open(EXTRACTED, extracted))
        self._check(site_id, found.site_id, found.prefix + "/")
        with self._timed("transform"):
            transformed = self._steps.transform(found)
        return self._seal.sign(TRANSFORMED, transformed.to_dict())

    def copy_images(self, site_id: str, transformed: Any, *, last_try: bool) -> Result | None:
        """None where the export has no images."""
        found = self._transformed(site_id, transformed)
        if not self.plan.export.export_images:
            return None
        with self._timed("copy_images"):
            copied = self._steps.copy_images(found, last_try=last_try)
        if copied is None:
            return None
        metrics.images_copied(self.plan.export.scheme, copied)
        return self._seal.sign(IMAGES, copied.to_dict(), of=found.data_key)

    def deliver(self, site_id: str, transformed: Any, images: Any) -> Result:
        found = self._transformed(site_id, transformed)
        copied = ImagesCopied.model_validate(self._open(IMAGES, images, of=found.data_key)) if images else None
        if copied:
            self._check(site_id, copied.site_id)
        elif self.plan.export.export_images and self._own_dag:
            raise SignatureRejected(
                f"the images of site {site_id} were not copied by this run of {self.plan.name}: their task was marked, "
                "or its result removed, in Airflow: clear copy_images"
            )
        with self._timed("deliver"):
            delivered = self._steps.deliver(found, copied)
        metrics.site_delivered(self.plan.export.scheme, delivered)
        self.lineage = of_delivery(self.plan, delivered, self._source)
        return self._seal.sign(DELIVERED, delivered.to_dict(), of=self.plan.run_token)

    def close(self, sites: Sequence[Any]) -> Receipt:
        """Also refuses a part of the sites; a DAG of somebody's own may have been made for a part.

        Of a run that was cleared for fewer sites Airflow keeps the results of the tasks that it removed, behind the
        others: of a site that has left, or of one that has moved up and is delivered anew.
        """
        results, refusals = self._delivered(sites)
        of_site = {each.site_id: each for each in reversed(results) if each.site_id in self.plan.sites}
        receipts = [of_site[site_id] for site_id in self.plan.sites if site_id in of_site]
        missing = {*self.plan.sites} - of_site.keys()
        unknown = {"", *map(str, missing)}  # a left-over is of a site that has left, or was delivered anew
        for claimed, refusal in refusals:
            if claimed in unknown or not receipts:
                raise refusal
        if len(receipts) < len(sites):
            _log.info("%d results of another plan of this run are left out", len(sites) - len(receipts))
        for receipt in receipts:
            self._check(str(receipt.site_id), None, *self._staged_of(receipt))
        if missing and self._own_dag:
            raise SignatureRejected(
                f"site {min(map(str, missing))} of {self.plan.name} was not delivered by this run: the list of sites "
                "was changed in Airflow: clear the run from `prepare` on"
            )
        with self._timed("close"):
            whole = self._steps.close(receipts, self._look_for_failures)
        metrics.count("data_export.windows", 1, connector=self.plan.export.scheme)
        return whole

    def _delivered(self, sites: Sequence[Any]) -> tuple[list[SiteReceipt], list[tuple[str, SignatureRejected]]]:
        """What the plan's sites delivered, and what nobody signed for this plan, with the site that it claims."""
        results, refusals = list[SiteReceipt](), list[tuple[str, SignatureRejected]]()
        for site in sites:
            try:
                results.append(SiteReceipt.model_validate(self._open(DELIVERED, site, of=self.plan.run_token)))
            except SignatureRejected as refusal:
                refusals.append((str(site.get("site_id")) if isinstance(site, Mapping) else "", refusal))
        return results, refusals

    async def _look_for_failures(self, staging: Store) -> None:
        self.is_recovery = await has_known(staging, self.plan.name)

    def _timed(self, step: str) -> AbstractContextManager[None]:
        return metrics.timed(step, self.plan.export.scheme)

    def notify(self) -> int:
        return self._steps.notify()

    def _transformed(self, site_id: str, value: Any) -> Transformed:
        found = Transformed.model_validate(self._open(TRANSFORMED, value))
        self._check(site_id, found.site_id, found.data_key, found.images_key)
        return found

    def _staged_of(self, receipt: SiteReceipt) -> list[str]:
        """The staged files that `close` reads, and hands to the customer."""
        by_mail = self.plan.export.connector_config.recipients() != ()
        lists = receipt.images.missing_list if receipt.images else None
        return [uri.removeprefix(self._steps.staging_uri) for uri in (receipt.uri if by_mail else None, lists) if uri]

    def _open(self, kind: str, value: Any, of: str = "") -> Result:
        if self._signed:
            return self._seal.open(kind, value, of)
        return {key: item for key, item in value.items() if key != SIGNATURE}

    def _check(self, site_id: str, found: UUID | None = None, *staged: str) -> None:
        """The site is the plan's, the result is the site's, and its files are where this run stages that site's."""
        known = {str(site) for site in self.plan.sites}
        if site_id not in known or found not in (None, UUID(site_id)):
            raise SignatureRejected(
                f"site {found if site_id in known else site_id} is not what this task of {self.plan.name} is for: "
                "the run's sites, or a result, were changed in Airflow: clear the run from `prepare` on"
            )
        own = re.compile(
            re.escape(layout.staging_site_prefix(self.plan.staging_prefix, UUID(site_id), 0))[:-1] + r"\d+/[a-z.-]*"
        )
        for key in staged:
            if not own.fullmatch(key):
                raise SignatureRejected(
                    f"staged file {key} is not one of site {site_id} in this run: clear the run from `prepare` on"
                )


def _require_as_filed(plan: ExportPlan, context: Mapping[str, Any], settings: PlatformSettings) -> None:
    """An unsigned plan, as the version before signatures froze it, counts where `prepare` would freeze the same now.

    And only in a run that began before the upgrade, of which `DATA_EXPORT_UNSIGNED_BEFORE` is the moment: anybody can
    take a signature away, but nobody can begin a run earlier.
    """
    try:
        upgraded = datetime.fromisoformat(os.environ.get(UNSIGNED_BEFORE, ""))
        export = load_named(plan.name)
        limits = limits_of(plan.name, export, settings.limits)
        now = datetime.fromisoformat(plan.created_at)
        same = prepare(plan.name, export, window_of_run(export, context, limits.settle), limits, now)
        own = name_of(context["ti"].dag_id) == plan.name and bool(re.fullmatch(r"[0-9a-f]{32}", plan.run_token))
        own = own and context["dag_run"].start_date < upgraded
        alike = (same.window, same.export.model_dump(mode="json")) == (plan.window, plan.export.model_dump(mode="json"))
    except (DataExportError, ValueError, TypeError):  # also a moment without a zone, or a run without a beginning
        own = alike = False
    if not (own and alike):
        raise SignatureRejected(
            f"the plan of {plan.name} is not signed, and is not what the customer file says now or its run began after "
            f"{UNSIGNED_BEFORE}: it was changed in Airflow, or an older version of the service made it: clear the run "
            "from `prepare` on"
        )
