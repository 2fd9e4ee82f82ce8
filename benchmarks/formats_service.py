"""The service's own formats; see `benchmarks.formats`."""

from functools import partial
from pathlib import Path
from uuid import UUID

from benchmarks.data_path_service import TIMELINE
from data_export.layout import Encoding
from data_export.transform.transform import transform


def _write(encoding: Encoding, _: str, sites: list[UUID], folder: Path) -> None:
    for site in sites:
        snapshot = folder.parent / "snapshots" / str(site)
        images, quarantine = folder / "images", folder / "quarantine"
        transform(
            snapshot, folder / f"{site}.data", images, quarantine, export_type=TIMELINE, on_invalid="fail",
            encoding=encoding,
        )  # fmt: skip
        images.unlink()


plain, gzip, zstd, parquet = (partial(_write, each) for each in ("json", "gzip", "zstd", "parquet"))
