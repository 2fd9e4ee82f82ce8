"""`check`: how a server is written, and the pools of an installation."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from data_export.errors import ConfigError
from data_export_airflow.commands.cli import main
from data_export_airflow.execution.checking import check_export, check_pools, check_queue
from data_export_airflow.operators.base import POOLS, slots_that_fit
from demo.servers.sftp import SftpServer
from tests.customers import GOOD, SITE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with SftpServer(tmp_path_factory.mktemp("sftp")) as server:
        yield server


def test_a_broken_file_fails_and_keeps_no_other_from_being_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    assert main(["check", "--all"]) == 1
    assert f"no customer file is in {tmp_path}: put one there" in capsys.readouterr().err
    assert main(["check", "--all", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []
    whole = (Path(__file__).parents[2] / "include/examples/email.yaml").read_text()
    (tmp_path / "a-broken.yaml").write_text(whole.replace("interval:", "intervall:"))
    (tmp_path / "whole.yaml").write_text(whole)
    assert main(["check", "--all"]) == 1
    broken, _, other = capsys.readouterr().out.partition("\n\n")
    assert broken.startswith("a-broken\nFAILED  customer file ")
    assert "did you mean interval?" in broken
    assert other.startswith("whole\nok      customer file ")
    assert re.fullmatch(r"2 exports, \d+ steps, \d+ failed", other.splitlines()[-1])
    assert "Airflow connection 'export_source' is missing" in other
    assert main(["check", "--all", "--json"]) == 1
    first, *rest = json.loads(capsys.readouterr().out)
    assert (first["export"], first["step"], first["ok"]) == ("a-broken", "customer file", False)
    assert {row["export"] for row in rest} == {"whole"}


def test_the_name_of_a_file_reaches_no_terminal_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "\x1b[2J.yaml").write_text("x")
    assert main(["check", "--all"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("\\x1b[2J\nFAILED")
    assert "\x1b" not in said


def test_what_a_run_needs_besides_data_is_tried_and_a_missing_secret_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    hook = '{webhook: {url: "https://hooks.example/", secret: "env:DATA_EXPORT_SECRET_NONE"}}'
    text = (GOOD % "acme").replace("gs://bucket/acme", f"file://{tmp_path}/target/")
    (tmp_path / "acme.yaml").write_text(f"{text}delivery_receipt: true\non_delivery: {hook}\n")
    tried = {result.step: result for result in check_export("acme")}
    assert tried[f"target: folder {SITE}/receipts/work-orders-timeline"].ok
    assert not tried["notice: webhook"].ok
    assert "DATA_EXPORT_SECRET_NONE" in tried["notice: webhook"].detail
    assert [*tried][-1] != "notice: webhook"


def test_what_exports_share_is_tried_once_and_a_collision_is_no_all_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(GOOD % "acme")  # into the same folder
    assert main(["check", "one", "two", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert sum("one.yaml and two.yaml would write the same files" in row["detail"] for row in rows) == 1
    assert sum("two.yaml and one.yaml would write the same files" in row["detail"] for row in rows) == 1
    (first, second) = (row["detail"] for row in rows if row["step"] == "source: connection")
    assert "export_source" in first
    assert second == "as for one"


def test_windows_that_break_a_limit_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    text = (GOOD % "acme").rstrip()
    later = datetime.now(UTC).date() + timedelta(days=9)
    (tmp_path / "acme.yaml").write_text(f"{text}\nlimits: {{earliest: {later}}}\n")
    main(["check", "acme"])
    assert re.search("FAILED  limits .*limits.earliest", capsys.readouterr().out)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_host_key_is_shown(server: SftpServer, capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert main(["check", "--host-key", f"{host}:{server.port}"]) == 0
    assert f"sftp_host_key: {server.host_key}" in capsys.readouterr().out
    assert main(["check", "--json", "--host-key", f"{host}:{server.port}"]) == 0
    assert server.host_key in [key["sftp_host_key"] for key in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize("server", ["host:abc", ":22", "[::1", "host:99999", "sftp://host", "me@host", ""])
def test_what_is_no_server_is_wrong_usage(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--host-key", server])
    assert ended.value.code == 2
    assert "write sftp.customer.example" in capsys.readouterr().err


@pytest.mark.parametrize("exports", [["acme"], ["--all"]])
def test_a_server_is_not_asked_beside_exports(exports: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *exports, "--host-key", "127.0.0.1:1"]) == 2
    assert "--host-key asks a server, and checks no export: leave out" in capsys.readouterr().err


def test_a_bare_ipv6_address_is_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--host-key", "[::1]:1"]) == 1
    assert "[::1]:1" in capsys.readouterr().err


def test_a_file_without_a_host_key_says_what_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "include/examples/sftp.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("sftp_host_key:")]
    (tmp_path / "acme.yaml").write_text("\n".join(kept))
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    from data_export.config.load import load_named

    with pytest.raises(
        ConfigError,
        match=r"sftp_host_key: is missing: .*; `python -m data_export_airflow check --host-key \S+\.\S+` shows it",
    ):
        load_named("acme")


@pytest.fixture
def no_pools(tables: None) -> Iterator[None]:
    def remove() -> None:
        with create_session() as session:
            session.execute(delete(Pool).where(Pool.pool.in_(POOLS)))

    remove()
    yield
    remove()


@pytest.mark.usefixtures("no_pools")
def test_a_pool_that_is_missing_or_empty_is_told_and_init_makes_the_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {one.step for one in check_pools() if "init" in one.detail and not one.ok} == {f"pool {n}" for n in POOLS}
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    assert main(["check", "acme"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("FAILED") and "is missing, so that tasks wait" in line for line in shown) == len(POOLS)
    assert main(["init"]) == 0
    assert [one.detail for one in check_pools()] == ["4 slots", "16 slots"]
    Pool.create_or_update_pool("data_export_delivery", slots=0, description="", include_deferred=False)
    capsys.readouterr()
    assert main(["init", "--json"]) == 0
    assert {row["pool"]: row["created"] for row in json.loads(capsys.readouterr().out)} == dict.fromkeys(POOLS, False)
    assert main(["init"]) == 0, "what somebody has changed stays"
    assert [(one.step, one.ok) for one in check_pools()] == [
        ("pool data_export_source", True),
        ("pool data_export_delivery", False),
    ]


@pytest.mark.usefixtures("no_pools")
def test_pools_leave_room_for_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four long image copies on four slots would keep all other exports waiting."""
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "4")
    assert main(["init"]) == 0
    assert [(one.ok, one.detail) for one in check_pools()] == [(True, "3 slots")] * 2
    for slots in (4, 16, -1):
        Pool.create_or_update_pool("data_export_delivery", slots=slots, description="", include_deferred=False)
        source, delivery = check_pools()
        assert source.ok
        assert not delivery.ok
        assert f"has {slots} slots, and Airflow runs 4 tasks at once" in delivery.detail
        assert "give the pool 3 " in delivery.detail
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "24")
    for slots, detail in ((18, "18 slots"), (23, "23 slots, more than 18, three quarters of the 24 tasks at once")):
        Pool.create_or_update_pool("data_export_delivery", slots=slots, description="", include_deferred=False)
        _, delivery = check_pools()
        assert (delivery.ok, delivery.detail) == (True, detail)
    for at_once, fits in ((1, 1), (2, 1), (4, 3), (12, 9), (100, 16)):
        assert slots_that_fit("data_export_delivery", at_once) == fits


@pytest.mark.parametrize(
    ("seconds", "times", "fault"),
    [
        ("180", "100000", None),
        ("180", "480", None),
        ("600", "144", None),
        (
            "600",
            "2",
            "within 30 minutes are failed, whatever their retries: set [scheduler] num_stuck_in_queued_retries",
        ),
        ("180", "479", "num_stuck_in_queued_retries to 480 or more"),
        ("7200", "1000", "a lost message is noticed only after 7200 s: set [scheduler] task_queued_timeout to 180"),
    ],
)
def test_limits_of_the_queue_cost_no_run(
    monkeypatch: pytest.MonkeyPatch, seconds: str, times: str, fault: str | None
) -> None:
    assert check_queue() == []  # the tests' Airflow has no queue
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT", seconds)
    monkeypatch.setenv("AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES", times)
    (found,) = check_queue()
    assert (found.step, found.ok) == ("queue", fault is None)
    assert (fault or f"after {seconds} s") in found.detail


def test_pools_are_not_told_where_airflows_database_may_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> list[Pool]:
        raise OperationalError("select", {}, Exception("no such table"))

    monkeypatch.setattr(Pool, "get_pools", refused)
    assert check_pools() == []
