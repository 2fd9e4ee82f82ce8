"""`validate`: what a person, a script and a hook see of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_export_airflow.commands.cli import main
from tests.customers import GOOD

#: What the hook of .pre-commit-hooks.yaml installs, and what comes with it.
NEEDED = {"croniter", "pydantic", "pydantic_settings", "yaml"}
THEIRS = {
    "annotated_types",
    "typing_inspection",
    "typing_extensions",
    "pydantic_core",
    "dotenv",
    "dateutil",
    "six",
    "cython_runtime",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The customers folder, with one good file."""
    (tmp_path / "good.yaml").write_text(GOOD % "good")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    return tmp_path


def test_a_folder_without_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == "1 customer file is right, no errors\n"
    assert main(["validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_folder_without_right_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "good.yaml").rename(folder / "good.yaml.txt")
    assert main(["validate"]) == 0
    overlooked, none = capsys.readouterr().out.splitlines()
    assert "good.yaml.txt" in overlooked
    assert none.startswith("no customer file is in ")
    (folder / "good.yaml.txt").unlink()
    assert main(["validate", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_problems_for_people_and_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = folder / "broken.yaml"
    broken.write_text((GOOD % "x").replace("daily", "dayly"))
    assert main(["validate", str(broken)]) == 1
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{broken}:2: interval: 'dayly' is neither")
    assert total == "0 customer files are right, 1 error in others"
    assert main(["validate", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    message = problem.pop("message")
    assert problem == {"file": str(broken), "line": 2, "key": "interval", "severity": "error"}
    assert line == f"{broken}:2: interval: {message}"


def test_a_warning_is_no_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "secret.yaml").write_text(
        "site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]\ninterval: daily\nstart_date: 2025-03-16\n"
        "connector_type: sftp\nconnector_config: {sftp_host: h, sftp_username: u, sftp_private_key_path: /k,\n"
        "  sftp_private_key_passphrase: canary-passphrase, sftp_remote_path: x, export_images: true, sftp_host_key:\n"
        "  ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T}\n"
    )
    assert main(["validate", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)[0]["severity"] == "warning"
    assert "canary" not in out


def test_wrong_usage_is_another_code_than_problems(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["validate", "--jsn"])
    assert stop.value.code == 2


def test_it_loads_neither_airflow_nor_anything_big(folder: Path) -> None:
    """Fast, and installed in a moment where only files are checked."""
    (folder / "cron.yaml").write_text((GOOD % "cron").replace("daily", "0 6 * * 1"))
    code = (
        "import sys; before = set(sys.modules)\n"
        "from data_export_airflow.commands.cli import main; main(['validate'])\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split("no errors")[1].split() if not name.startswith("_")}
    assert loaded - NEEDED - THEIRS - {"data_export", "data_export_airflow"} == set()


def test_a_terminal_that_cannot_show_a_character_gets_its_code(folder: Path) -> None:
    (folder / "broken.yaml").write_text((GOOD % "x").replace("daily", "d\u00e4yly"), encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "data_export_airflow", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert "interval: 'd\\xe4yly' is neither" in done.stdout


def test_what_collides_is_not_counted_as_right(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "copy.yaml").write_text(GOOD % "good")
    assert main(["validate"]) == 1
    copy, good, last = capsys.readouterr().out.splitlines()
    assert copy.startswith(f"{folder}/copy.yaml:5: ")
    assert "copy.yaml and good.yaml would write the same files" in copy
    assert good.startswith(f"{folder}/good.yaml:5: ")
    assert "good.yaml and copy.yaml would write the same files" in good
    assert last == "0 customer files are right, 2 errors in others"
    assert main(["validate", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)) == 2
