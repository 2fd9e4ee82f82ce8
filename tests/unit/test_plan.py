"""A plan travels between tasks as JSON and comes back the same, without secrets."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data_export.config.fields import MASK
from data_export.config.load import load_customer
from data_export.config.models import EXPORT, AnyExport
from data_export.errors import ConfigError
from data_export.plan import ExportPlan
from data_export.window import ExportWindow

EXAMPLES = sorted((Path(__file__).parents[2] / "include" / "examples").glob("*.yaml"))
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))


def plan_of(export: AnyExport) -> ExportPlan:
    return ExportPlan(
        name="acme",
        export=export,
        window=WINDOW,
        run_token="token",
        config_hash=export.config_hash(),
        created_at="2025-03-17T00:05:00+00:00",
    )


def travelled(plan: ExportPlan) -> ExportPlan:
    return ExportPlan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_plan_comes_back_the_same(path: Path) -> None:
    plan = plan_of(load_customer(path))
    assert travelled(plan) == plan
    assert type(travelled(plan).export) is type(plan.export)
    assert travelled(plan).export.config_hash() == plan.config_hash


@pytest.mark.parametrize(
    "start", ["2025-03-16", "2025-03-16T06:00:00", "2025-03-16T06:00:00+01:00", "2025-03-16T06:00Z"]
)
def test_the_start_keeps_its_meaning(start: str) -> None:
    values = EXPORT.validate_python(example_values() | {"start_date": start, "timezone": "Europe/Paris"})
    back = travelled(plan_of(values)).export
    assert back.start == values.start
    assert back.config_hash() == values.config_hash()


def test_a_secret_stays_behind() -> None:
    values = example_values()
    values["connector_config"]["sftp_private_key_passphrase"] = "hunter2"
    plan = plan_of(EXPORT.validate_python(values))
    assert "hunter2" not in json.dumps(plan.to_dict())
    assert "hunter2" not in repr(plan)
    back = travelled(plan)
    assert back.export.connector_config.sftp_private_key_passphrase.get_secret_value() == MASK  # type: ignore[union-attr]
    assert back.export.config_hash() == plan.config_hash
    assert travelled(back) == back


def test_a_plan_knows_its_names() -> None:
    plan = plan_of(EXPORT.validate_python(example_values()))
    stamp = "2025-03-16_00:00:00_2025-03-17_00:00:00"
    assert plan.staging_prefix == f"runs/acme/{stamp}/token"
    assert plan.data_key(plan.sites[0]) == f"{plan.sites[0]}/data/work-orders-timeline/{stamp}.json"


@pytest.mark.parametrize("damage", [{"export": {"connector_type": "sftp"}}, {"new": 1}, {"window": {}}])
def test_a_plan_of_another_version_is_refused_with_the_way_out(damage: dict[str, Any]) -> None:
    values = plan_of(EXPORT.validate_python(example_values())).to_dict()
    with pytest.raises(ConfigError, match=r"plan of acme .* clear the run from its first task on"):
        ExportPlan.from_dict(values | damage)


def example_values() -> dict[str, Any]:
    """The SFTP example, which has a secret's reference."""
    return load_customer(next(path for path in EXAMPLES if path.stem == "sftp")).model_dump(mode="json")
