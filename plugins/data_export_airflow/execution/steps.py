"""The core's steps with clients from Airflow connections, for tasks and for a run without a scheduler."""

import logging
import smtplib
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import SystemRandom
from time import monotonic
from uuid import UUID

from data_export.config.folder import require_listed
from data_export.config.load import load_customer, load_customers
from data_export.config.platform import PlatformSettings, load_platform
from data_export.config.sections import OnDelivery
from data_export.config.tenants import require_bounds
from data_export.delivery.base import Destination, Store
from data_export.delivery.threads import run_async
from data_export.errors import DataExportError, PermanentError, TargetRefused
from data_export.images import split_images_uri
from data_export.limits import limits_of
from data_export.pipeline.link import mail_link
from data_export.pipeline.manifest import deliver_manifest
from data_export.pipeline.notice import Means, let_go, record, send_left
from data_export.pipeline.receipts import deliver_receipts, make_receipt, site_receipt
from data_export.pipeline.site import copy_site_images, deliver_site, extract_site, stage_site, transform_site
from data_export.pipeline.staging import clean_up
from data_export.plan import ExportPlan, prepare
from data_export.receipt import Extracted, ImagesCopied, Receipt, SiteReceipt, Transformed
from data_export.window import ExportWindow
from data_export_airflow.connections.clients import AirflowConnections, destination, has_console, smtp_factory, store
from data_export_airflow.connections.source import source_dsn

_NOTIFY = timedelta(minutes=25)  # so long the task `notify` may try
_ALL_SECONDS = 400.0  # for all exports' notices: then the last one's ends well before the task's own limit
_random = SystemRandom()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """The steps of one run. Each makes its own clients, since each may run on another worker."""

    plan: ExportPlan
    settings: PlatformSettings = field(default_factory=load_platform)

    def __post_init__(self) -> None:
        """Each step asks again: a customer's bounds may have been narrowed since the run began."""
        require_bounds(self.plan.name, self.plan.export, self.settings)

    def extract(self, site_id: UUID, attempt: int) -> Extracted:
        source = self.settings.source
        dsn, staging = partial(source_dsn, source.conn_id), self._staging()
        return extract_site(
            self.plan,
            site_id,
            attempt,
            dsn,
            staging,
            row_security=source.row_security,
            late_commit_minutes=source.late_commit_minutes,
            settle=limits_of(self.plan.name, self.plan.export, self.settings.limits).settle,
            max_record_mb=self.settings.limits.max_record_mb,
        )

    def transform(self, extracted: Extracted) -> Transformed:
        limit = self.settings.limits.max_record_mb
        return transform_site(self.plan, extracted, self._staging(), max_record_mb=limit)

    def copy_images(self, transformed: Transformed, *, last_try: bool = True) -> ImagesCopied | None:
        """None where the export has no images. Faults of single images that may pass are raised before `last_try`."""
        if not self.plan.export.export_images:
            return None
        root, key_template = split_images_uri(self.settings.source.images_uri)
        images = store(root, self.settings.source.images_conn_id)
        target, staging = self._target(), self._staging()
        return copy_site_images(self.plan, transformed, images, key_template, target, staging, last_try=last_try)

    def deliver(self, transformed: Transformed, images: ImagesCopied | None) -> SiteReceipt:
        if self._by_mail:
            delivered = stage_site(transformed, self._staging())
        else:
            delivered = deliver_site(self.plan, transformed, self._target(), self._staging())
        return site_receipt(transformed, images, delivered)

    def close(self, sites: list[SiteReceipt], then: Callable[[Store], Awaitable[None]] | None = None) -> Receipt:
        """Mails the link, or delivers the receipt and last the manifest, then clears staging; `then` as `clean_up`."""
        now, staging = datetime.now(UTC), self._staging()
        if self._by_mail:
            receipt = make_receipt(self.plan, "email", sites, now)
            connect = smtp_factory(self.settings.mail.smtp_conn_id)
            receipt = mail_link(self.plan, receipt, staging, self.settings, connect, now)
        else:
            target = self._target()
            receipt = make_receipt(self.plan, target.uri, sites, now)
            if self.plan.export.delivery_receipt:
                receipt = deliver_receipts(self.plan, receipt, target, staging)
            if self.plan.export.manifest:
                manifest = deliver_manifest(self.plan, receipt, self._target())
                receipt = receipt.model_copy(update={"documents": (*receipt.documents, manifest)})
        if self.plan.export.on_delivery:
            run_async(record(receipt, self.plan.export, self._staging(), now))
        clean_up(self.plan, receipt, staging, then)
        return receipt

    def notify(self) -> int:
        """Sends what is left of the window's notices; raises as `send_left` and `report_given_up` do."""
        plan, staging, now, given_up = self.plan, self._staging(), datetime.now(UTC), dict[str, str]()
        means = notice_means(plan.name, self.settings)
        left = list[str]()  # beside what was given up
        try:
            return run_async(send_left(plan.name, plan.export, staging, means, now, given_up, window=plan.window))
        except DataExportError as error:
            left += [str(error)] * bool(given_up)
            raise
        finally:
            report_given_up(given_up, staging, left)

    @property
    def staging_uri(self) -> str:
        return self._staging().uri

    @property
    def has_console(self) -> bool:
        """Whether the provider's console shows what the run delivers."""
        config = self.plan.export.connector_config
        conn_id: str | None = getattr(config, "conn_id", None)
        return has_console(config.address() or "", AirflowConnections("", self.settings.targets), conn_id)

    @property
    def _by_mail(self) -> bool:
        return self.plan.export.connector_config.recipients() != ()

    def _staging(self) -> Store:
        return store(self.settings.staging.uri, self.settings.staging.conn_id)

    def _target(self) -> Destination:
        return destination(self.plan.name, self.plan.export, self.settings)


def notice_means(name: str, settings: PlatformSettings) -> Means:
    """What sending an export's notices needs of this installation."""

    def secret(on: OnDelivery) -> str:
        reference = on.webhook.secret if on.webhook else None
        return AirflowConnections(name).secret("on_delivery.webhook.secret", reference) or ""

    def connect() -> smtplib.SMTP:  # late: a webhook alone needs no mail server
        return smtp_factory(settings.mail.smtp_conn_id)()

    return Means(settings.mail, connect, secret, settings.network.private_webhooks)


def send_left_of_all(settings: PlatformSettings, now: datetime) -> None:
    """Sends again what is left of every export's notices; what `notify` may still be at is left to it.

    In another order each time and for some minutes, so that receivers that hang keep no other's notice back for long.

    Raises:
        TargetRefused: notices were given up, or cannot be sent; each is named. Others are only logged.
        ConfigError: the customers' folder cannot be listed.
        DataExportError: of the staging area's connection.
    """
    require_listed()
    refused, given_up, end = list[str](), dict[str, str](), monotonic() + _ALL_SECONDS
    noticed = [(name, export) for name, export in load_customers().exports.items() if export.on_delivery]
    if not noticed:
        return
    staging = store(settings.staging.uri, settings.staging.conn_id)
    for number, (name, export) in enumerate(_random.sample(noticed, len(noticed))):
        if monotonic() > end:
            _log.warning("%d exports' notices wait for the next look, since others took long", len(noticed) - number)
            break
        try:
            means = notice_means(name, settings)
            run_async(send_left(name, export, staging, means, now, given_up, older=_NOTIFY))
        except PermanentError as error:
            refused.append(str(error))
        except DataExportError as error:
            _log.warning("%s", error)
    report_given_up(given_up, staging, refused)


def report_given_up(given_up: Mapping[str, str], staging: Store, refused: Collection[str] = ()) -> None:
    """Lets go of notices that were given up, at the end of a look: one that is killed leaves them to the next.

    Raises:
        TargetRefused: there are some, or `refused`; each is named.
    """
    if given_up:
        with suppress(DataExportError):  # of staging: they are reported twice rather than never
            run_async(let_go(staging, given_up))
    if words := [*given_up.values(), *refused]:
        raise TargetRefused(f"{'; '.join(words)}; the data was delivered")


def run_export(file: Path, window: ExportWindow) -> Receipt:
    """Exports one window of a customer file and returns the receipt.

    Raises:
        DataExportError: of the first step that fails; what it staged is kept for `staging.keep_failed_days`.
    """
    export = load_customer(file)
    settings = load_platform()
    limits = limits_of(file.stem, export, settings.limits)
    steps = Steps(prepare(file.stem, export, window, limits, datetime.now(UTC)), settings)

    def site(site_id: UUID) -> SiteReceipt:
        transformed = steps.transform(steps.extract(site_id, attempt=1))
        return steps.deliver(transformed, steps.copy_images(transformed))

    receipt = steps.close([site(site_id) for site_id in steps.plan.sites])
    try:
        if export.on_delivery:
            steps.notify()
    except DataExportError as error:
        _log.warning("%s", error)
    return receipt
