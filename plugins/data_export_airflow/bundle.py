"""Airflow's bundle of the service's DAGs: makes the customers' DAG files, and has them parsed on a change."""

import importlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.bundles.local import LocalDagBundle

from data_export.config.load import Loaded, load_customers
from data_export.config.models import CustomerExport
from data_export.config.platform import customers_dir, platform_file
from data_export.config.reading.file_text import Stamp, stamp
from data_export_airflow.dags.shards import (
    MOST,
    SHARD,
    broken_files,
    complete,
    contents,
    is_complete,
    seems_complete,
    shard_files,
    shard_of,
    show_broken,
)
from data_export_airflow.metadata.airflow_database import request_parsing

#: Name of the file that shows the problems of customer files.
_ERRORS = "config_errors.py"
log = logging.getLogger(__name__)


class CustomerFilesBundle(LocalDagBundle):
    """The DAGs folder, with the customers' DAGs shared out over several DAG files that follow the customer files.

    Named by `[dag_processor] dag_bundle_config_list` on all of Airflow's components. Each makes the same files for
    itself, in Airflow's storage for bundles: the shards, and links to everything else in the DAGs folder, which may be
    read-only. A change of a customer file is seen within `refresh_interval` seconds, and only the file with its DAG is
    parsed, so that `min_file_process_interval` can be long.

    Args:
        shards: how many DAG files share the exports, 1 to 99; about 150 exports each are well within Airflow's limits.
            32, the default, is how many an older version had in its DAGs folder.
        options: as of Airflow's LocalDagBundle: `name`, `path` of the DAGs folder (default: Airflow's own setting),
            `refresh_interval` in seconds.

    Raises:
        ValueError: `shards` is not a number from 1 to 99.
    """

    def __init__(self, *, shards: int = 32, **options: Any) -> None:
        super().__init__(**options)
        if type(shards) is not int or not 1 <= shards <= MOST:
            raise ValueError(
                f"dag_bundle_config_list: bundle {self.name}: shards is {shards!r}; use a number from 1 to {MOST}"
            )
        self._shards = shards
        self._dags = super().path.absolute()
        # Named by what it is made from: several installations on one machine have Airflow's storage in common, and a
        # task looks at names and sizes only, which another version's files may have too.
        made_from = blake2b(f"{shards} {self._dags} {SHARD}".encode(), digest_size=8).hexdigest()
        self._folder: Path = self.base_dir / f"shards-{made_from}"
        self._watch = FolderWatch()
        self._again: dict[str, float] = {}

    @property
    def path(self) -> Path:
        """The folder with the shards; complete after `initialize`."""
        return self._folder

    def initialize(self) -> None:
        """Makes the DAG files where they are not there; called by the dag-processor, and by every task that starts.

        Raises:
            OSError: the DAGs folder cannot be read, or the bundle's storage cannot be written.
        """
        self._make(seems_complete)
        super().initialize()

    def refresh(self) -> None:
        """Called by the dag-processor alone, in its main loop; never raises, since it would then find no DAG file."""
        try:
            self._make(is_complete)
        except Exception:
            log.exception("changes of the DAGs folder are not noticed; its DAG files are served as they were")
        try:
            self._request_changed()
        except Exception:
            log.exception("changes of customer files are not noticed; files are parsed by the clock")

    def _make(self, is_done: Callable[[Path, Mapping[str, str | Path]], bool]) -> None:
        try:
            wanted = contents(self._shards, self._dags)
            if not is_done(self._folder, wanted):
                with self.lock():
                    complete(self._folder, wanted)
        except OSError as error:
            raise OSError(
                f"bundle {self.name}: its DAG files cannot be made in {self._folder} ({error}): "
                f"let [dag_processor] dag_bundle_storage_path name a writable folder, and make {self._dags} readable"
            ) from error

    def _request_changed(self) -> None:
        # Parsing processes are forks of this one: what it has imported they need not.
        importlib.import_module("data_export_airflow.dags.factory")
        changes, files, now = self._watch.look(), shard_files(self._shards), time.monotonic()
        wanted = {_ERRORS} if changes.problems or changes.platform else set()
        wanted |= set(files) if changes.platform else {shard_of(name, files) for name in changes.names}
        try:  # the changes are forgotten with the look, so that nothing may come between it and their parsing
            wanted.update(show_broken(self._folder, broken_files(self._watch.broken())))
        except Exception:
            log.exception("not every broken customer file has an import error of its own name")
        due = {file for file, when in self._again.items() if when <= now}
        self._again |= dict.fromkeys(wanted, now + _again_seconds())
        if wanted | due:
            log.info("customer files changed: parsing %s", ", ".join(sorted(wanted | due)))
            request_parsing(self.name, wanted | due)
        for file in due - wanted:
            del self._again[file]


def _again_seconds() -> float:
    """After so long a file is parsed once more: it may have been in parsing when the change came.

    Airflow drops the DAG of an export that is gone only after a parse that is `stale_dag_threshold` (10 s where
    docs/deploy.md is followed) younger. And it stores none that it has stored less than
    `min_serialized_dag_update_interval` ago: the second of two edits would count at the next parse by the clock.
    """
    return 15 + conf.getfloat("core", "min_serialized_dag_update_interval", fallback=30)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two looks."""

    #: Exports that came, went, or are read in another way than before: by their own file, or by one they collide with.
    names: frozenset[str] = frozenset()
    #: Whether any file's problems differ.
    problems: bool = False
    #: Whether platform.yaml changed, which every export depends on.
    platform: bool = False


class FolderWatch:
    """Compares looks at the customers' folder and at platform.yaml; `load_customers` says what a look costs."""

    def __init__(self) -> None:
        self._platform: Stamp | None = None
        self._loaded: Loaded | None = None

    def broken(self) -> dict[str, list[str]]:
        """What is wrong with customer files as of the last look: lines by name of the file."""
        lines: dict[str, list[str]] = {}
        for problem in self._loaded.problems if self._loaded else ():
            if problem.is_error and problem.path != customers_dir():
                lines.setdefault(problem.path.name, []).append(str(problem))
        return lines

    def look(self) -> Changes:
        """What changed since the look before; nothing at the first. Never raises."""
        platform, now, before = stamp(platform_file()), load_customers(), self._loaded
        new_platform, self._platform, self._loaded = platform != self._platform, platform, now
        if before is None or (before is now and not new_platform):
            return Changes()
        old, new = _states(before), _states(now)
        names = frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        return Changes(names, before.problems != now.problems, new_platform)


def _states(loaded: Loaded) -> dict[str, tuple[CustomerExport | None, tuple[str, ...]]]:
    """By name all that a DAG is made of: the export and the errors of its file."""
    errors = loaded.errors()
    names = loaded.exports.keys() | errors.keys()
    return {name: (loaded.exports.get(name), tuple(errors.get(name, ()))) for name in names}
