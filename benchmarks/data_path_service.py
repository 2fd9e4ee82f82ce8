"""The service's own way, as its tasks do it; see `benchmarks.data_path`."""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from adbc_driver_postgresql import dbapi  # noqa: F401 - extract loads it late; here it must not count as its time

from data_export.source.extract import extract
from data_export.transform.transform import transform
from data_export.window import ExportWindow

WINDOW = ExportWindow(datetime(2025, 3, 17, tzinfo=UTC), datetime(2025, 3, 18, tzinfo=UTC))
TIMELINE = "work-orders-timeline"


def one_site_after_the_other(dsn: str, sites: list[UUID], folder: Path) -> str:
    """A snapshot on disk between the two steps; returns the seconds of each."""
    extracting = transforming = 0.0
    for site in sites:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            snapshot = Path(name)
            began = time.monotonic()
            extract(dsn, site, WINDOW, TIMELINE, snapshot)
            between = time.monotonic()
            transform(
                snapshot,
                folder / f"{site}.jsonl",
                snapshot / "images.parquet",
                snapshot / "quarantine.json",
                export_type=TIMELINE,
                on_invalid="fail",
            )
            extracting += between - began
            transforming += time.monotonic() - between
    return f"extract {extracting:.1f} s, transform {transforming:.1f} s"
