"""What merging the customer files as they are would do, put together from git, the schedule and the source."""

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_export.config.fields import NAME
from data_export.config.load import load_customers
from data_export.config.models import AnyExport, dag_id
from data_export.config.platform import PlatformSettings, load_platform
from data_export.errors import ConfigError, DataExportError, LimitExceeded
from data_export.limits import Limit, Limits, check_window, limits_of
from data_export.review import Change, SampleObjects, compare, sample_objects
from data_export.scratch import scratch
from data_export.window import ExportWindow

if TYPE_CHECKING:  # both import Airflow or its like, for seconds: a merge that changes nothing needs neither
    from data_export.source.estimate import Counted
    from data_export_airflow.schedule.windows import PlannedRun

_RUNS = 3
_SECONDS_EACH, _SECONDS = 5.0, 30.0  # that the source is asked, for one export and in all


@dataclass(frozen=True, slots=True)
class PlannedExport:
    """A change and what follows from it; of a removed or broken export only the change.

    `note` is what the runs alone do not say: which windows are none of theirs, or why there is no run.
    """

    change: Change
    runs: "tuple[PlannedRun, ...]" = ()
    note: str | None = None
    seam: str | None = None
    objects: SampleObjects | None = None
    limits: Limits | None = None
    refusals: tuple[str, ...] = ()
    counted: "Counted | None" = None
    counted_in: ExportWindow | None = None

    @property
    def held(self) -> tuple[Limit[Any], ...]:
        """The limits in force."""
        values = (getattr(self.limits, field.name) for field in fields(self.limits)) if self.limits else ()
        return tuple(value for value in values if isinstance(value, Limit))

    def to_dict(self) -> dict[str, Any]:
        change = self.change
        counted = (
            asdict(self.counted) | {"window": self.counted_in.to_dict()} if self.counted and self.counted_in else None
        )
        return {
            "name": change.name,
            "dag_id": dag_id(change.name) if NAME.fullmatch(change.name) else None,
            "change": change.kind,
            "keys": [asdict(key) for key in change.keys],
            "consequences": list(change.consequences),
            "problems": [problem.to_dict() for problem in change.problems],
            "runs": [run.window.to_dict() | {"run_after": run.run_after.isoformat()} for run in self.runs],
            "note": self.note,
            "seam": self.seam,
            "objects": asdict(self.objects) if self.objects else None,
            "limits": {limit.name: {"value": str(limit.value), "set_in": limit.place} for limit in self.held},
            "refusals": list(self.refusals),
            "estimate_per_window": counted,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """`source` says why not everything was counted there; None where it was."""

    since: str
    commit: str
    exports: tuple[PlannedExport, ...]
    unchanged: int
    source: str | None

    def to_dict(self) -> dict[str, Any]:
        exports = [export.to_dict() for export in self.exports]
        return {
            "since": self.since,
            "commit": self.commit,
            "unchanged": self.unchanged,
            "source": self.source,
            "exports": exports,
        }


def make_plan(folder: Path, since: str, now: datetime, *, ask_source: bool) -> Plan:
    """Compares the folder with what git has of it.

    Raises:
        ConfigError: git or the revision is not there, or platform.yaml is broken.
    """
    platform, after = load_platform(), load_customers(folder)
    with files_at(since, folder) as revision:
        changes = compare(load_customers(revision.folder), after)
    source = _Source(platform, None if ask_source else "not asked")
    exports = tuple(_planned(change, platform, source, now) for change in changes)
    unchanged = len(after.exports) - sum(change.after is not None for change in changes)
    return Plan(since, revision.commit, exports, unchanged, source.silence)


def _planned(change: Change, platform: PlatformSettings, source: "_Source", now: datetime) -> PlannedExport:
    export = change.after
    if export is None:
        return PlannedExport(change)

    from data_export_airflow.schedule.windows import gap_or_overlap, last_complete, upcoming

    limits = limits_of(change.name, export, platform.limits)
    runs = upcoming(export, limits.settle, now, _RUNS, follows=change.before)
    recent = last_complete(export, limits.settle, now)
    counted = source.count(export, recent) if export.enabled and recent.start < now else None
    return PlannedExport(
        change,
        tuple(runs),
        _note(export, change.before, runs),
        gap_or_overlap(export, limits.settle, now, change.before, runs[0]) if change.before and runs else None,
        sample_objects(change.name, export, runs[0].window) if runs else None,
        limits,
        tuple(_refusals(change.name, export, limits, runs)),
        counted,
        recent,
    )


def _note(export: AnyExport, before: AnyExport | None, runs: "list[PlannedRun]") -> str | None:
    if runs:
        is_history = before is None and export.interval != "once" and export.start < runs[0].window.start
        return (
            f"windows from {export.start_date} up to the first below are history: backfill them" if is_history else None
        )
    if not export.enabled:
        return "no run is due: enabled is false"
    if export.interval == "once":  # Airflow asks for a first run only where the DAG had none, of whatever schedule
        return "no run is due: interval once runs only an export that never ran: trigger it by hand, with from and to"
    return f"no run is due: end_date {export.end_date} is past; windows that are to be delivered are a backfill"


def _refusals(name: str, export: AnyExport, limits: Limits, runs: "list[PlannedRun]") -> Iterator[str]:
    """What the first step of these runs will refuse."""
    for run in runs:
        try:
            check_window(name, export, run.window, limits, max(run.run_after, run.window.end))
        except LimitExceeded as refusal:
            yield str(refusal)


class _Source:
    """Asked while it answers and time is left; `silence` is why it is not asked any more."""

    def __init__(self, platform: PlatformSettings, silence: str | None) -> None:
        self.silence = silence
        self._source = platform.source
        self._until = time.monotonic() + _SECONDS

    def count(self, export: AnyExport, window: ExportWindow) -> "Counted | None":
        left = self._until - time.monotonic()
        if self.silence is None and left <= 1:
            self.silence = f"not asked for the rest after {_SECONDS:.0f} seconds"
        if self.silence is not None:
            return None

        from data_export.source.estimate import count
        from data_export_airflow.connections.source import source_dsn

        try:
            dsn, seconds = source_dsn(self._source.conn_id), min(left, _SECONDS_EACH)
            return count(dsn, export, [window], seconds, row_security=self._source.row_security)
        except DataExportError as error:
            self.silence = str(error)
            return None


# What git passes to its hooks, relative to a folder that we are not in.
_OF_A_HOOK = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE")


@dataclass(frozen=True, slots=True)
class Revision:
    """`folder` holds the files as they were; `commit` is the full hash."""

    commit: str
    folder: Path


@contextmanager
def files_at(revision: str, folder: Path) -> Iterator[Revision]:
    """The files that lay directly in the folder, in a temporary one while the block lasts; none where it was not there.

    Raises:
        ConfigError: no git, no repository, or no such revision.
    """
    named = f"{revision}^{{commit}}"
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", named, what=revision).decode().strip()
    with scratch() as made:
        if _run(
            folder, "ls-tree", "--full-tree", f"{commit}:./"
        ).stdout:  # of a commit without files git makes no readable archive
            archive = _git(folder, "archive", "--format=tar", commit)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                flat = [member for member in tar if "/" not in member.name and not member.isdir()]
                # Links too; reading refuses those that lead out. Python before 3.11.4 has no filters.
                tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _path: member)
                tar.extractall(made, flat)  # noqa: S202 - names without a folder
        yield Revision(commit, made)


def _git(folder: Path, *arguments: str, what: str = "") -> bytes:
    done = _run(folder, *arguments)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        fix = "put the folder under git, or set DATA_EXPORT_CUSTOMERS_DIR to one that is"
        if not said:
            said, fix = f"there is no revision {what!r}", "name a branch, tag or commit of this repository, or fetch it"
        raise ConfigError(f"the customer files of {folder} cannot be compared with another revision: {said}: {fix}")
    return done.stdout


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - a fixed program; a revision stands after --end-of-options
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - wherever the user has it
            env={name: value for name, value in os.environ.items() if name not in _OF_A_HOOK},
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(
            "git is not installed, but the earlier customer files are read from it: install git"
        ) from None
