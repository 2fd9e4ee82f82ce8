"""The DAGs folder as an Airflow bundle that has its files parsed when customer files change, not by the clock."""

import importlib
import logging
import time
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle

from data_export.config.watch import FolderWatch
from data_export_airflow.dags.shards import holder, share_files
from data_export_airflow.metadata.database import request_parsing

#: Name of the file that shows the problems of customer files.
_ERRORS = "config_errors.py"
#: A file that was being parsed when the change came is parsed once more; so is that of an export which is gone, since
#: Airflow drops a DAG only after a parse that is `stale_dag_threshold` (10 s where docs/deploy.md is followed) younger.
_AGAIN_SECONDS = 15.0
log = logging.getLogger(__name__)


class CustomerFilesBundle(LocalDagBundle):
    """A change of a customer file is seen within `refresh_interval` seconds, and only the file with its DAG is parsed.

    Named by `[dag_processor] dag_bundle_config_list` on all of Airflow's components; writes nothing but requests to
    parse, as the UI's button does, so the folder may be read-only. With it `min_file_process_interval` can be long.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._watch = FolderWatch()
        self._files: list[str] = []
        self._again: dict[str, float] = {}

    def refresh(self) -> None:
        """Called by the dag-processor alone, in its main loop; never raises, since it would then find no DAG file."""
        try:
            self._request_changed()
        except Exception:
            log.exception("changes of customer files are not noticed; files are parsed by the clock")

    def _request_changed(self) -> None:
        # Parsing processes are forks of this one: what it has imported they need not.
        importlib.import_module("data_export_airflow.dags.factory")
        changes, files, now = self._watch.look(), share_files(self.path), time.monotonic()
        wanted = {_ERRORS} if changes.problems or changes.platform else set()
        if changes.platform or (self._files and files != self._files):  # the files share the exports anew
            wanted |= set(files)
        elif files:
            wanted |= {holder(name, files) for name in changes.names}
        self._files = files
        due = {file for file, when in self._again.items() if when <= now}
        for file in due:
            del self._again[file]
        self._again |= dict.fromkeys(wanted, now + _AGAIN_SECONDS)
        if wanted | due:
            log.info("customer files changed: parsing %s", ", ".join(sorted(wanted | due)))
            request_parsing(self.name, wanted | due)
