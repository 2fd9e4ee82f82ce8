"""docker-compose.yaml and .env.example: valid, in agreement, and as careful as the documentation says."""

import json
import re
import stat
import sys
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
SERVICE = dotenv((ROOT / "service.env.example").read_text())
COMPONENTS = {"api-server", "execution-api", "scheduler", "dag-processor", "triggerer", "worker"}
LONG_RUNNING = COMPONENTS | {"postgres", "redis", "demo-servers"}
UNEXPLAINED = {"SERVICE_IMAGE", "DEMO_IMAGE", "DEMO_ENV_FILE"}
#: No settings of platform.yaml: folders, a key, and what a health check looks at.
OTHERS = {
    "DATA_EXPORT_CUSTOMERS_DIR",
    "DATA_EXPORT_PLATFORM_FILE",
    "DATA_EXPORT_STATE_DIR",
    "DATA_EXPORT_SIGNING_KEY",
    "DATA_EXPORT_UNSIGNED_BEFORE",
    "DATA_EXPORT_HEARTBEAT_FILE",
}


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
    for server in ("api-server", "execution-api"):
        assert services["worker"]["depends_on"][server] == {"condition": "service_healthy"}
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


def test_health_checks_import_no_airflow(services: dict[str, Any]) -> None:
    """Which is what cost 10 to 20 CPU seconds a minute."""
    for name in COMPONENTS:
        test = services[name]["healthcheck"]["test"]
        assert test[:2] == ["CMD", "python"], name
        assert "deploy/health.py" in test[:4], name
    health = (ROOT / "deploy" / "health.py").read_text()
    assert set(re.findall(r"^ *(?:import|from) (\w+)", health, re.MULTILINE)) <= {*sys.stdlib_module_names, "psycopg2"}
    environment = services["worker"]["environment"]
    assert environment["DATA_EXPORT_HEARTBEAT_FILE"] == services["worker"]["healthcheck"]["test"][-1]


def test_airflow_containers_differ_in_nothing_but_what_they_must_know(airflow: dict[str, Any]) -> None:
    common = airflow["dag-processor"]["environment"]
    signing = {"AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API_AUTH__JWT_ISSUER"}
    sign_in = {"AIRFLOW__FAB__COOKIE_SECURE", "AIRFLOW__FAB__ENABLE_PROXY_FIX", "FORWARDED_ALLOW_IPS"}
    admin = {"AIRFLOW_ADMIN_USERNAME", "AIRFLOW_ADMIN_EMAIL", "AIRFLOW_ADMIN_PASSWORD"}
    more = {
        "api-server": signing | sign_in,
        "execution-api": signing,
        "scheduler": signing,
        "init": admin | {"CELERY_RESULTS_PASSWORD", "WORKERS"},
        "worker": {"CONNECTION_CHECK_MAX_COUNT", "DUMB_INIT_SETSID", "PYTHONPATH", "DATA_EXPORT_HEARTBEAT_FILE"},
    }
    for name, service in airflow.items():
        environment = service["environment"]
        assert set(environment) - set(common) == more.get(name, set()), name
        assert all(environment[key] == common[key] for key in set(environment) & set(common)), name
        assert service["env_file"] == ["service.env", "service.env"], name
        assert service["image"] == airflow["scheduler"]["image"], name
        if name != "worker":
            assert set(common) <= set(environment), name


def test_a_worker_knows_no_secret_of_airflows(airflow: dict[str, Any]) -> None:
    """Whoever takes it over has the queue, the results of tasks, and the exports' own connections."""
    secrets = {name for name, value in EXAMPLE.items() if not value}
    env = filled_env()
    values = {name: env[name] for name in secrets}
    services = compose(env)["services"]
    known = {name for name, value in values.items() if value in json.dumps(services["worker"])}
    assert known == {"REDIS_PASSWORD", "CELERY_RESULTS_PASSWORD"}
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in airflow["worker"]["environment"]
    for name, service in services.items():
        lines = json.dumps([service.get("command"), service.get("healthcheck")])
        assert not [secret for secret, value in values.items() if value in lines], f"on a command line of {name}"


def test_tasks_wait_in_airflow_and_not_in_the_queue() -> None:
    """`init` refuses other numbers; a task that waits in the queue counts as running."""
    assert int(EXAMPLE["WORKERS"]) * int(EXAMPLE["WORKER_CONCURRENCY"]) == int(EXAMPLE["AIRFLOW__CORE__PARALLELISM"])


def test_times_fit_each_other(airflow: dict[str, Any]) -> None:
    settings = airflow["worker"]["environment"]
    waits = int(settings["AIRFLOW__WORKERS__EXECUTION_API_RETRIES"])
    longest = int(settings["AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX"])
    queued = int(settings["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"])
    # Each wait is uniform between 1 second and at most the longest: the mean less four standard deviations.
    mean, deviation = (waits - 6) * (1 + longest) / 2, (longest - 1) / 12**0.5 * (waits - 6) ** 0.5
    assert mean - 4 * deviation >= 15 * 60
    # So soon a lost message is noticed; so long, in days, workers may be away before their tasks are failed.
    checked = int(settings["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL"])
    assert 60 <= queued <= queued + checked <= 300
    assert queued * int(settings["AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES"]) >= 30 * 24 * 3600
    heartbeat = int(settings["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"])
    assert 2 * int(settings["AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"]) <= heartbeat <= 60
    # No heartbeat is sent while an alert is, and Airflow gives the process five more seconds to end.
    assert int(settings["AIRFLOW__CORE__TASK_SUCCESS_OVERTIME"]) + 10 <= heartbeat


def test_airflow_runs_with_few_rights(services: dict[str, Any], airflow: dict[str, Any]) -> None:
    for name, service in airflow.items():
        assert service["user"] == "50000:0", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert ("ports" in service) == (name == "api-server"), name
    assert services["api-server"]["ports"] == ["127.0.0.1:8080:8080"]


def test_files_of_the_machine_are_mounted_read_only_everywhere_and_keys_where_files_are_sent(
    airflow: dict[str, Any],
) -> None:
    """Certificates everywhere, since service.env, which names them, is."""
    for name, service in airflow.items():
        binds = {v["target"]: v for v in service["volumes"] if isinstance(v, dict) and v["type"] == "bind"}
        writable = {target for target, bind in binds.items() if not bind["read_only"]}
        assert writable == ({"/opt/airflow/keys"} if name == "cli" else set()), name  # where `keys new` writes
        keys = {"/opt/airflow/keys"} if name in {"worker", "cli"} else set()
        assert set(binds) == {"/opt/airflow/include/customers", "/opt/airflow/certificates"} | keys, name
    named = re.findall(r"/opt/airflow/\w+", (ROOT / "service.env.example").read_text())
    assert set(named) == {"/opt/airflow/certificates"}


def test_the_version_of_compose_is_one_that_takes_an_env_file_twice(services: dict[str, Any]) -> None:
    """Its schema wanted them to be different until 2.24."""
    texts = (TEXT, (ROOT / "docs" / "deploy.md").read_text())
    assert [re.findall(r"Compose (\d\.\d+) or newer", text) for text in texts] == [["2.24"], ["2.24"]]
    assert services["worker"]["env_file"] == ["service.env", "service.env"]


def test_documented_commands_of_docker_name_services_and_volumes_that_exist() -> None:
    file, text = compose(filled_env()), (ROOT / "docs" / "deploy.md").read_text()
    entered = re.findall(r"docker compose (?:--profile \w+ )?exec (?:-T )?([\w-]+)", text)
    stopped = re.findall(r"docker compose (?:--profile \w+ )?(?:stop|rm)(?: --\w+)*((?: [a-z][\w-]+)+)", text)
    named = {*entered, *" ".join(stopped).split()}
    assert {"demo-servers", "postgres", "scheduler", "worker"} <= named <= set(file["services"])
    volumes = re.findall(r"^docker volume rm (\S+)$", text, re.MULTILINE)
    assert volumes == [f"{file['name']}_demo-state"]
    assert "demo-state" in file["volumes"]


def test_every_variable_is_explained_with_its_default() -> None:
    asked = variables(TEXT)
    assert set(asked) - set(EXAMPLE) == UNEXPLAINED
    for name, default in asked.items():
        if name not in UNEXPLAINED:
            assert (default or "") == EXAMPLE[name], name


def test_the_example_holds_no_secret_and_nothing_unused() -> None:
    asked = variables(TEXT)
    assert {name for name, value in EXAMPLE.items() if not value} == {
        name for name, default in asked.items() if default is None
    }
    assert set(EXAMPLE) == set(asked) - UNEXPLAINED
    assert all(re.match(r"AIRFLOW_CONN_|DATA_EXPORT_", name) for name in SERVICE), SERVICE


def test_every_setting_exists(airflow: dict[str, Any], services: dict[str, Any]) -> None:
    names = set(SERVICE) | {name for service in services.values() for name in service["environment"]}
    names |= set(re.findall(r"DATA_EXPORT_\w+", (ROOT / "docs" / "deploy.md").read_text()))
    sections = {
        name.upper(): {(field.alias or key).upper() for key, field in section.annotation.model_fields.items()}
        for name, section in PlatformSettings.model_fields.items()
        if section.annotation is not None
    }
    for name in {
        name for name in names if name.startswith("DATA_EXPORT_") and not name.startswith(ENV_PREFIX)
    } - OTHERS:
        section, _, key = name.removeprefix("DATA_EXPORT_").partition("__")
        assert key in sections[section], name
    assert SERVICE["DATA_EXPORT_STAGING__URI"].startswith(("gs://", "s3://"))


def test_new_secrets_are_fit_for_their_use(tmp_path: Path) -> None:
    for name in (".env.example", "service.env.example"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert new_env().main(tmp_path) is None
    service = tmp_path / "service.env"
    assert stat.S_IMODE(service.stat().st_mode) == 0o600
    assert all(dotenv(service.read_text()).values())
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = dotenv(path.read_text())
    secrets = {name: value for name, value in made.items() if not EXAMPLE[name]}
    assert len(set(secrets.values())) == len(secrets) == 7
    assert {name: value for name, value in made.items() if name not in secrets} == {
        n: v for n, v in EXAMPLE.items() if v
    }
    Fernet(secrets["AIRFLOW__CORE__FERNET_KEY"])
    assert all(re.fullmatch(r"[0-9a-f]{48}", secrets[name]) for name in secrets if name.endswith("S_PASSWORD"))
    assert len(secrets["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert "exists" in new_env().main(tmp_path)
    assert dotenv(path.read_text()) == made
