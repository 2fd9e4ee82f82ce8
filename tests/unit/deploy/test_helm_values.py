"""The Helm values say what compose says, and give each step's pod its memory and scratch."""

import ast
import importlib.util
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.unit.deploy.compose_file import ROOT, compose, filled_env

VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "helm-values.yaml").read_text())
#: Of Celery, of compose's network, and what the chart sets itself.
NOT_OF_KUBERNETES = re.compile(
    r"AIRFLOW__(CELERY\w*|CORE__EXECUTOR|CORE__EXECUTION_API_SERVER_URL|API__BASE_URL)(__\w+)?"
    r"|AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"  # a pod may wait long for a node; no message can be lost
)
needs_client = pytest.mark.skipif(
    importlib.util.find_spec("kubernetes") is None, reason="the Kubernetes client is in requirements.txt"
)


def environment() -> dict[str, str]:
    return {each["name"]: each["value"] for each in VALUES["env"]}


def test_settings_are_those_of_compose() -> None:
    shared = compose(filled_env())["x-shared"]
    expected = {name: value for name, value in shared.items() if not NOT_OF_KUBERNETES.fullmatch(name)}
    assert len(expected) > 10
    assert {name: value for name, value in environment().items() if name in expected} == expected
    assert {*environment()} - {*expected} == {
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT",
        "AIRFLOW__CORE__PARALLELISM",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
    }
    assert all(isinstance(value, str) for value in environment().values())  # as the chart's schema wants them


def test_probes_are_those_of_compose() -> None:
    services = compose(filled_env())["services"]
    for name, service in (("scheduler", "scheduler"), ("dagProcessor", "dag-processor"), ("triggerer", "triggerer")):
        assert VALUES[name]["livenessProbe"]["command"] == services[service]["healthcheck"]["test"][1:]


def test_airflow_is_the_locked_version() -> None:
    (locked,) = re.findall(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert VALUES["airflowVersion"] == locked
    assert f"FROM apache/airflow:slim-{locked}-" in (ROOT / "Dockerfile").read_text()


def test_every_container_has_our_image_and_nobody_a_known_password() -> None:
    """The chart's template of task pods takes the default image, whatever `images.airflow` is."""
    assert VALUES["defaultAirflowRepository"].endswith("/data-export-service")
    assert "images" not in VALUES
    assert VALUES["createUserJob"] == {"enabled": False}


def test_no_secret_is_in_the_values() -> None:
    assert {"fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName"} <= VALUES.keys()
    assert not {"fernetKey", "apiSecretKey", "jwtSecret", "webserverSecretKey"} & VALUES.keys()
    assert VALUES["data"] == {"metadataSecretName": "data-export-metadata"}
    mounted = {each["name"] for each in VALUES["volumeMounts"]}
    assert mounted == {each["name"] for each in VALUES["volumes"]}


def settings() -> dict[str, Any]:
    text = VALUES["airflowLocalSettings"]
    assert "{{" not in text  # the chart renders it as a template
    ast.parse(text)
    found: dict[str, Any] = {}
    exec(text, found)
    return found


@needs_client
@pytest.mark.parametrize(
    ("task", "memory", "scratch"),
    [
        ("extract", "1Gi", "50Gi"),
        ("group.transform", "2Gi", "100Gi"),
        ("prepare", "1Gi", "2Gi"),
        ("look", "1Gi", "2Gi"),
        ("", "1Gi", "2Gi"),
    ],
)
def test_a_pod_gets_memory_and_scratch_by_its_step(task: str, memory: str, scratch: str) -> None:
    from kubernetes.client import ApiClient
    from kubernetes.client import models as k8s

    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(annotations={"dag_id": "data_export__acme", "task_id": task} if task else None),
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name="base"), k8s.V1Container(name="sidecar")],
            volumes=[k8s.V1Volume(name="scratch", empty_dir={}), k8s.V1Volume(name="config")],
        ),
    )
    hook = settings()["pod_mutation_hook"]
    hook(pod)
    hook(pod)  # as often as Airflow likes
    made = ApiClient().sanitize_for_serialization(pod)["spec"]
    assert [each["name"] for each in made["volumes"]] == ["config", "scratch"]
    claim = made["volumes"][1]["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": scratch}}}
    base, sidecar = made["containers"]
    assert base["resources"] == {"requests": {"cpu": "500m", "memory": memory}, "limits": {"memory": memory}}
    assert "resources" not in sidecar


@needs_client
@pytest.mark.parametrize(
    ("tries", "memory", "scratch"),
    [("1", "2Gi", "100Gi"), ("2", "4Gi", "200Gi"), ("3", "8Gi", "400Gi"), ("9", "8Gi", "400Gi")],
)
def test_a_pod_whose_window_was_too_large_gets_more_at_its_next_try(tries: str, memory: str, scratch: str) -> None:
    from kubernetes.client import models as k8s

    pod: Any = SimpleNamespace(
        metadata=SimpleNamespace(annotations={"dag_id": "acme", "task_id": "site.transform", "try_number": tries}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
    )
    settings()["pod_mutation_hook"](pod)
    assert pod.spec.containers[0].resources.limits == {"memory": memory}
    assert pod.spec.volumes[0].ephemeral.volume_claim_template.spec.resources.requests == {"storage": scratch}


@needs_client
def test_an_export_with_larger_windows_gets_more() -> None:
    from kubernetes.client import models as k8s

    found = settings()
    found["LARGER"]["data_export__big"] = {"transform": ("8Gi", "1Ti")}
    pod: Any = SimpleNamespace(
        metadata=SimpleNamespace(annotations={"dag_id": "data_export__big", "task_id": "transform"}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
    )
    found["pod_mutation_hook"](pod)
    assert pod.spec.containers[0].resources.limits == {"memory": "8Gi"}
    assert pod.spec.volumes[0].ephemeral.volume_claim_template.spec.resources.requests == {"storage": "1Ti"}


def test_each_step_that_moves_data_has_its_size() -> None:
    assert {*settings()["SIZES"]} == {"extract", "transform", "copy_images", "deliver"}


@needs_client
def test_a_pod_has_no_secret_of_airflows_admin() -> None:
    """As a worker of compose: whoever takes a task over forges no token, opens no database and decrypts nothing."""
    from kubernetes.client import models as k8s

    secrets = {
        name
        for name in compose(filled_env())["services"]["api-server"]["environment"]
        if re.search("FERNET_KEY|SECRET_KEY|JWT_SECRET|SQL_ALCHEMY_CONN", name)
    }
    assert len(secrets) == 4
    of_chart = ["AIRFLOW_CONN_AIRFLOW_DB", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY_CMD"]
    kept = ["AIRFLOW__CORE__EXECUTOR", "AIRFLOW_CONN_EXPORT_SOURCE"]
    given = [k8s.V1EnvVar(name=name, value="x") for name in (*secrets, *of_chart, *kept)]
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(),
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name="base", env=given), k8s.V1Container(name="git-sync", env=given)],
            init_containers=[k8s.V1Container(name="wait", env=given)],
        ),
    )
    hook = settings()["pod_mutation_hook"]
    hook(pod)
    hook(pod)
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        assert [each.name for each in container.env] == [*kept, "CONNECTION_CHECK_MAX_COUNT"]
        assert container.env[-1].value == "0"
    assert pod.spec.automount_service_account_token is False
