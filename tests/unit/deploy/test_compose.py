"""docker-compose.yaml and .env.example: valid, in agreement, and as careful as the documentation says."""

import json
import re
import stat
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography.fernet import Fernet

from data_export.config.fields import ENV_PREFIX
from data_export.config.platform import PlatformSettings
from tests.unit.deploy.compose_file import ROOT, compose, dotenv, filled_env, new_env, variables

TEXT = (ROOT / "docker-compose.yaml").read_text()
EXAMPLE = dotenv((ROOT / ".env.example").read_text())
COMPONENTS = {"api-server", "scheduler", "dag-processor", "triggerer", "worker"}
LONG_RUNNING = COMPONENTS | {"postgres", "redis", "demo-servers"}
FOLDERS = {"DATA_EXPORT_CUSTOMERS_DIR", "DATA_EXPORT_PLATFORM_FILE", "DATA_EXPORT_STATE_DIR", "DATA_EXPORT_SIGNING_KEY"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(compose(filled_env())["services"])


@pytest.fixture(scope="module")
def airflow(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "AIRFLOW__CORE__EXECUTOR" in service["environment"]}


def test_the_file_is_valid_before_and_after_filling_in(services: dict[str, Any]) -> None:
    schema = json.loads(
        files("check_jsonschema").joinpath("builtin_schemas", "vendor", "compose-spec.json").read_text()
    )
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(yaml.safe_load(TEXT))
    validator.validate({"services": services})
    assert not validator.is_valid({"services": services | {"postgres": {"healthchek": {}}}})


def test_all_components_run_and_wait_for_what_they_need(services: dict[str, Any], airflow: dict[str, Any]) -> None:
    assert set(airflow) == COMPONENTS | {"init", "cli"}
    assert set(services) == set(airflow) | {"postgres", "redis", "demo-servers"}
    for name in COMPONENTS:
        assert services[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}
    for name, service in airflow.items():
        assert service["depends_on"]["postgres"] == {"condition": "service_healthy"}, name
    assert services["worker"]["depends_on"]["api-server"] == {"condition": "service_healthy"}
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        "cli": ["tools"],
        "demo-servers": ["demo"],
    }


def test_what_runs_long_is_watched_restarted_limited_and_its_log_rotated(services: dict[str, Any]) -> None:
    for name in LONG_RUNNING:
        service = services[name]
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert service["restart"] == "unless-stopped", name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name
    for name in ("init", "cli"):
        assert services[name]["restart"] == "no"


def test_health_checks_in_python_compile(services: dict[str, Any]) -> None:
    programs = [
        s["healthcheck"]["test"][3] for s in services.values() if "python" in s.get("healthcheck", {}).get("test", [])
    ]
    assert len(programs) == 2
    for program in programs:
        compile(program, "healthcheck", "exec")


def test_airflow_shares_its_keys_and_nothing_else_differs(airflow: dict[str, Any]) -> None:
    own = {
        "init": {"AIRFLOW_ADMIN_USERNAME", "AIRFLOW_ADMIN_EMAIL", "AIRFLOW_ADMIN_PASSWORD"},
        "worker": {"DUMB_INIT_SETSID", "PYTHONPATH"},
    }
    common = airflow["scheduler"]["environment"]
    for name, service in airflow.items():
        different = {key for key, value in service["environment"].items() if common.get(key) != value}
        assert different == own.get(name, set()), name
        assert service["env_file"] == [".env", ".env"], name
        assert service["image"] == airflow["scheduler"]["image"], name
    assert common["AIRFLOW_ADMIN_PASSWORD"] == ""
    assert common["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"


def test_airflow_runs_with_few_rights(services: dict[str, Any], airflow: dict[str, Any]) -> None:
    for name, service in airflow.items():
        assert service["user"] == "50000:0", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert ("ports" in service) == (name == "api-server"), name
    assert services["api-server"]["ports"] == ["127.0.0.1:8080:8080"]


def test_customers_files_are_mounted_read_only_everywhere_and_keys_where_files_are_sent(
    airflow: dict[str, Any],
) -> None:
    for name, service in airflow.items():
        binds = {v["target"]: v for v in service["volumes"] if isinstance(v, dict) and v["type"] == "bind"}
        assert all(bind["read_only"] for bind in binds.values()), name
        keys = {"/opt/airflow/keys"} if name in {"worker", "cli"} else set()
        assert set(binds) == {"/opt/airflow/include/customers"} | keys, name


def test_every_variable_is_explained_with_its_default() -> None:
    asked = variables(TEXT)
    unexplained = {"SERVICE_IMAGE", "DEMO_IMAGE", "DEMO_ENV_FILE"}
    assert set(asked) - set(EXAMPLE) == unexplained
    for name, default in asked.items():
        if name not in unexplained:
            assert (default or "") == EXAMPLE[name], name


def test_the_example_holds_no_secret_and_nothing_unused() -> None:
    asked = variables(TEXT)
    assert {name for name, value in EXAMPLE.items() if not value} == {
        name for name, default in asked.items() if default is None
    }
    rest = {name for name in EXAMPLE if name not in asked}
    assert all(re.match(r"AIRFLOW__|AIRFLOW_CONN_|DATA_EXPORT_", name) for name in rest), rest


def test_every_setting_exists(airflow: dict[str, Any], services: dict[str, Any]) -> None:
    names = set(EXAMPLE) | {name for service in services.values() for name in service["environment"]}
    names |= set(re.findall(r"DATA_EXPORT_\w+", (ROOT / "docs" / "deploy.md").read_text()))
    sections = {
        name.upper(): {(field.alias or key).upper() for key, field in section.annotation.model_fields.items()}
        for name, section in PlatformSettings.model_fields.items()
        if section.annotation is not None
    }
    for name in {
        name for name in names if name.startswith("DATA_EXPORT_") and not name.startswith(ENV_PREFIX)
    } - FOLDERS:
        section, _, key = name.removeprefix("DATA_EXPORT_").partition("__")
        assert key in sections[section], name
    assert EXAMPLE["DATA_EXPORT_STAGING__URI"].startswith(("gs://", "s3://"))


def test_new_secrets_are_fit_for_their_use(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    assert new_env().main(tmp_path) is None
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = dotenv(path.read_text())
    secrets = {name: value for name, value in made.items() if not EXAMPLE[name]}
    assert len(set(secrets.values())) == len(secrets) == 7
    assert {name: value for name, value in made.items() if name not in secrets} == {
        n: v for n, v in EXAMPLE.items() if v
    }
    Fernet(secrets["AIRFLOW__CORE__FERNET_KEY"])
    assert all(re.fullmatch(r"[0-9a-f]{48}", secrets[name]) for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"))
    assert len(secrets["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert "exists" in new_env().main(tmp_path)
    assert dotenv(path.read_text()) == made
