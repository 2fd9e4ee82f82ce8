"""What docker-compose.yaml gives Airflow, shown to the Airflow that requirements.txt pins."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.jobs import scheduler_job_runner

from data_export.config.platform import PlatformSettings
from data_export_airflow.dags.shards import shard_files
from tests.unit.deploy.compose_file import ROOT, compose, filled_env

#: Its scheduler reads them, but Airflow's list of options lacks them.
UNLISTED = {"AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES"}


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    """What every Airflow container gets."""
    return filled_env("service.env")


@pytest.fixture(scope="module")
def airflow_services() -> dict[str, Any]:
    services = compose(filled_env())["services"]
    return {name: service for name, service in services.items() if "AIRFLOW__CORE__EXECUTOR" in service["environment"]}


def _airflow_commands(services: dict[str, Any]) -> Iterator[list[str]]:
    for service in services.values():
        for line in (service["command"], service.get("healthcheck", {}).get("test", [])[1:]):
            if line[:1] == ["airflow"]:
                yield line[1:]
    for command in re.findall(r"\bairflow ([^<)\n]+)", services["init"]["command"][-1].replace("\\\n", "")):
        yield command.split()
    documented = (ROOT / "docs" / "deploy.md").read_text()
    for command in re.findall(r"^docker compose .*(?:cli|scheduler) airflow (.+)$", documented, re.MULTILINE):
        yield shlex.split(re.sub(r"\$\(.*?\)", "2025-01-01", command))


@pytest.fixture(scope="module")
def answer(env: dict[str, str], airflow_services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    home: Path = tmp_path_factory.mktemp("airflow")
    # As in the image: what is not in the environment has Airflow's default.
    home.joinpath("airflow.cfg").touch()
    options = {name for service in airflow_services.values() for name in service["environment"]} | set(env)
    asked = {
        "commands": list(_airflow_commands(airflow_services)),
        "options": sorted(name for name in options if name.startswith("AIRFLOW__")),
        "connections": [value for name, value in env.items() if name.startswith("AIRFLOW_CONN_")],
    }
    settings = {**env, **airflow_services["scheduler"]["environment"]}
    settings |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins")}
    settings |= {"AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"), "TMPDIR": str(home)}
    settings |= {"PYTHONPATH": str(ROOT / "plugins"), "PATH": "/usr/bin:/bin"}
    program = Path(__file__).with_name("inspect_airflow.py")
    done = subprocess.run(
        [sys.executable, program], env=settings, input=json.dumps(asked), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_variable_names_an_option(answer: Any) -> None:
    assert set(answer["unknown"]) == UNLISTED
    scheduler = Path(scheduler_job_runner.__file__).read_text()
    assert all(f'"{name.rpartition("__")[2].lower()}"' in scheduler for name in UNLISTED)


def test_every_command_is_understood(airflow_services: dict[str, Any], answer: Any) -> None:
    lines = list(_airflow_commands(airflow_services))
    known = {words for line in lines for words in (line[0], " ".join(line[:2]))}
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "celery worker", "pools set"} <= known
    assert {"db migrate", "users list", "users create"} <= known
    assert answer  # all of them were parsed on the way to an answer


def test_executor_sign_in_and_database_drivers_are_installed(answer: Any) -> None:
    assert answer["executor"] == "CeleryExecutor"
    assert answer["auth_manager"] == "FabAuthManager"
    assert answer["async_dsn"].startswith("postgresql+asyncpg://airflow:")


def test_customer_files_are_watched_and_a_container_makes_the_dag_files_that_the_documentation_names(
    answer: Any,
) -> None:
    assert answer["bundles"] == {"dags-folder": "CustomerFilesBundle"}
    named = re.search(r"`shards` (\d+), `refresh_interval` 10", (ROOT / "docs" / "deploy.md").read_text())
    assert named is not None
    others = {path.name for path in (ROOT / "dags").glob("*.py")}
    assert sorted(answer["dag_files"]) == sorted({*shard_files(int(named[1])), *others})


def test_the_plugin_loads_and_keeps_the_packages_to_itself(answer: Any) -> None:
    assert answer["plugin_errors"] == {}


def test_a_connection_is_prepared_for_every_id(
    env: dict[str, str], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = PlatformSettings()
    assert settings.mail.sender == env["DATA_EXPORT_MAIL__FROM"]
    ids = {settings.source.conn_id, settings.source.images_conn_id, settings.staging.conn_id}
    targets = settings.targets.model_dump()
    ids |= {settings.mail.smtp_conn_id, *(targets[key] for key in targets if key.endswith("_conn_id"))}
    assert len(ids) == 7
    prepared = {
        name.removeprefix("AIRFLOW_CONN_").lower(): env[name] for name in env if name.startswith("AIRFLOW_CONN")
    }
    assert set(prepared) == ids
    types = {conn_id: answer["connections"][text] for conn_id, text in prepared.items()}
    assert types[settings.source.conn_id] == "postgres"
    assert types[settings.mail.smtp_conn_id] == "smtp"
