"""The alerts of the watch and of the audit: windows that are late, customer files that are broken so that no window
runs, and delivered files that are gone or damaged.

One alert may speak of many exports, so that a scheduler that was down for a night is one mail and not a thousand.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

from data_export.alerts.alert import Alert, backfill_command, cause_of, shortened, window_as_text
from data_export.alerts.watch import Late
from data_export.config.models import dag_id
from data_export.window import ExportWindow

_STATES = {
    "none": "no run was made",
    "queued": "its run is queued",
    "running": "its run is still going on",
    "failed": "its run has failed",
}
_FIXES = {
    "missing": "Airflow has no DAG of the export: look at its import errors, and whether the dag-processor runs.",
    "none": "Where no run was made, the scheduler was down or the DAG was broken when it was due, and Airflow does not "
    "make up for that by itself: backfill the window. Where interval or timezone was changed on a live export, the "
    "time between the last window as it was and the first new one is in no window, and the window here holds it: "
    "trigger that time by hand, with from and to.",
    "queued": "Where a run is queued, look at the DAG's other runs, at the pools and at the workers.",
    "running": "Where a run is still going on, its log says what it waits for or why it tries again.",
    "failed": "Where a run has failed, its log says why; clear the failed task with everything downstream.",
}


LATE, BROKEN = cause_of("late", "late"), cause_of("late", "broken")
DAMAGED = cause_of("audit", "damaged")


def broken_cause(problems: Iterable[str]) -> str:
    """Another one where the file is broken in another way, which somebody who fixes it wants to know."""
    return cause_of("late", BROKEN, "\n".join(problems))


def late_alert(late: Sequence[Late], ui: str, repeated: Mapping[str, str]) -> Alert:
    """Says which windows were not delivered in time, what became of their runs, and how to make it good.

    Args:
        late: in order of exports and windows; not empty.
        ui: base address of Airflow's UI.
        repeated: by export, when an alert was sent before.
    """
    names = tuple(dict.fromkeys(entry.export for entry in late))
    whose = f"{names[0]} is" if len(names) == 1 else "are"
    seen = {str(entry.standing if entry.standing == "missing" else entry.run) for entry in late}
    return Alert(
        occasion="late",
        exports=names,
        cause=LATE,
        subject=f"Data export{'s' * (len(names) != 1)} {whose} late",
        lead="These windows are over, and their data was not delivered in time.",
        items=shortened([f"{entry.export}: {window_as_text(entry.window)}: {_STATES[entry.run]}" for entry in late]),
        fix=" ".join(text for state, text in _FIXES.items() if state in seen),
        commands=_commands(late),
        link=_link(names, ui),
        repeated=_repeated(names, repeated),
    )


def late_recovery_alert(
    delivered: Mapping[str, Sequence[ExportWindow]], missing: Mapping[str, Sequence[ExportWindow]], ui: str
) -> Alert:
    """Says that windows which were reported late are delivered, and which are still missing.

    Args:
        delivered: by export, the windows; not empty.
        missing: by export, the windows that are late still, of these exports.
    """
    names = tuple(delivered)
    whose = f"{names[0]} delivers" if len(names) == 1 else "deliver"
    left = [f"{name}: {window_as_text(window)}: not delivered yet" for name in names for window in missing[name]]
    done = [f"{name}: {window_as_text(window)}: delivered" for name in names for window in delivered[name]]
    return Alert(
        occasion="recovery",
        exports=names,
        cause=cause_of("recovery", LATE),
        subject=f"Data export{'s' * (len(names) != 1)} {whose} again",
        lead="These windows were reported late, and are delivered now.",
        items=shortened([*left, *done]),
        fix="Windows that are not delivered yet are still late: what the alert says of them holds."
        if left
        else "Nothing is to be done.",
        link=_link(names, ui),
    )


def broken_alert(problems: Mapping[str, Sequence[str]], ui: str, repeated: Mapping[str, str]) -> Alert:
    """Says which exports do not run because their customer files are broken, and each problem with its fix."""
    names = tuple(problems)
    one = len(names) == 1
    return Alert(
        occasion="late",
        exports=names,
        cause=BROKEN,
        subject=f"Data export {names[0]} does not run: its file is broken" if one else "Data exports do not run",
        lead="The customer file is broken, so that no window of the export runs."
        if one
        else "These customer files are broken, so that no window of their exports runs.",
        items=shortened([line for lines in problems.values() for line in lines]),
        fix="Fix the file: the export goes on within a minute. Windows that are missing then get an alert too.",
        commands=("python -m data_export_airflow validate",),
        link=_link(names, ui),
        repeated=_repeated(names, repeated),
    )


def damaged_alert(damaged: Mapping[str, Sequence[str]], repaired: Collection[str], ui: str) -> Alert:
    """Says which exports have files at their targets that are gone, or are not what was delivered.

    Args:
        damaged: by export, what was found, a line each.
        repaired: the exports of which windows are delivered again.
    """
    names = tuple(damaged)
    left = [name for name in names if name not in repaired]
    whose = f"{names[0]} has" if len(names) == 1 else "have"
    again = "Windows are being delivered again: " + ", ".join(sorted(repaired)) + ". " if repaired else ""
    return Alert(
        occasion="audit",
        exports=names,
        cause=DAMAGED,
        subject=f"Data export{'s' * (len(names) != 1)} {whose} damaged files",
        lead="The audit found files at the target that are gone, or are not what was delivered.",
        items=shortened([f"{name}: {line}" for name, lines in damaged.items() for line in lines]),
        fix=f"{again}Deliver the windows again, or, where the customer removes files once they are loaded, say so in "
        "the customer file: audit: {enabled: false}, or {days: N} for how long they stay.",
        commands=shortened([f"python -m data_export_airflow audit {name} --repair" for name in left]),
        link=_link(names, ui),
    )


def _commands(late: Sequence[Late]) -> tuple[str, ...]:
    """One backfill for each export with windows that have no run."""
    commands = []
    for name, entries in groupby(late, key=lambda entry: entry.export):
        windows = sorted((entry.window for entry in entries if entry.run == "none"), key=lambda window: window.start)
        if windows:
            commands.append(backfill_command(name, windows[0], windows[-1]))
    return shortened(commands)


def _link(names: Sequence[str], ui: str) -> str:
    return f"{ui}/dags/{dag_id(names[0])}" if len(names) == 1 else f"{ui}/plugin/data-exports"


def _repeated(names: Sequence[str], repeated: Mapping[str, str]) -> str:
    if len(names) == 1:
        return repeated.get(names[0], "")
    again = sum(bool(repeated.get(name)) for name in names)
    return f"You were alerted about {again:,} of them before." if again else ""
