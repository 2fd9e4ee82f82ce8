"""`new`, called by a script and by a person at a terminal."""

import io
from pathlib import Path

import pytest

from data_export.config.load import load_customer
from data_export_airflow.commands.cli import main

SITE, OTHER = "433a60f6-9756-473e-b1e9-9e89e24bb787", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


def test_all_by_flags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--site",
        SITE,
        "--site",
        OTHER,
        "--target",
        "s3://bucket/x/",
        "--interval",
        "0 6 * * 1",
        "--no-images",
    ]
    more = ["--timezone", "Europe/Paris", "--start-date", "2025-04-07T06:00:00", "--set", "delivery_receipt=true"]
    assert main(["new", "acme", *arguments, *more]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}/acme.yaml is written.")
    assert "airflow dags unpause data_export__acme" in out
    export = load_customer(folder / "acme.yaml")
    assert (export.scheme, export.interval, len(export.site_id)) == ("s3", "0 6 * * 1", 2)
    assert (export.export_images, export.delivery_receipt) == (False, True)
    assert main(["validate"]) == 0


def test_a_server_by_flags(folder: Path) -> None:
    key = [
        "--set",
        "connector_config.sftp_private_key_path=/keys/acme",
        "--set",
        f"connector_config.sftp_host_key={KEY}",
    ]
    assert main(["new", "acme", "--site", SITE, "--target", "sftp://us@host.example/in", *key]) == 0
    by_connection = ["--target", "sftp:///in2", "--set", "connector_config.conn_id=theirs"]
    assert main(["new", "beta", "--site", SITE, *by_connection]) == 0
    assert {load_customer(folder / f"{name}.yaml").scheme for name in ("acme", "beta")} == {"sftp"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--connector is missing"),
        (["--connector", "ftp"], "'ftp' is not one of"),
        (["--target", "bucket/x"], "--connector is missing (gs, s3, email, sftp, which --target does not tell)"),
        (["--target", "http://bucket/x"], "--target 'http://bucket/x': 'http' is not one of gs"),
        (["--site", SITE, "--connector", "gs", "--target", "s3://bucket/x/"], "address of s3, not of gs: leave"),
        (["--site", SITE, "--target", "sftp://us@host:99999/x"], "has a port that is none: write 1 to 65535"),
        (["--target", "gs://bucket/x"], "--site is missing"),
        (["--target", "gs://bucket/x", "--site", "x"], "'x' is not a uuid"),
        (["--connector", "gs", "--site", SITE], "--target is missing (gs://bucket/folder/)"),
        (["--site", SITE, "--target", "sftp://us@host/in"], "--set connector_config.sftp_private_key_path is missing"),
        (["--site", SITE, "--target", "gs://bucket/x", "--interval", "dayly"], "did you mean daily?"),
        (["--site", SITE, "--target", "gs://bucket/x", "--interval", "once"], "--set end_date is missing"),
        (["--site", SITE, "--target", "gs://bucket/x", "--set", "owner"], "write KEY=VALUE"),
    ],
)
def test_without_a_terminal_what_is_missing_is_named(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "acme", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.endswith("nothing was written\n")
    assert list(folder.iterdir()) == []


def test_a_person_is_asked_again_until_the_answer_is_right(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        "ftp",
        "sftp",
        "nonsense",
        SITE,
        "sftp://us@host.example:2222/in",
        "/keys/acme",
        "SHA256:abc",
        KEY,
        "",
        "",
        "",
    ]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(answers) + "\n"))
    assert main(["new", "acme"]) == 0
    said = capsys.readouterr().err
    assert "'ftp' is not one of" in said
    assert "'nonsense' is not a uuid" in said
    assert "is a fingerprint" in said
    export = load_customer(folder / "acme.yaml")
    assert (export.scheme, export.interval, export.timezone) == ("sftp", "daily", "UTC")


def test_a_person_who_leaves_has_written_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("gs\n"))
    assert main(["new", "acme"]) == 2
    assert list(folder.iterdir()) == []


def test_a_problem_beside_the_file_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--site", SITE, "--target", "gs://bucket/x/"]
    assert main(["new", "acme", *arguments]) == 0
    assert main(["new", "beta", *arguments]) == 1
    assert "beta.yaml and acme.yaml would write the same files" in capsys.readouterr().err
    assert main(["new", "acme"]) == 1  # before anything is asked
    assert "is there already" in capsys.readouterr().err
