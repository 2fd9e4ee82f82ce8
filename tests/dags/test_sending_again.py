"""What the watch sends again of all exports' notices: receivers that hang keep no other's back."""

from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from data_export.config.load import load_customer
from data_export.config.platform import load_platform
from data_export.errors import ConfigError, TargetRefused, TargetUnavailable
from data_export_airflow.execution import steps
from tests.pipeline.staged_run import plan_of

FILE = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
start_date: 2025-03-16
interval: daily
connector_type: cloud_storage
connector_config: {{storage_uri: "file:///target/", export_images: false}}
{on}
"""
ON = "on_delivery: {emails: [bi@acme.example]}"
NOTICE = "notices/gives-up/msg_1.json"
FAULTS: dict[str, BaseException] = {"hangs": TargetUnavailable("hangs: no answer")}


class Killed(BaseException):
    """As what a task's time limit raises."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exports whose notices are sent, in their order."""
    for name in ("one", "two", "hangs", "gives-up", "silent"):
        (tmp_path / f"{name}.yaml").write_text(FILE.format(on="" if name == "silent" else ON))
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", f"file://{tmp_path}/staging/")
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    names: list[str] = []

    async def send_left(
        name: str, _export: Any, _staging: Any, _means: Any, _now: Any, given_up: dict[str, str], **_: Any
    ) -> int:
        names.append(name)
        if name == "gives-up":
            given_up[NOTICE] = "gives-up: notice msg_1, given up after a day"
        if fault := FAULTS.get(name):
            raise fault
        return 1

    monkeypatch.setattr(steps, "send_left", send_left)
    kept = tmp_path / "staging" / NOTICE
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    return names


def again() -> None:
    steps.send_left_of_all(load_platform(), datetime.now(UTC))


def test_every_export_with_notices_is_asked_whatever_the_others_receivers_do(asked: list[str]) -> None:
    with pytest.raises(TargetRefused, match="given up after a day"):
        again()
    assert sorted(asked) == ["gives-up", "hangs", "one", "two"]


def test_what_is_given_up_is_let_go_of_once_it_is_told_of(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A look that is killed before tells nobody of it."""
    kept = tmp_path / "staging" / NOTICE
    monkeypatch.setitem(FAULTS, "one", Killed())
    for _ in range(10):
        with pytest.raises(Killed):
            again()
    assert "gives-up" in asked
    assert kept.read_text() == "{}"
    monkeypatch.setitem(FAULTS, "one", TargetRefused("one: its certificate is not trusted"))
    with pytest.raises(TargetRefused, match=r"gives-up: notice msg_1, given up after a day; one: its certificate"):
        again()
    assert kept.read_text() == ""


def test_a_run_that_gives_its_own_notice_up_tells_of_it(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(FAULTS, "gives-up", TargetUnavailable("gives-up: other notices wait"))
    plan = plan_of(load_customer(tmp_path / "gives-up.yaml")).model_copy(update={"name": "gives-up"})
    with pytest.raises(TargetRefused, match="given up after a day"):
        steps.Steps(plan).notify()
    assert asked == ["gives-up"]
    assert (tmp_path / "staging" / NOTICE).read_text() == ""


def test_a_staging_area_that_cannot_be_used_is_told_of_once(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And as what it is: no target has refused anything."""
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", "s3://staging/exports/")
    monkeypatch.setenv("DATA_EXPORT_STAGING__CONN_ID", "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        again()
    assert asked == []


def test_a_customers_folder_that_cannot_be_listed_is_told_of(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no notices to send, which is none of a success."""
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", "/gone")
    with pytest.raises(ConfigError, match="/gone: cannot be listed"):
        again()
    assert asked == []


def test_where_time_is_over_the_others_wait_and_no_export_is_always_the_last(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = count(step=300)  # seconds: one export is asked, and then 600 of 400 are over
    monkeypatch.setattr(steps, "monotonic", lambda: next(clock))
    for _ in range(60):
        with suppress(TargetRefused):
            again()
    assert len(asked) == 60
    assert {*asked} == {"gives-up", "hangs", "one", "two"}
    assert "3 exports' notices wait for the next look, since others took long" in caplog.text
