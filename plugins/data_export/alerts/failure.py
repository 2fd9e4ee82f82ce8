"""The alert for a task that failed for good, for records that were set aside, and for recipients who are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from data_export.alerts.alert import Alert, backfill_command, cause_of, shortened, trigger_command, window_as_text
from data_export.alerts.guide import fix_of
from data_export.alerts.ledger import Recovered
from data_export.config.models import dag_id
from data_export.receipt import Receipt
from data_export.window import ExportWindow

_IMAGES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed for good, as far as it may be shown."""

    export: str
    dag_id: str
    task: str
    #: Class of the error.
    error: str
    #: The line of the service's own errors, which hold no secret; of others what may be said of them.
    message: str
    link: str
    #: None where the run failed before it had one.
    window: ExportWindow | None = None
    site: str = ""
    #: Whether the schedule or a backfill made the run, so that a backfill makes it again.
    has_interval: bool = True
    #: Address of what is known of the error.
    guide: str = ""


def failure_alert(failure: Failure) -> Alert:
    """Says customer, window, site, task, reason, fix, where to look and how to run it again."""
    facts = (
        ("Export", failure.export),
        ("Window", window_as_text(failure.window) if failure.window else ""),
        ("Site", failure.site),
        ("Task", failure.task),
        ("Reason", f"{failure.error}: {failure.message}"),
    )
    return Alert(
        occasion="failure",
        exports=(failure.export,),
        cause=cause_of("failure", failure.error, failure.message),
        subject=f"Data export {failure.export} failed: {failure.error}",
        lead=f"A run of the data export {failure.export} has failed and is not tried again by itself.",
        facts=tuple((label, value) for label, value in facts if value),
        fix=fix_of(failure.error, failure.export),
        commands=_again(failure),
        link=failure.link,
        guide=failure.guide,
    )


def notice_failure_alert(failure: Failure) -> Alert:
    """Says that the notice of what a run has delivered may not be out, whatever the reason."""
    return replace(
        failure_alert(failure),
        subject=f"Data export {failure.export}: a notice is not out: {failure.error}",
        lead=f"A run of the data export {failure.export} has delivered, but its notice may not be out.",
        fix="Correct what the reason says, such as the receiver, the worker, or address and secret in `on_delivery` of "
        "the customer file. The DAG data_export_watch sends what is left for a day after the delivery; nothing is to "
        "be run again.",
        commands=(),
    )


def maintenance_failure_alert(failure: Failure) -> Alert:
    """Says that left-overs are not removed; its `export` is its DAG."""
    return _service_alert(
        failure,
        what="The maintenance of the data exports",
        consequence="what killed runs left, and old logs, stay until it succeeds",
        fix="Correct what the reason says, or switch the step off in `maintenance` of platform.yaml. Nothing is to be "
        "run again: the next run removes what this one left.",
    )


def audit_failure_alert(failure: Failure) -> Alert:
    """Says that nobody looks whether delivered files are still there; its `export` is its DAG."""
    return _service_alert(
        failure,
        what="The audit of the data exports",
        consequence="files that are gone from targets, or damaged there, may not be found until it succeeds",
        fix="Correct what the reason says, and clear the task or wait for the next audit, which looks at the same.",
    )


def watch_failure_alert(failure: Failure) -> Alert:
    """Says that nobody looks for late windows, since the watch itself has failed; its `export` is its DAG."""
    return _service_alert(
        failure,
        what="The watch for late data exports",
        consequence="until it succeeds again, nobody is alerted about windows that are late and of customer files that "
        "are broken",
        fix="Correct what the reason says, such as staging, the customers folder or platform.yaml, or read the end of "
        "the task's log. Nothing is to be run again: the next look finds what this one missed.",
    )


def notices_failure_alert(failure: Failure) -> Alert:
    """Says that customers' receivers may lack a notice of a delivery; its `export` is the watch's DAG."""
    return _service_alert(
        failure,
        what="Sending notices of data exports again",
        consequence="receivers of `on_delivery` may not have heard of a delivery; the reason names those given up",
        fix="Correct what the reason says, such as the address in `on_delivery` of the customer file, and tell the "
        "customer that the data is there. What was not given up is sent again with the next look of the watch.",
    )


def _service_alert(failure: Failure, what: str, consequence: str, fix: str) -> Alert:
    """About a DAG of the service itself, which no customer waits for."""
    return Alert(
        occasion="failure",
        exports=(failure.export,),
        cause=cause_of("failure", failure.error, failure.message),
        subject=f"{what} failed: {failure.error}",
        lead=f"The DAG {failure.dag_id} has failed: {consequence}. The exports themselves go on.",
        facts=(("DAG", failure.dag_id), ("Task", failure.task), ("Reason", f"{failure.error}: {failure.message}")),
        fix=fix,
        link=failure.link,
        guide=failure.guide,
    )


def quarantine_alert(receipt: Receipt, place: str, keep_days: int, link: str) -> Alert:
    """Says which sites had records that the format cannot express, and where they lie.

    Args:
        place: address in staging below which the records are.
    """
    sites = [site for site in receipt.sites if site.quarantined]
    count = sum(site.quarantined for site in sites)
    of_all = {
        site.site_id: "" if site.work_orders != 0 else ", all of the window: its data file is empty" for site in sites
    }
    fix = "Correct the records at the source, then clear the run from `prepare` on; each line of the file says what is "
    fix += "wrong with its record."
    if any(of_all.values()):
        fix += " Where all of a window were set aside, look first whether a query in include/sql/ was edited."
    return Alert(
        occasion="quarantine",
        exports=(receipt.export,),
        cause=cause_of("quarantine", ""),
        subject=f"Data export {receipt.export} set records aside",
        lead=f"The data was delivered without {count:,} work orders that its format cannot express.",
        facts=(
            ("Export", receipt.export),
            ("Window", window_as_text(receipt.export_window)),
            ("Set aside", f"{place} (quarantine.json of each site, kept for {keep_days} days)"),
        ),
        items=tuple(
            f"site {site.name or site.site_id}: {site.quarantined:,} work orders{of_all[site.site_id]}"
            for site in sites
        ),
        fix=fix,
        link=link,
    )


def images_alert(receipt: Receipt, link: str) -> Alert:
    """Says which images could not be read or stored, while the data and the others were delivered."""
    sites = [site for site in receipt.sites if site.images and site.images.failed]
    reasons = [line for site in sites if site.images for line in site.images.failures]
    count = receipt.totals()["images_failed"]
    return Alert(
        occasion="failure",
        exports=(receipt.export,),
        cause=cause_of("failure", "ImagesFailed"),
        subject=f"Data export {receipt.export} could not copy every image",
        lead=f"The data was delivered, but {count:,} of its images could not be read or stored.",
        facts=(("Export", receipt.export), ("Window", window_as_text(receipt.export_window))),
        items=tuple(reasons[:_IMAGES_NAMED]),
        fix="Correct what the reasons say, then clear the run from `extract` on: it tries these images again. Set "
        "`on_image_failure: fail` in the customer file where the data must wait for all images.",
        link=link,
    )


def refused_alert(receipt: Receipt, link: str) -> Alert:
    """Says which recipients of a link have no mail, masked, while others have theirs."""
    count = len(receipt.refused_recipients)
    return Alert(
        occasion="failure",
        exports=(receipt.export,),
        cause=cause_of("failure", "RecipientsRefused", " ".join(receipt.refused_recipients)),
        subject=f"Data export {receipt.export} does not reach every recipient",
        lead=f"The link was mailed, but the mail server refuses {count:,} of its recipients for good.",
        facts=(("Export", receipt.export), ("Window", window_as_text(receipt.export_window))),
        items=tuple(receipt.refused_recipients),
        fix=fix_of("RecipientsRefused", receipt.export),
        link=link,
    )


def recovery_alert(name: str, export: str | None, recovered: Recovered, link: str) -> Alert:
    """Says that an export delivers again, and what is still missing of what failed.

    Args:
        name: of the export, or of a DAG of the service.
        export: None for a DAG of the service.
    """
    failed = f"{recovered.runs:,} failed run{'s' * (recovered.runs != 1)}"
    missing = recovered.missing
    what = f"data export {name}" if export else f"DAG {name}"
    fix = "Nothing is to be done."
    if missing:
        fix = "These windows failed and are not delivered yet: run them again, as soon as their cause is gone."
    return Alert(
        occasion="recovery",
        exports=(name,),
        cause=cause_of("recovery", ""),
        subject=f"{what[0].upper()}{what[1:]} {'delivers' if export else 'works'} again",
        lead=f"The {what} {'has delivered' if export else 'has succeeded'} again after {failed}.",
        items=shortened([f"{window_as_text(window)}: not delivered yet" for window in missing]),
        fix=fix,
        commands=_deliver(export, missing) if export else (),
        link=link,
    )


def _deliver(export: str, missing: Mapping[ExportWindow, bool]) -> tuple[str, ...]:
    """One backfill for the windows of the schedule, and a run by hand for each range that was run by hand."""
    windows = [window for window, by_hand in missing.items() if not by_hand]
    commands = [backfill_command(export, windows[0], windows[-1])] if windows else []
    commands += [trigger_command(dag_id(export), window) for window, by_hand in missing.items() if by_hand]
    return shortened(commands)


def _again(failure: Failure) -> tuple[str, ...]:
    if failure.window is None:
        return ()
    if failure.has_interval:
        return (backfill_command(failure.export, failure.window, failure.window),)
    return (trigger_command(failure.dag_id, failure.window),)
