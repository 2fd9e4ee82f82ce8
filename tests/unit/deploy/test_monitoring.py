"""Dashboard and alert rules ask for metrics that exist, and Prometheus' own tool finds the rules right."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_export_airflow.telemetry.metrics import METRICS
from tests.unit.deploy.compose_file import ROOT

RULES = ROOT / "deploy" / "alerts" / "data-exports.yaml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "data-exports.json").read_text())
ASKED = re.compile(r"\bairflow_(data_export_\w+)(?:\{(\w+)=)?")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is in Debian's prometheus")


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return panels + [rule["expr"] for rule in group["rules"]]


def by_prometheus_name() -> dict[str, str]:
    return {name.replace(".", "_"): name for name in METRICS}


def test_all_that_is_asked_for_exists_with_its_labels() -> None:
    known, found = by_prometheus_name(), set()
    for expression in expressions():
        asked = ASKED.findall(expression)
        assert asked, expression
        found |= {name for name, _ in asked}
        assert found <= known.keys(), expression
        labels = {label for name, _ in asked for label in METRICS[known[name]].labels}
        grouped = {each.strip() for part in re.findall(r"by \(([^)]*)\)", expression) for each in part.split(",")}
        selected = {label for _, label in asked if label}
        assert (grouped | selected) - {"quantile"} <= labels, expression
    assert found == known.keys()  # and all that exists is shown


def test_quantiles_are_those_that_statsd_exporter_makes_unasked() -> None:
    quantiles = {each for expression in expressions() for each in re.findall(r'quantile="([^"]*)"', expression)}
    assert quantiles
    assert quantiles <= {"0.5", "0.9", "0.99"}


def test_legends_name_labels_that_the_query_leaves() -> None:
    for target in (target for panel in DASHBOARD["panels"] for target in panel["targets"]):
        grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
        shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        assert shown == [each.strip() for each in ",".join(grouped).split(",") if each], target["expr"]


def test_counters_are_asked_for_their_increase_and_nothing_else_is() -> None:
    known = by_prometheus_name()
    for expression in expressions():
        increased = set(re.findall(r"(?:increase|rate)\(airflow_(data_export_\w+)", expression))
        assert all(METRICS[known[name]].kind == "counter" for name in increased), expression
        counters = {name for name, _ in ASKED.findall(expression) if METRICS[known[name]].kind == "counter"}
        assert counters == increased, expression


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    """Its panels are in a grid of 24 columns, none upon another, with ids of their own."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) > 10
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${source}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["source"]


def promtool(*command: str | Path) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_rules_and_the_dashboard_s_queries(tmp_path: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions())]
    queries = tmp_path / "queries.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", queries)


#: Alert -> series with their values each minute, the minute at which it fires, and the labels it fires with.
FIRES: dict[str, tuple[dict[str, str], int, dict[str, str]]] = {
    "DataExportWatchSilent": ({"airflow_data_export_watch_time": "0x200"}, 80, {}),
    "DataExportsLate": ({"airflow_data_export_exports_late": "1x200"}, 40, {}),
    "DataExportsMostLate": (
        {"airflow_data_export_exports_late": "50x200", "airflow_data_export_exports_watched": "100x200"},
        40,
        {},
    ),
    "DataExportFarBehind": ({'airflow_data_export_lag{export="acme"}': "90000x200"}, 10, {"export": "acme"}),
    "DataExportFilesBroken": ({"airflow_data_export_exports_broken": "1x200"}, 40, {}),
    "DataExportFailures": (
        {'airflow_data_export_failures{connector="gs",step="deliver",error="AccessDenied"}': "0+1x200"},
        70,
        {"connector": "gs", "error": "AccessDenied"},
    ),
    "DataExportTargetsUnsteady": (
        {'airflow_data_export_retries{connector="sftp",step="deliver",error="TargetUnavailable"}': "0+2x200"},
        150,
        {"connector": "sftp", "error": "TargetUnavailable"},
    ),
    "DataExportAlertMailsNotSent": (
        {'airflow_data_export_alert_mails{outcome="failed"}': "0 0 1x200"},
        20,
        {"outcome": "failed"},
    ),
}
#: The same where nothing of the kind had happened before: then there was no counter, not one of 0.
FIRES_AT_ONCE: dict[str, tuple[dict[str, str], int, dict[str, str]]] = {
    "DataExportFailures": (
        {'airflow_data_export_failures{connector="gs",step="deliver",error="AccessDenied"}': "_ _ 200x200"},
        10,
        {"connector": "gs", "error": "AccessDenied"},
    ),
    "DataExportTargetsUnsteady": (
        {'airflow_data_export_retries{connector="sftp",step="deliver",error="TargetUnavailable"}': "_ _ 60+2x200"},
        70,
        {"connector": "sftp", "error": "TargetUnavailable"},
    ),
    "DataExportAlertMailsNotSent": (
        {'airflow_data_export_alert_mails{outcome="failed"}': "_ _ 1x200"},
        10,
        {"outcome": "failed"},
    ),
}


@needs_promtool
def test_each_rule_fires_when_it_should_and_is_silent_otherwise(tmp_path: Path) -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule for rule in group["rules"]}
    assert rules.keys() == FIRES.keys()
    calm = {"airflow_data_export_watch_time": "0+60x200", "airflow_data_export_exports_watched": "100x200"}
    tests = []
    for alert, (series, minute, labels) in [*FIRES.items(), *FIRES_AT_ONCE.items()]:
        fired = {"exp_labels": labels | rules[alert]["labels"]}
        long_ago = {name: "_ _ 200x200" for name in series if alert in FIRES_AT_ONCE}
        for given, at, expected in ((series, minute, [fired]), ({}, minute, []), (long_ago, 190, [])):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": name, "values": values} for name, values in (calm | given).items()],
                    "alert_rule_test": [{"eval_time": f"{at}m", "alertname": alert, "exp_alerts": expected}],
                }
            )
    file = tmp_path / "tests.yaml"
    without_words = {"groups": [{**group, "rules": [{**rule, "annotations": {}} for rule in group["rules"]]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(without_words))
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)
