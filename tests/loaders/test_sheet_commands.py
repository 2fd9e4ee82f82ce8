"""A customer with the hand-over sheet alone: its commands, in its order, on delivered files."""

import io
import re
import shlex
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data_export.config.platform import load_platform
from data_export.handover.contents import Expected, make_sheet
from data_export.handover.loading import kit_zip
from data_export.handover.render import markdown
from data_export.layout import link_file_name
from data_export.window import ExportWindow
from tests.customers import export
from tests.loaders.conftest import Delivered

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
DAY = datetime(2025, 3, 16, tzinfo=UTC)
BUCKET = {
    "connector_type": "cloud_storage",
    "connector_config": {"storage_uri": "gs://bucket/x/", "export_images": True},
}


def run(line: str, connection: Any) -> list[tuple[Any, ...]]:
    """What `duckdb acme.duckdb -cmd SQL -f FILE -c SQL` does."""
    program, file, *options = shlex.split(line)
    assert (program, file) == ("duckdb", "acme.duckdb")
    for option, value in zip(options[::2], options[1::2], strict=True):
        connection.execute(Path(value).read_text() if option == "-f" else value)
    rows: list[tuple[Any, ...]] = connection.fetchall()
    return rows


@pytest.mark.parametrize("by_mail", [False, True])
def test_the_commands_of_the_sheet_answer_its_questions(
    by_mail: bool, delivered: Delivered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = export(timezone="Europe/Paris", **({} if by_mail else BUCKET))
    window = ExportWindow(DAY, DAY + timedelta(days=1))
    text = markdown(make_sheet("acme", given, load_platform(), [Expected(window, None)], DAY))
    (block,) = (each for each in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "duckdb-cli" in each)
    zipfile.ZipFile(io.BytesIO(kit_zip())).extractall()
    if by_mail:
        Path("acme").mkdir()
        name = link_file_name("acme", "work-orders-timeline", window)
        for path in delivered.second.rglob("*.json"):
            stamp = path.name.partition(".")[0].replace(":", "-")
            copy = name.replace(window.stamp.replace(":", "-"), stamp).replace(".json", path.name[len(stamp) :])
            shutil.copy(path, Path("acme", copy))
    else:
        shutil.copytree(delivered.second, "acme")
    lines = [line for line in block.splitlines() if line.startswith("duckdb ")]
    with duckdb.connect("acme.duckdb") as connection:
        *_, newest, first_time_right, missing = [run(line, connection) for line in lines]
        (count,) = connection.execute("SELECT count(*) FROM work_order").fetchone()
    assert count == len(delivered.newest)
    assert len(newest) == 3
    assert {row[0] for row in first_time_right} >= {"l4_civil_ctx", "l4_civil_size"}
    assert missing == []
