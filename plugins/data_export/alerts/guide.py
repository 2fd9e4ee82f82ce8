"""What each error means and what to do about it. `make commands` makes docs/errors.md and the page's errors.html of it.

The anchor of an error is its name in small letters and never changes: logs, notes and mails of years link to it.
"""

from typing import NamedTuple

AT_ONCE, AFTER_RETRIES = "at once, since a retry cannot help", "after retries over about an hour"
#: Of every `AFTER_RETRIES`.
ABOUT_RETRIES = "`notify` tries for some minutes only, and watch, maintenance and audit once more."
OTHER = "Other errors"


class Guide(NamedTuple):
    """One error: when it fails a task, what it means, and what to do; `{export}` stands for the export's name."""

    fails: str
    means: str
    fix: str


_RERUN = "Then clear the failed task with everything downstream: what was delivered is found and not sent again."
_REPLAN = "Then clear `prepare` with everything downstream, since a run keeps the configuration it began with."
_CHECK = "`python -m data_export_airflow check {export}` tries it without a run."
_DOWN = f"Every retry met this. Look at the server and the network between; {_CHECK} {_RERUN}"

#: By the class of the error (`data_export.errors`), and by the name of what Airflow or a worker met.
GUIDES = {
    "ConfigError": Guide(
        f"{AT_ONCE}; where the customer file is gone, after retries, since it may come back; where the line names "
        "`platform.yaml` or `tenants.yaml`, and that changed within five minutes, it is tried again",
        "A customer file, `platform.yaml`, an environment variable or an Airflow connection is wrong or missing, or "
        "two customer files would write the same files.",
        f"Correct the setting that the reason names. {_REPLAN}",
    ),
    "BrokenFile": Guide(
        "at once; it is tried again within five minutes of the last change of the file, `platform.yaml` or "
        "`tenants.yaml`, when it may be half written, and where the file is gone or its disk does not answer",
        "The customer file is broken. The DAG returns by itself when it is fixed.",
        f"Correct the customer file; `python -m data_export_airflow validate` names every problem. {_REPLAN}",
    ),
    "LimitExceeded": Guide(
        AT_ONCE,
        "The window breaks a limit of the platform or of the customer file; nothing was read.",
        "Choose a window within the limit, or change `limits` in platform.yaml or the dates of the file.",
    ),
    "SourceRejected": Guide(
        AT_ONCE,
        "PostgreSQL refuses the login, or a table, column or right is missing; the line names the query and its line.",
        "Correct the login, the rights or the queries of the source (`include/sql/`, where its schema differs). "
        f"{_CHECK} {_RERUN}",
    ),
    "ValueRejected": Guide(
        AT_ONCE,
        "PostgreSQL cannot read or convert one of its own values, or a function, subquery or domain there refuses it, "
        "and that is no matter of single work orders: more than a thousand of the window have such a value, or none "
        "has it alone; the line says which.",
        f"Correct the values at the source, or the query that reads them or what it calls. {_RERUN}",
    ),
    "SourceUnavailable": Guide(AFTER_RETRIES, "PostgreSQL is not reached, restarted, or cancelled the query.", _DOWN),
    "CredentialsUnavailable": Guide(
        AFTER_RETRIES,
        "The secrets backend, Airflow's API server or a machine's metadata server did not answer, so that a "
        "connection, Variable or credential could not be read.",
        "Look at what the reason names: a secrets backend, Airflow's API server, or the metadata server of the "
        f"workers' machines. {_CHECK} {_RERUN}",
    ),
    "InvalidRecord": Guide(
        AT_ONCE,
        "The delivered format cannot express a row, the source cannot read a value of it or refuses it by a function, "
        "subquery or domain that a query of yours uses, or it is larger than `limits.max_record_mb`; the line names "
        "work order, field and, where the source refused a value, its table and column.",
        "Correct the record at the source or what refuses it, or set `on_invalid: quarantine` in the customer file to "
        f"set such records aside. {_REPLAN}",
    ),
    "AccessDenied": Guide(
        AT_ONCE,
        "A server refuses a key, a login or a permission; the line names the permission or role.",
        f"Have the right granted, or the key corrected. {_CHECK} {_RERUN} Where the customer file changes: "
        + _REPLAN.removeprefix("Then "),
    ),
    "CredentialsRefused": Guide(
        AT_ONCE,
        "The server refuses the login, key, secret or token itself: it is mistyped or expired, its account is "
        "disabled, or the worker's clock is wrong.",
        f"Renew or correct the key, secret or token of the Airflow connection. {_CHECK} {_RERUN}",
    ),
    "HostKeyMismatch": Guide(
        AT_ONCE,
        "The SFTP server does not have the pinned host key; nothing was sent.",
        "Ask the server's administrator for its host key, through another channel: it was replaced, or somebody is in "
        "between; `python -m data_export_airflow check --host-key HOST` shows the present one. Correct `sftp_host_key` "
        f"in the customer file, or `host_key` of the connection. {_REPLAN}",
    ),
    "OverwriteRefused": Guide(
        AT_ONCE,
        "A delivered file would change, and the target lets us create only.",
        "Have the right that the reason names granted (at Cloud Storage `storage.objects.delete`), or set "
        f"`if_exists: keep` or `revision`. {_REPLAN}",
    ),
    "TargetNotFound": Guide(
        AT_ONCE,
        "The bucket or folder does not exist and we may not create it; or a file that was there a moment ago is gone.",
        f"Have the bucket or folder made, or correct its name in the customer file. {_CHECK} {_REPLAN}",
    ),
    "TargetRefused": Guide(
        AT_ONCE,
        "The server refuses such a name or a rename, or has a folder where a file must be; with "
        "`on_image_failure: fail` also that an image could not be read or stored, as the line says.",
        "Change what the target does not take, as the reason says; a drop box needs `sftp_upload: direct` and "
        f"`verify: none`. {_REPLAN}",
    ),
    "ObjectRefused": Guide(
        AT_ONCE,
        "One object is archived, damaged, infected or too large. An image alone fails no run, unless "
        "`on_image_failure: fail` says so, a data file does.",
        f"Change what this one object meets, as the reason says. {_CHECK} {_RERUN}",
    ),
    "TargetUnavailable": Guide(
        AFTER_RETRIES, "The network failed, or the server throttled, answered 5xx or stopped responding.", _DOWN
    ),
    "TargetFull": Guide(
        AFTER_RETRIES, "The disk or quota at the target is full.", f"Have room made at the target. {_RERUN}"
    ),
    "VerificationFailed": Guide(
        AFTER_RETRIES,
        "The target confirms a different size or checksum than was sent.",
        "Look at the target's disk and network; if it persists, `verify: read-back` in the customer file of an SFTP "
        f"export shows where. {_RERUN}",
    ),
    "RecipientsRefused": Guide(
        AT_ONCE,
        "The mail server permanently refuses every address in `emails`. If it accepts some, the run succeeds, its note "
        "and receipt count the refused ones, and an alert names them.",
        "Correct `emails` in the customer file, or ask the server's administrator. The next run uses the corrected "
        f"addresses; for this one: {_REPLAN.removeprefix('Then ')} That mails a new link to everybody.",
    ),
    "SignatureRejected": Guide(
        AT_ONCE,
        "A plan or a result of this run is not what its tasks signed: somebody edited an XCom, or the signing key was "
        "replaced.",
        f"Look in Airflow's audit log who edited an XCom of the run. {_REPLAN}",
    ),
    "StagedFileGone": Guide(
        AT_ONCE,
        "What an earlier task of this run staged was cleaned up after its success, or is older than "
        "`staging.keep_failed_days`.",
        "Clear `prepare` with everything downstream: the run's files were removed.",
    ),
    "CheckFailed": Guide(
        AT_ONCE,
        "`data_export_check` found something that would make an export fail.",
        "Each step that failed says what to change, in the check's log and on the export's page. Then check again.",
    ),
    "ObjectExists": Guide(
        AT_ONCE,
        "Users never see it: a write that must not replace found a file, which is then compared.",
        "Report it: this is a fault of the service.",
    ),
    "AirflowTaskTimeout": Guide(
        "at the second timeout",
        "A task ran for as long as it may: `extract` 6 hours, `copy_images` and `deliver` a day, those of watch and "
        "maintenance less; the line says how long.",
        "Look in the log at how far it came, and at the database or the customer's server. Images that are copied are "
        "not copied again, so a cleared task goes on from there; a window that is too big for one run is exported in "
        "several.",
    ),
    "WorkerLost": Guide(
        AFTER_RETRIES,
        "The last try ended without a word: its worker was killed, ran out of memory, was shut down, or lost the API "
        "server.",
        "Look at the worker for a restart, a full disk or too little memory; the task's log may end before it. "
        f"{_RERUN}",
    ),
    "NotStarted": Guide(
        AFTER_RETRIES,
        "No worker began the last try; the line says what the try before met, if it met an error.",
        f"Look at the workers: whether they run, have free slots, and reach Redis and the API server. {_RERUN}",
    ),
    "PermanentError": Guide(
        AT_ONCE,
        "The family of errors that a retry cannot fix; by itself mostly a fault of mail, such as a refused sender.",
        f"Do as the line says. {_RERUN}",
    ),
    "TransientError": Guide(AFTER_RETRIES, "The family of errors that may pass by themselves.", _DOWN),
    "DataExportError": Guide(
        "as the line says", "The family of all errors of the service.", f"Do as the line says. {_RERUN}"
    ),
    OTHER: Guide(
        "as Airflow does: after retries",
        "The error is not one of the service's own: a library, Airflow or the machine raised it. Its words are in the "
        "task's log only, since they may hold a secret.",
        f"Read the end of the task's log. {_RERUN}",
    ),
}


def kind_of(error: BaseException) -> str:
    """The name under which people read of an error: its class, or the nearest class above that has a guide.

    A connector's own refinement, of which no guide speaks, is what it refines; a foreign error keeps its own name.
    """
    names = [each.__name__ for each in type(error).__mro__]
    return next((name for name in names if name in GUIDES), names[0])


def fix_of(error: str, export: str) -> str:
    """What to do about an error of this name, in a few sentences."""
    return GUIDES.get(error, GUIDES[OTHER]).fix.format(export=export)


def anchor_of(error: str) -> str:
    """`accessdenied`, as in docs/errors.md#accessdenied."""
    return (error if error in GUIDES else OTHER).lower().replace(" ", "-")
