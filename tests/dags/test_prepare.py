"""What `prepare` freezes of a config and bounds in a DAG of one's own, and what it refuses."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
import yaml

from data_export.config.platform import load_platform
from data_export.errors import ConfigError, LimitExceeded
from data_export.plan import ExportPlan
from data_export_airflow.connections.clients import destination
from data_export_airflow.operators import PrepareExportOperator
from demo.data import PARIS
from tests.dags.dag_runs import DAY, END, START, config

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)


class Instance:
    """What `prepare` asks of its task instance."""

    dag_id = "my_own"
    run_id = "manual__1"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.run_id = "manual"

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def prepared(folder: Path, params: Any = None, **given: Any) -> dict[str, Any]:
    """The plan that `prepare` makes outside of a run, of arguments as they are once rendered."""
    rendered = {key: given.pop(key) for key in ("start", "end") if key in given}
    task = PrepareExportOperator(
        task_id="prepare", **{"config": config(folder)} | given | dict.fromkeys(rendered, "{{ template }}")
    )
    for key, value in rendered.items():
        setattr(task, key, value)
    ti, run = Instance(), SimpleNamespace(data_interval_start=START, data_interval_end=END)
    task.execute({"ti": ti, "dag_run": run, "params": params or {}})  # type: ignore[typeddict-item]
    plan: dict[str, Any] = ti.pushed["plan"]
    return plan


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-03-16T00:00:00Z", "2025-03-17T00:00:00+00:00"),
        ("2025-03-16 00:00:00+00:00", "2025-03-17T01:00:00+01:00"),
        ("2025-03-16", "2025-03-17"),
        (pendulum.datetime(2025, 3, 16), END),
    ],
)
def test_bounds_may_be_given_in_any_way_that_a_template_renders(
    local: None, tmp_path: Path, start: Any, end: Any
) -> None:
    assert prepared(tmp_path, start=start, end=end)["window"] == DAY.to_dict()


def test_bounds_without_an_offset_are_in_the_zone_of_the_export(local: None, tmp_path: Path) -> None:
    paris = config(tmp_path, timezone="Europe/Paris")
    window = prepared(tmp_path, config=paris, start="2025-03-16", end="2025-03-17T00:00:00")["window"]
    assert window == {"start": "2025-03-15T23:00:00+00:00", "end": "2025-03-16T23:00:00+00:00"}


def test_without_bounds_it_is_the_form_s_range_or_the_run_s_interval(local: None, tmp_path: Path) -> None:
    assert prepared(tmp_path)["window"] == DAY.to_dict()
    hour = {"from": "2025-03-16T00:00:00Z", "to": "2025-03-16T01:00:00Z"}
    assert prepared(tmp_path, params=hour | {"mine": 1})["window"]["end"] == "2025-03-16T01:00:00+00:00"


@pytest.mark.parametrize("nothing", [None, "", " ", "None"])
@pytest.mark.parametrize("key", ["start", "end"])
def test_a_bound_that_renders_to_nothing_is_refused(local: None, tmp_path: Path, key: str, nothing: Any) -> None:
    bounds = {"start": "2025-03-16", "end": "2025-03-17"} | {key: nothing}
    with pytest.raises(ConfigError, match=rf"{key}={nothing!r} of task prepare is no instant .* or neither of them"):
        prepared(tmp_path, **bounds)


def test_one_bound_alone_is_refused(local: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"end=None of task prepare .* give start and end both"):
        prepared(tmp_path, start="2025-03-16")


@pytest.mark.parametrize(
    ("start", "words"), [("yesterday", "'yesterday' is not a date"), ("2025-03-18", "window ends .* before it begins")]
)
def test_bounds_that_are_no_window_are_refused(local: None, tmp_path: Path, start: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"start and end of task prepare: .*{words}"):
        prepared(tmp_path, start=start, end="2025-03-17")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intervall": "daily"}, "config of my-own: intervall: .*did you mean interval"),
        ({"site_id": ["x"]}, r"config of my-own: site_id\[0\]: "),
        ({"limits": {"max_window_days": 0}}, r"config of my-own: limits.max_window_days: "),
        ({1: 2}, "config of my-own: 1: "),
        ({"connector_config": {1: 2}}, r"config of my-own: connector_config.1: "),
        ({"connector_config": 5}, r"config of my-own: connector_config: "),
        ({"connector_type": "ftp"}, "config of my-own: connector_type: 'ftp' is another protocol than"),
        ({"connector_type": "webdav"}, "config of my-own: connector_type: 'webdav' is not one of"),
    ],
)
def test_a_wrong_config_is_refused_by_its_key(local: None, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepared(tmp_path, config=config(tmp_path) | change)


def test_a_config_may_hold_what_python_has_for_it(local: None, tmp_path: Path) -> None:
    values = config(tmp_path) | {"site_id": (PARIS,), "start_date": START, "end_date": START.date() + 9 * HOUR * 24}
    assert prepared(tmp_path, config=values)["export"]["site_id"] == [str(PARIS)]


@pytest.mark.parametrize("nothing", ["", "{}", [], 5, {(1, 2): 3}])
def test_a_config_that_is_no_dict_is_refused(local: None, tmp_path: Path, nothing: Any) -> None:
    with pytest.raises(ConfigError, match="config of my-own is not a mapping"):
        prepared(tmp_path, config=nothing)


def test_a_config_may_not_do_what_a_file_may_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connector_config.storage_uri: file:// is for demo and tests"):
        prepared(tmp_path)


def test_the_limits_hold_and_are_named_as_those_of_the_config(local: None, tmp_path: Path) -> None:
    narrow = config(tmp_path, limits={"max_window_days": 1})
    with pytest.raises(LimitExceeded, match=r"limits.max_window_days = 1 \(config\)"):
        prepared(tmp_path, config=narrow, start="2025-03-16", end="2025-03-19")
    with pytest.raises(LimitExceeded, match=r"limits.max_window_days"):
        prepared(tmp_path, config=config(tmp_path, start_date="2021-01-01"), start="2021-01-01", end="2025-03-19")


def sftp(passphrase: str, **connector: Any) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "include" / "examples" / "sftp.yaml").read_text())
    values["connector_config"] |= {"sftp_private_key_passphrase": passphrase, **connector}
    return dict(values, start_date="2025-03-15", end_date=None)


def test_a_secret_in_a_config_is_a_reference_that_the_worker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"config of my-own: connector_config.sftp_private_key_passphrase: "
    ) as raised:
        prepared(tmp_path, config=sftp("hunter2"))
    assert "hunter2" not in str(raised.value)
    reference = "env:DATA_EXPORT_SECRET_ACME"
    plan = prepared(tmp_path, config=sftp(reference))
    assert plan["export"]["connector_config"]["sftp_private_key_passphrase"] == reference
    del plan["signature"]
    target = ExportPlan.from_dict(plan)
    with pytest.raises(ConfigError, match=f"refers to {reference}, but environment variable .* is not set"):
        destination(target.name, target.export, load_platform())
    monkeypatch.setenv("DATA_EXPORT_SECRET_ACME", "hunter2")
    destination(target.name, target.export, load_platform())


def test_an_export_has_a_name(local: None, tmp_path: Path) -> None:
    assert prepared(tmp_path)["name"] == "my-own"
    assert prepared(tmp_path, export="acme")["name"] == "acme"
    for wrong in ("../x", "A", "a_b", "", 5):
        with pytest.raises(ConfigError, match="is not the name of an export"):
            prepared(tmp_path, export=wrong)
    with pytest.raises(ValueError, match="neither export nor config"):
        PrepareExportOperator(task_id="prepare")
