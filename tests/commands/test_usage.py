"""Wrong usage is one line and code 2, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_export_airflow.commands.cli import main
from tests.customers import GOOD


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "list every problem of every customer file"),
        (["run", "x.yaml", "--from", "2025-03-17", "--to", "2025-03-16"], "before it begins"),
        (["check"], "name an export"),
        (
            ["backfill", "acme", "--from", "2025-03-16", "--to", "2025-03-17", "--max-active-runs", "0"],
            "--max-active-runs 0 is too few: give 1 or more",
        ),
    ],
)
def test_told_by_the_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "--host-key", "host:ssh"], "'host:ssh' is not a server: write"),
        (["nonsense"], "choose from"),
        (["nwe", "acme"], "(did you mean new?)"),
        (["new", "acme", "--conector", "gs"], "unrecognized arguments: --conector gs (did you mean --connector?)"),
        (["backfill", "acme", "--from", "2025-03-16", "--to", "2025-03-17", "--dryrun"], "(did you mean --dry-run?)"),
        (["backfill", "acme", "--from", "x", "--to", "y", "--reprocess", "complete"], "(did you mean completed?)"),
        (["sheet", "acme", "--engine", "postgres"], "(did you mean postgresql?)"),
        (["run", "x.yaml", "--from", "16.3.2025", "--to", "2025-03-17"], "'16.3.2025' is not a date or date-time that"),
    ],
)
def test_told_by_the_parser(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr().err
    command = f" {arguments[0]}" * (arguments[0] not in ("nonsense", "nwe"))
    assert captured.startswith(f"usage: python -m data_export_airflow{command} [")
    assert said in captured


def test_a_path_that_leads_nowhere_is_no_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "gone.yaml"), "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    fix = "there is no such file: correct the path, or put the file back"
    assert capsys.readouterr().err == f"{tmp_path}/gone.yaml: {fix}\n"
    (tmp_path / "bad.yaml").write_text("interval: dayly\nstart_date: x\n")
    assert main(["run", str(tmp_path / "bad.yaml"), "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert main(["validate", str(tmp_path / "bda.yaml")]) == 1
    assert f"bda.yaml: there is no such file (did you mean {tmp_path}/bad.yaml?)" in capsys.readouterr().out
    assert all(line.startswith(f"{tmp_path}/bad.yaml:") for line in lines)


@pytest.mark.parametrize("name", ["acem", "acme.yaml", "include/customers/acme.yaml", "data_export__acme", "ACME"])
@pytest.mark.parametrize("command", [["sheet"], ["audit"], ["check"]])
def test_a_name_that_is_a_path_or_a_dag_is_answered_with_the_name(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    assert main([*command, name]) == 1
    captured = capsys.readouterr()
    assert "(did you mean acme?)" in captured.out + captured.err


def test_a_name_where_a_file_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    assert main(["run", "acme", "--from", "2025-03-16", "--to", "2025-03-17"]) == 1
    assert f"there is no such file (did you mean {tmp_path}/acme.yaml?)" in capsys.readouterr().err


def test_a_folder_without_customer_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path)]) == 0
    assert f"no customer file is in {tmp_path}" in capsys.readouterr().out


def test_a_reader_who_has_enough_is_no_fault(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "data_export_airflow", "validate", str(tmp_path)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("postgresql+psycopg2://us:canary@127.0.0.1:1/airflow", "//us:***@127.0.0.1:1/airflow cannot be used (connec"),
        ("sqlite:///{folder}/airflow.db", "airflow.db cannot be used (no such table: slot_pool): `airflow db migrate`"),
    ],
)
def test_a_database_that_is_none_is_one_line_and_all_that_is_said(tmp_path: Path, database: str, said: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__LOGGING")}
    own = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.format(folder=tmp_path), "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "data_export_airflow", "init"],
        env=kept | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigError: Airflow's database ")
    assert said in line
    assert "canary" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "{folder}"],
        ["new", "x", "--target", "s3://b"],
        ["plan"],
        ["check", "--host-key", "127.0.0.1:1"],
        ["keys", "new", "x", "--folder", "{folder}/keys"],
        ["sheet", "once"],
        ["sheet", "nobody"],
        ["status"],
        ["files", "once"],
    ],
)
def test_what_needs_no_airflow_does_not_load_it(tmp_path: Path, arguments: list[str]) -> None:
    """Its import alone takes a second, and `validate` runs in hooks where it is not installed."""
    code = (
        "import sys; from data_export_airflow.commands.cli import main; main(sys.argv[1:]); "
        "sys.exit(f'loaded {loaded}' if (loaded := {'airflow', 'sqlalchemy', 'numpy'} & set(sys.modules)) else 0)"
    )
    for command in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command, *["--allow-empty"] * ("commit" in command)], check=True)
    given = [part.format(folder=tmp_path) for part in arguments]
    if arguments[0] == "sheet":
        once = (GOOD % "once").replace("daily", "once")
        (tmp_path / "once.yaml").write_text(f"{once}end_date: 2025-03-20\n")
    elsewhere = {"DATA_EXPORT_AIRFLOW_URL": "http://127.0.0.1:1", "DATA_EXPORT_AIRFLOW_TOKEN": "x"}
    environment = os.environ | {"DATA_EXPORT_CUSTOMERS_DIR": str(tmp_path)} | elsewhere
    done = subprocess.run(
        [sys.executable, "-c", code, *given], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
