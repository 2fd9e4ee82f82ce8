"""The alert for a task that failed for good, for records that were set aside, and for recipients who are refused."""

import json
import shlex
from dataclasses import dataclass

from data_export.alerts.alert import Alert, cause_of
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
    )


def maintenance_failure_alert(failure: Failure) -> Alert:
    """Says that left-overs are not removed; its `export` is its DAG."""
    return Alert(
        occasion="failure",
        exports=(failure.export,),
        cause=cause_of("failure", failure.error, failure.message),
        subject=f"The maintenance of the data exports failed: {failure.error}",
        lead=f"The DAG {failure.dag_id} has failed: what killed runs left, and old logs, stay until it succeeds. The "
        "exports themselves go on.",
        facts=(("DAG", failure.dag_id), ("Task", failure.task), ("Reason", f"{failure.error}: {failure.message}")),
        fix="Correct what the reason says, or switch the step off in `maintenance` of platform.yaml. Nothing is to be "
        "run again: the next run removes what this one left.",
        link=failure.link,
    )


def watch_failure_alert(failure: Failure) -> Alert:
    """Says that nobody looks for late windows, since the watch itself has failed; its `export` is its DAG."""
    return Alert(
        occasion="failure",
        exports=(failure.export,),
        cause=cause_of("failure", failure.error, failure.message),
        subject=f"The watch for late data exports failed: {failure.error}",
        lead=f"The DAG {failure.dag_id} has failed: until it succeeds again, nobody is alerted about windows that are "
        "late and of customer files that are broken. The exports themselves go on.",
        facts=(("DAG", failure.dag_id), ("Task", failure.task), ("Reason", f"{failure.error}: {failure.message}")),
        fix="Correct what the reason says, such as staging, the customers folder or platform.yaml, or read the end of "
        "the task's log. Nothing is to be run again: the next look finds what this one missed.",
        link=failure.link,
    )


def quarantine_alert(receipt: Receipt, place: str, keep_days: int, link: str) -> Alert:
    """Says which sites had records that the format cannot express, and where they lie.

    Args:
        place: address in staging below which the records are.
    """
    sites = [site for site in receipt.sites if site.quarantined]
    count = sum(site.quarantined for site in sites)
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
        items=tuple(f"site {site.name or site.site_id}: {site.quarantined:,} work orders" for site in sites),
        fix="Correct the records at the source, then clear the run from `prepare` on; each line of the file says what "
        "is wrong with its record.",
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
        fix="Correct what the reasons say, then clear the run from `copy_images` on: it tries these images again. Set "
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


def window_as_text(window: ExportWindow) -> str:
    """`2025-03-16 00:00 to 2025-03-17 00:00 UTC`."""
    start, end = (f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00") for moment in (window.start, window.end))
    return f"{start} to {end} UTC"


def backfill_command(export: str, first: ExportWindow, last: ExportWindow) -> str:
    """Runs every window from the first to the last again, those excepted that succeeded; shows them first and asks."""
    start, end = first.start.isoformat(), last.end.isoformat()
    return f"python -m data_export_airflow backfill {export} --from {start} --to {end} --reprocess failed"


def trigger_command(dag: str, window: ExportWindow) -> str:
    """Runs a range by hand, whatever the windows of the schedule are."""
    conf = {"from": window.start.isoformat(), "to": window.end.isoformat()}
    return f"airflow dags trigger {dag} --conf {shlex.quote(json.dumps(conf))}"


def _again(failure: Failure) -> tuple[str, ...]:
    if failure.window is None:
        return ()
    if failure.has_interval:
        return (backfill_command(failure.export, failure.window, failure.window),)
    return (trigger_command(failure.dag_id, failure.window),)


_RERUN = "Then clear the failed task with everything downstream: what was delivered is found and not sent again."
_REPLAN = "Then clear `prepare` with everything downstream, since a run keeps the configuration it began with."
_CHECK = "`python -m data_export_airflow check {export}` tries it without a run."
_TRANSIENT = f"Every retry met this. Look at the server and the network between; {_CHECK} {_RERUN}"

#: By the class of the error (`data_export.errors`).
FIXES = {
    "ConfigError": f"Correct the setting that the reason names. {_REPLAN}",
    "BrokenFile": f"Correct the customer file; `python -m data_export_airflow validate` names every problem. {_REPLAN}",
    "LimitExceeded": "Choose a window within the limit, or change `limits` in platform.yaml or the dates of the file.",
    "ValueRejected": f"Correct the value at the source, which the reason names. {_RERUN}",
    "SourceRejected": f"Correct the login, the rights or the queries of the source. {_CHECK} {_RERUN}",
    "InvalidRecord": "Correct the record at the source, or set `on_invalid: quarantine` in the customer file to set "
    f"such records aside. {_REPLAN}",
    "AccessDenied": f"Have the right granted, or the key corrected. {_CHECK} {_RERUN} Where the customer file changes: "
    + _REPLAN.removeprefix("Then "),
    "HostKeyMismatch": "Ask the server's administrator for its host key: it was replaced, or somebody is in between. "
    f"Correct `sftp_host_key` in the customer file, or `host_key` of the connection. {_REPLAN}",
    "CredentialsRefused": f"Renew or correct the key, secret or token of the Airflow connection. {_CHECK} {_RERUN}",
    "OverwriteRefused": "Have storage.objects.delete granted, or set `if_exists: keep` or `revision`. " + _REPLAN,
    "TargetNotFound": f"Have the bucket or folder made, or correct its name in the customer file. {_CHECK} {_REPLAN}",
    "TargetRefused": f"Change what the target does not take, as the reason says. {_REPLAN}",
    "ObjectRefused": f"Change what this one object meets, as the reason says. {_CHECK} {_RERUN}",
    "RecipientsRefused": "Correct `emails` in the customer file, or ask the server's administrator. The next run uses "
    f"the corrected addresses; for this one: {_REPLAN.removeprefix('Then ')} That mails a new link to everybody.",
    "StagedFileGone": "Clear `prepare` with everything downstream: the run's files were removed.",
    "SignatureRejected": f"Look in Airflow's audit log who edited an XCom of the run. {_REPLAN}",
    "TargetUnavailable": _TRANSIENT,
    "SourceUnavailable": _TRANSIENT,
    "CredentialsUnavailable": "Look at what the reason names: a secrets backend, Airflow's API server, or the "
    f"metadata server of the workers' machines. {_CHECK} {_RERUN}",
    "TargetFull": f"Have room made at the target. {_RERUN}",
    "VerificationFailed": f"The target confirms other bytes than were sent: look at its disk and network. {_RERUN}",
    "NotStarted": "Look at the workers: whether they run, have free slots, and reach Redis and the API server. "
    f"{_RERUN}",
    "WorkerLost": "Look at the worker for a restart, a full disk or too little memory; the task's log may end before "
    f"it. {_RERUN}",
    "AirflowTaskTimeout": "Look in the log at how far it came. Images that are copied are not copied again, so a "
    "cleared task goes on from there; a window that is too big for one run is exported in several.",
}
_UNKNOWN = f"Read the end of the task's log. {_RERUN}"


def fix_of(error: str, export: str) -> str:
    """What to do about an error of this class, in a few sentences."""
    return FIXES.get(error, _UNKNOWN).format(export=export)
