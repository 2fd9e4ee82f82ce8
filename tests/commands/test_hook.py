"""The pre-commit hook: it picks the customer files, and has what it needs where nothing else is installed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_export.config.platform import ROOT
from tests.commands.test_validate import NEEDED


@pytest.fixture(scope="module")
def hook() -> Any:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return hook


def test_it_is_for_customer_files_alone(hook: Any) -> None:
    names = ["acme.yaml", "acme.yml", "README.md", ".gitkeep", "old/acme.yaml"]
    paths = [f"include/customers/{name}" for name in names] + ["include/platform.yaml", "include/examples/sftp.yaml"]
    assert [path for path in paths if re.search(hook["files"], path)] == paths[:2]


def test_it_installs_what_validate_loads(hook: Any) -> None:
    installed = {re.split(r"[<>=]", each)[0].replace("-", "_") for each in hook["additional_dependencies"]}
    assert {name.replace("pyyaml", "yaml") for name in installed} - {"tzdata"} == NEEDED


def test_as_pre_commit_runs_it(hook: Any, tmp_path: Path) -> None:
    text = (ROOT / "include" / "examples" / "cloud-storage-gs.yaml").read_text()
    files = [tmp_path / "acme.yaml", tmp_path / "beta.yaml"]
    files[0].write_text(text)
    command = [sys.executable, *shlex.split(hook["entry"])[1:]]

    def commit(*changed: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *map(str, changed)], capture_output=True, text=True, check=False)

    assert commit(files[0]).returncode == 0
    files[1].write_text(text)  # a copy whose target was forgotten
    done = commit(files[1])
    assert done.returncode == 1
    assert "beta.yaml and acme.yaml would write the same files" in done.stdout
