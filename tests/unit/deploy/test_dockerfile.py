"""Dockerfile and .dockerignore: the pinned Airflow, only what belongs into an image, and commands that exist."""

import re
import subprocess
import sys
from pathlib import Path

from tests.unit.deploy.compose_file import ROOT, compose, filled_env

DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_is_the_pinned_airflow() -> None:
    tag = re.search(r"^FROM apache/airflow:slim-([\d.]+)-python([\d.]+) AS base$", DOCKERFILE, re.MULTILINE)
    assert tag is not None
    assert f"apache-airflow=={tag[1]}" in (ROOT / "requirements.txt").read_text().split()
    assert f"--python-version {tag[2]} " in (ROOT / "Makefile").read_text()


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    sources = {source for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()}
    assert {
        "dags",
        "plugins",
        "include",
        "demo",
        "deploy/celery_results.py",
        "deploy/health.py",
        "deploy/preload",
        "requirements.txt",
        "requirements-dev.txt",
    } == sources
    assert IGNORED[1] == "*"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)
    assert "include/customers" in IGNORED


def test_every_target_exists_and_none_runs_as_root() -> None:
    services = compose(filled_env())["services"]
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    assert {s["build"]["target"] for s in services.values() if "build" in s} == {"service", "demo"} <= stages
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE) == ["0", "50000"]


def test_an_image_is_built_at_one_service_that_its_others_wait_for_and_never_pull() -> None:
    """Compose builds all at once, and builds of one tag at the same time may fail."""
    services = compose(filled_env())["services"]
    assert {name for name, service in services.items() if "build" in service} == {"init", "demo-servers"}
    for name, service in services.items():
        if service["image"] == services["init"]["image"] and name != "init":
            assert service["pull_policy"] == "never", name
            assert "init" in service["depends_on"], name


def test_commands_outside_airflow_exist() -> None:
    services = compose(filled_env())["services"]
    last = services["init"]["command"][-1].splitlines()[-2:]
    assert last == ["python deploy/celery_results.py", "python -m data_export_airflow init"]
    documented = re.findall(r"cli python -m data_export_airflow ([\w-]+)", (ROOT / "docs" / "deploy.md").read_text())
    assert documented
    for command in {"init", *documented}:
        assert _help("-m", "data_export_airflow", command).startswith(f"usage: python -m data_export_airflow {command}")
    program, *arguments = services["demo-servers"]["command"]
    assert program == "python"
    module, options = arguments[:3], arguments[3::2]
    assert all(option in _help(*module) for option in options)


def test_the_demo_reports_readiness_where_compose_looks() -> None:
    services = compose(filled_env())["services"]
    written = Path(services["demo-servers"]["healthcheck"]["test"][-1])
    assert str(written.parent) == services["demo-servers"]["environment"]["DATA_EXPORT_STATE_DIR"]
    assert f'"{written.name}"' in (ROOT / "demo" / "__main__.py").read_text()


def _help(*arguments: str) -> str:
    environment = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, *arguments, "--help"], env=environment, capture_output=True, text=True, check=True
    ).stdout
