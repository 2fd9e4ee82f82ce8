"""What a person does about each class of error; the reason itself says what is wrong."""

_RERUN = "Then clear the failed task with everything downstream: what was delivered is found and not sent again."
_REPLAN = "Then clear `prepare` with everything downstream, since a run keeps the configuration it began with."
_CHECK = "`python -m data_export_airflow check {export}` tries it without a run."
_TRANSIENT = f"Every retry met this. Look at the server and the network between; {_CHECK} {_RERUN}"

#: By the class of the error (`data_export.errors`).
FIXES = {
    "ConfigError": f"Correct the setting that the reason names. {_REPLAN}",
    "BrokenFile": f"Correct the customer file; `python -m data_export_airflow validate` names every problem. {_REPLAN}",
    "LimitExceeded": "Choose a window within the limit, or change `limits` in platform.yaml or the dates of the file.",
    "SourceRejected": f"Correct the login, the rights or the queries of the source. {_CHECK} {_RERUN}",
    "InvalidRecord": "Correct the record at the source, or set `on_invalid: quarantine` in the customer file to set "
    f"such records aside. {_REPLAN}",
    "AccessDenied": f"Have the right granted, or the key corrected. {_CHECK} {_RERUN} Where the customer file changes: "
    + _REPLAN.removeprefix("Then "),
    "HostKeyMismatch": "Ask the server's administrator for its host key: it was replaced, or somebody is in between. "
    f"Correct `sftp_host_key` in the customer file, or `host_key` of the connection. {_REPLAN}",
    "OverwriteRefused": "Have storage.objects.delete granted, or set `if_exists: keep` or `revision`. " + _REPLAN,
    "TargetNotFound": f"Have the bucket or folder made, or correct its name in the customer file. {_CHECK} {_REPLAN}",
    "TargetRefused": f"Change what the target does not take, as the reason says. {_REPLAN}",
    "RecipientsRefused": "Correct `emails` in the customer file, or ask the server's administrator. The next run uses "
    f"the corrected addresses; for this one: {_REPLAN.removeprefix('Then ')} That mails a new link to everybody.",
    "StagedFileGone": "Clear `prepare` with everything downstream: the run's files were removed.",
    "TargetUnavailable": _TRANSIENT,
    "SourceUnavailable": _TRANSIENT,
    "TargetFull": f"Have room made at the target. {_RERUN}",
    "VerificationFailed": f"The target confirms other bytes than were sent: look at its disk and network. {_RERUN}",
    "AirflowTaskTimeout": "Look in the log at how far it came. Images that are copied are not copied again, so a "
    "cleared task goes on from there; a window that is too big for one run is exported in several.",
}
_UNKNOWN = f"Read the end of the task's log. {_RERUN}"


def fix_of(error: str, export: str) -> str:
    """What to do about an error of this class, in a few sentences."""
    return FIXES.get(error, _UNKNOWN).format(export=export)
