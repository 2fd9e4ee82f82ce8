"""What the watch sends again of all exports' notices: receivers that hang keep no other's back."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from data_export.config.platform import load_platform
from data_export.errors import ConfigError, TargetRefused, TargetUnavailable
from data_export_airflow.execution import steps

FILE = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
start_date: 2025-03-16
interval: daily
connector_type: cloud_storage
connector_config: {{storage_uri: "file:///target/", export_images: false}}
{on}
"""
ON = "on_delivery: {emails: [bi@acme.example]}"
FAULTS = {
    "hangs": TargetUnavailable("hangs: no answer"),
    "gives-up": TargetRefused("gives-up: notice msg_1, given up after a day"),
}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exports whose notices are sent, in their order."""
    for name in ("one", "two", "hangs", "gives-up", "silent"):
        (tmp_path / f"{name}.yaml").write_text(FILE.format(on="" if name == "silent" else ON))
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", f"file://{tmp_path}/staging/")
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    names: list[str] = []

    async def send_left(name: str, *_: Any, older: timedelta) -> int:
        names.append(name)
        if fault := FAULTS.get(name):
            raise fault
        return 1

    monkeypatch.setattr(steps, "send_left", send_left)
    return names


def again() -> None:
    steps.send_left_of_all(load_platform(), datetime.now(UTC))


def test_every_export_with_notices_is_asked_whatever_the_others_receivers_do(asked: list[str]) -> None:
    with pytest.raises(TargetRefused, match="given up after a day"):
        again()
    assert sorted(asked) == ["gives-up", "hangs", "one", "two"]


def test_a_staging_area_that_cannot_be_used_is_told_of_once(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And as what it is: no target has refused anything."""
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", "s3://staging/exports/")
    monkeypatch.setenv("DATA_EXPORT_STAGING__CONN_ID", "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        again()
    assert asked == []


def test_where_time_is_over_the_others_wait_and_no_export_is_always_the_last(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = count(step=300)  # seconds: one export is asked, and then 600 of 480 are over
    monkeypatch.setattr(steps, "monotonic", lambda: next(clock))
    monkeypatch.setitem(FAULTS, "gives-up", TargetUnavailable("gives-up: no answer"))
    for _ in range(60):
        again()
    assert len(asked) == 60
    assert {*asked} == {"gives-up", "hangs", "one", "two"}
    assert "3 exports' notices wait for the next look, since others took long" in caplog.text
