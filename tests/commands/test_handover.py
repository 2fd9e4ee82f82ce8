"""`sheet` and `keys`: what goes to a customer is on standard output, what we still owe on standard error."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_export.config.platform import ROOT
from data_export_airflow.commands.cli import main

SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
SERVER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T"
FILE = f"""\
site_id: [{SITE}]
interval: {{interval}}
start_date: 2025-03-16
end_date: {{end}}
timezone: Europe/Paris
connector_type: sftp
connector_config:
  sftp_host: sftp.acme.example
  sftp_username: exports
  sftp_private_key_path: /opt/airflow/keys/acme
  sftp_host_key: {SERVER}
  sftp_remote_path: /in
  export_images: true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_EXPORT_KEYS_DIR", str(tmp_path / "keys"))
    (tmp_path / "acme.yaml").write_text(FILE.format(interval="daily", end="null"))
    (tmp_path / "old.yaml").write_text(FILE.format(interval="daily", end="2025-03-20"))
    (tmp_path / "once.yaml").write_text(FILE.format(interval="once", end="2025-03-20").replace("/in", "/once"))
    return tmp_path


def test_the_sheet_of_an_export_that_is_not_on_yet_names_files_that_can_come(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = FILE.format(interval="daily", end="null").replace("2025-03-16", "2999-03-16").replace("/in", "/later")
    (folder / "later.yaml").write_text(f"{text}enabled: false\n")
    assert main(["sheet", "later"]) == 0
    sheet = capsys.readouterr().out
    assert "2999-03-15_23:00:00_2999-03-16_23:00:00.json" in sheet
    assert "/20" not in sheet.partition("work-orders-timeline/")[2][:12]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


def test_a_key_is_made_and_the_sheet_has_its_public_half(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "acme"]) == 0
    said = capsys.readouterr().out
    private, public = (folder / "keys" / "acme").read_text(), (folder / "keys" / "acme.pub").read_text().strip()
    assert public in said
    assert "sftp_private_key_path: /opt/airflow/keys/acme" in said
    assert "`check --host-key HOST`" in said
    assert private.splitlines()[1] not in said
    assert main(["sheet", "acme"]) == 0
    sheet, still_open = capsys.readouterr()
    assert f'restrict,command="internal-sftp" {" ".join(public.split()[:2])} data-export' in sheet
    assert "OUR_PUBLIC_KEY" not in sheet + still_open
    assert private.splitlines()[1] not in sheet
    assert "open  our addresses are not known: set network.egress" in still_open
    assert main(["keys", "new", "acme"]) == 1
    assert "is there already, and a key is never replaced" in capsys.readouterr().err
    assert (folder / "keys" / "acme").read_text() == private


def test_a_key_goes_where_it_is_asked_to(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__KEYS_FOLDER", "/run/keys/")
    made = shown(capsys, "keys", "new", "acme", "--folder", str(folder / "elsewhere"), "--json")
    assert made["file"] == str(folder / "elsewhere" / "acme")
    assert made["sftp_private_key_path"] == "/run/keys/acme"
    assert (folder / "elsewhere" / "acme.pub").read_text() == f"{made['public_key']}\n"


def test_the_next_three_files_are_those_of_the_timetable(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = shown(capsys, "sheet", "acme", "--json")["files"]
    assert len(files) == 3
    assert [file["end"] for file in files[:2]] == [file["start"] for file in files[1:]]
    assert all(file["start"].endswith(" 00:00") and file["expected"].endswith(" 00:05") for file in files)
    assert files[0]["key"].startswith(f"{SITE}/data/work-orders-timeline/20")


@pytest.mark.parametrize("name", ["old", "once"])
def test_an_export_that_is_over_shows_its_last_file(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = shown(capsys, "sheet", name, "--json")["files"]
    assert file["expected"] is None
    assert file["end"] == "2025-03-20 00:00"
    assert file["start"] == ("2025-03-16 00:00" if name == "once" else "2025-03-19 00:00")


def test_one_html_page_needs_no_other_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", "acme", "--html", "--engine", "duckdb"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!doctype html>")
    assert 'download="loaders.zip" href="data:application/zip;base64,' in page
    assert "<script" not in page
    assert "src=" not in page


def test_a_name_that_is_none_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", "acne"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no export acne (did you mean acme?)" in captured.err
    (folder / "bad.yaml").write_text("interval: dayly\n")
    assert main(["sheet", "bad"]) == 1
    assert all(line.startswith(f"{folder}/bad.yaml:") for line in capsys.readouterr().err.splitlines())


def test_the_readme_shows_a_real_sheet() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (excerpt,) = (block.partition("````")[0] for block in readme.split("````markdown\n")[1:])
    parts = [part.strip() for part in excerpt.split("\n...\n")]
    golden = (ROOT / "tests" / "unit" / "handover" / "golden" / "sftp.md").read_text(encoding="utf-8")
    assert len(parts) > 2
    assert all(part in golden for part in parts)
