"""What monitoring receives from real runs, by StatsD and by OpenTelemetry; and that its absence costs nothing."""

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET, socket
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.observability import stats as server_stats
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from sqlalchemy.orm import Session

from data_export.errors import CredentialsRefused, TargetUnavailable
from data_export.receipt import ImagesCopied, SiteReceipt
from data_export_airflow import operators
from data_export_airflow.alerting import watch as watching
from data_export_airflow.operators import base
from data_export_airflow.telemetry import metrics
from data_export_airflow.telemetry.metrics import METRICS, MOST_NAMED, STEPS
from demo.data import PARIS
from demo.servers.smtp import SmtpServer
from tests.dags.dag_runs import RANGE, customer_dag, run, xcoms
from tests.dags.test_watching import Answers, Installation

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"airflow\.([\w.]+)((?:,\w+=[^,:]*)*):(-?[\d.]+)\|(c|g|ms)")
KINDS = {"counter": "c", "gauge": "g", "timer": "ms"}
SITE = SiteReceipt(site_id=PARIS, work_orders=7, quarantined=1, bytes=900, sha256="", uri="gs://b/f", outcome="created")


class Receiver:
    """A StatsD server as far as a test needs one: it keeps what arrives, by name and labels."""

    def __init__(self) -> None:
        self.socket = socket(AF_INET, SOCK_DGRAM)
        self.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def received(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Counters added up, the last value of others; each of ours has the kind and labels that are documented."""
        self.socket.settimeout(0.2)
        sums: Counter[Any] = Counter()
        while True:
            try:
                lines = self.socket.recv(1 << 16).decode().splitlines()
            except TimeoutError:
                return dict(sums)
            for line in lines:
                name, labels, value, kind = LINE.fullmatch(line).groups() if LINE.fullmatch(line) else [""] * 4
                if name.startswith("data_export."):
                    tags = frozenset(tuple(each.split("=", 1)) for each in labels.split(",")[1:])
                    assert {key for key, _ in tags} == {*METRICS[name].labels}, line
                    assert kind == KINDS[METRICS[name].kind], line
                    sums[name, tags] = sums[name, tags] + float(value) if kind == "c" else float(value)


def configured(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name.upper()}", value)
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)  # as a task does


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    yield
    for module in (stats, server_stats):
        state = vars(sys.modules[module.initialize.__module__])
        if client := getattr(state["_backend"], "statsd", None):
            client.close()
        state.update(_factory=None, _backend=None)


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    configured(
        monkeypatch, statsd_on="true", statsd_influxdb_enabled="true", statsd_host="127.0.0.1",
        statsd_port=str(receiver.port),
    )  # fmt: skip
    yield receiver
    receiver.socket.close()


def tags(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def test_a_run_is_measured_as_its_receipt_says(db: Session, customers: Path, statsd: Receiver) -> None:
    connector = {"storage_uri": f"file://{customers.parent}/target/", "export_images": True}
    dag = customer_dag(customers, "acme", connector_config=connector)
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    found, file = statsd.received(), {"connector": "file"}
    (site,) = xcoms(db, dag, "close")["return_value"]["sites"]
    created = tags(outcome="created", **file)
    assert found["data_export.rows", created] == site["work_orders"] > 0
    assert found["data_export.bytes", created] == site["bytes"]
    assert found["data_export.files", created] == found["data_export.windows", tags(**file)] == 1
    assert found["data_export.images", tags(outcome="copied", **file)] == site["images"]["copied"] > 0
    assert found["data_export.image_bytes", tags(**file)] == site["images"]["bytes"]
    steps = {dict(labels)["step"] for name, labels in found if name == "data_export.step_duration"}
    assert steps == {"prepare", "extract", "transform", "copy_images", "deliver", "close"}
    assert not any("acme" in str(labels) or str(PARIS) in str(labels) for _, labels in found)


def test_a_failed_try_is_counted_by_class_and_step(
    db: Session, customers: Path, statsd: Receiver, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = customer_dag(customers, "acme")
    (customers / "acme.yaml").write_text("interval: often")
    tomorrow = time.time() + 86400  # nobody is editing it, so it is not tried again
    monkeypatch.setattr(base, "time", SimpleNamespace(time=lambda: tomorrow))
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "failed"
    failed = tags(connector="unknown", step="prepare", error="BrokenFile")
    assert statsd.received() == {
        ("data_export.failures", failed): 1,
        ("data_export.alert_mails", tags(outcome="sent")): 1,
    }


@pytest.mark.parametrize(
    ("state", "error", "name", "kind"),
    [
        ("up_for_retry", TargetUnavailable("x"), "data_export.retries", "TargetUnavailable"),
        ("failed", CredentialsRefused("x"), "data_export.failures", "CredentialsRefused"),
        ("failed", MemoryError(), "data_export.failures", "MemoryError"),
        ("failed", json.JSONDecodeError("x", "", 0), "data_export.failures", "other"),
        ("failed", "Executor reported that the task finished (failed)", "data_export.failures", "WorkerLost"),
        ("up_for_retry", None, "data_export.retries", "WorkerLost"),
    ],
)
def test_retries_and_failures_are_two_things(statsd: Receiver, state: str, error: Any, name: str, kind: str) -> None:
    for task, operator in (
        (operators.DeliverOperator(task_id="x", plan={"name": "edited"}, site_id="", transformed={}), None),
        (None, "DeliverOperator"),  # as the scheduler has it
    ):
        metrics.task_failed(SimpleNamespace(task=task, operator=operator, state=state), error)
    metrics.task_failed(SimpleNamespace(task=object(), state=state), error)  # somebody else's
    assert statsd.received() == {(name, tags(connector="unknown", step="deliver", error=kind)): 2.0}


def test_every_operator_has_a_step() -> None:
    assert {*STEPS} == {name for name in operators.__all__ if name.endswith("Operator")}


def test_the_watch_names_what_is_late_and_takes_it_back(
    server: SmtpServer, statsd: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path / "customers"))
    monkeypatch.setattr(watching, "TaskRuns", Answers)
    installation, acme = Installation(tmp_path), tags(export="acme")
    installation.look()
    found = statsd.received()
    # After midnight it settles for some minutes.
    assert 0 <= found["data_export.lag", acme] <= timedelta(days=1, hours=1).total_seconds()
    assert found["data_export.late_windows", acme] == found["data_export.exports_late", tags()] == 1
    assert found["data_export.alert_mails", tags(outcome="sent")] == 2
    assert time.time() - found["data_export.watch_time", tags()] < 60
    monkeypatch.setattr(Answers, "delivered", lambda _self, _export, windows: {*windows})
    installation.look()
    found = statsd.received()
    assert found["data_export.late_windows", acme] == found["data_export.lag", acme] == 0
    assert found["data_export.exports_late", tags()] == 0
    installation.look()
    assert ("data_export.lag", acme) not in statsd.received()


def test_an_export_whose_file_breaks_while_it_is_late_has_not_caught_up(
    server: SmtpServer, statsd: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path / "customers"))
    monkeypatch.setattr(watching, "TaskRuns", Answers)
    installation = Installation(tmp_path)
    installation.look()
    statsd.received()
    installation.file.write_text("site_id: [")
    installation.look()
    found = statsd.received()
    assert ("data_export.lag", tags(export="acme")) not in found
    assert found["data_export.exports_broken", tags()] == 1


def test_five_thousand_late_exports_are_few_labels_and_none_is_lost(statsd: Receiver) -> None:
    received: dict[Any, float] = {}
    done = threading.Event()

    def receive() -> None:
        while not done.is_set():
            received.update(statsd.received())

    thread = threading.Thread(target=receive)
    thread.start()
    lag = {f"customer-{number}": (float(number), 1) for number in range(5000)}
    began = time.monotonic()
    before = [f"gone-{number}" for number in range(3000)]
    metrics.exports_watched(lag, before, 5000, 0, 0)
    assert time.monotonic() - began < 30
    time.sleep(0.3)
    done.set()
    thread.join()
    named = {dict(labels)["export"] for name, labels in received if name == "data_export.lag"}
    worst = {f"customer-{number}" for number in range(5000 - MOST_NAMED, 5000)}
    assert named == worst | {*before[:MOST_NAMED]}
    assert received["data_export.lag", tags(export="gone-999")] == 0  # which the look before has named
    assert received["data_export.exports_late", tags()] == 5000


class Broken:
    """A metrics backend that raises at everything."""

    statsd = None

    def __getattr__(self, name: str) -> Any:
        raise OSError("the collector is away")


def everything() -> None:
    metrics.site_delivered("gs", SITE)
    metrics.site_delivered("gs", SITE.model_copy(update={"work_orders": None, "outcome": "kept"}))
    metrics.images_copied("gs", ImagesCopied(site_id=PARIS, copied=3, bytes=5))
    with metrics.timed("deliver", "gs"):
        pass
    metrics.task_failed(SimpleNamespace(task=None, operator="DeliverOperator", state="failed"), None)
    metrics.count("data_export.windows", 1, connector="gs")
    metrics.exports_watched({"acme": (1.0, 1)}, [], 1, 0, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"statsd_on": "true", "statsd_host": "no-such-host.invalid"},
        {"statsd_on": "true", "statsd_host": "127.0.0.1", "statsd_port": "9"},
        {"statsd_on": "true", "statsd_host": "127.0.0.1", "statsd_port": "no number"},
        {"statsd_on": "true", "statsd_custom_client_path": "no.such.Client"},
    ],
    ids=["host", "port", "setting", "client"],
)
def test_metrics_that_go_nowhere_cost_nothing(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    configured(monkeypatch, **settings)
    began = time.monotonic()
    everything()
    assert time.monotonic() - began < 10


def test_a_backend_that_raises_costs_no_delivery() -> None:
    stats.initialize(factory=Broken, export_legacy_names=False)
    with pytest.raises(OSError, match="the collector is away"):
        stats.incr("any")
    everything()


def test_what_a_server_process_measures_goes_by_its_own_module(
    statsd: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    assert metrics._stats() is stats  # a task that LocalExecutor forked
    vars(sys.modules[stats.initialize.__module__]).update(_factory=None)
    metrics.count("data_export.alert_mails", 2, outcome="sent")
    assert statsd.received() == {("data_export.alert_mails", tags(outcome="sent")): 2.0}


EMITTER = """
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from tests.dags.test_metrics import everything
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
everything()
print("done")
"""


def emit_to(port: int, home: Path, **settings: str) -> None:
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__METRICS__OTEL_ON": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", EMITTER]
    done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "done" in done.stdout) == (0, True), done.stderr


def test_a_collector_that_is_away_fails_nothing_and_is_waited_for_as_long_as_is_set(tmp_path: Path) -> None:
    began = time.monotonic()
    emit_to(9, tmp_path, OTEL_EXPORTER_OTLP_METRICS_TIMEOUT="3")
    assert time.monotonic() - began < 60


def test_a_process_that_ends_at_once_has_sent_its_metrics_by_opentelemetry(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "PYTHONPATH": ":".join(sys.path),
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__METRICS__OTEL_ON": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-c", EMITTER], env=environment, capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        collector.shutdown()
    found: dict[str, set[str]] = {}
    for body in bodies:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (each for scope in resource.scope_metrics for each in scope.metrics):
                points = getattr(metric, metric.WhichOneof("data")).data_points
                found.setdefault(metric.name, set()).update(key.key for point in points for key in point.attributes)
    assert found["airflow.data_export.rows"] == {"connector", "outcome"}
    sent = {name.removeprefix("airflow.") for name in found}
    assert {*METRICS} - sent == {"data_export.retries", "data_export.alert_mails"}
    assert all(labels == {*METRICS[name.removeprefix("airflow.")].labels} for name, labels in found.items())


def test_the_documentation_lists_every_metric() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(data_export\.\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    documented = {name: (kind, (*re.findall(r"`(\w+)`", labels),), meaning) for name, kind, labels, meaning in rows}
    assert documented == {name: (each.kind, each.labels, each.meaning) for name, each in METRICS.items()}
