"""A DAG of one's own through a real scheduler: its settings in the DAG, its window from the trigger form."""

from datetime import UTC, datetime, timedelta

import pytest

from data_export.config.models import EXPORT
from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import LYON, PARIS
from demo.expected import expected_file
from demo.rest import wait_for
from demo.session import Session
from demo.targets import received
from tests.e2e.own_dags.own_export import prepare

pytestmark = pytest.mark.e2e
DAG_ID, TYPE = "own_export", "work-orders-timeline"


def test_a_dag_of_ones_own_delivers_and_links_to_what_it_delivered(session: Session) -> None:
    api = session.api
    wait_for("the DAG is there", lambda: DAG_ID in api.dag_ids(), 60)
    api.unpause(DAG_ID)
    run = api.trigger(DAG_ID, day="2025-03-17")

    def is_over() -> bool:
        session.airflow.check()
        return api.run(DAG_ID, run)["state"] in ("success", "failed")

    wait_for("the run is over", is_over, 180, pause=1)
    instances = api.task_instances(DAG_ID, run)
    failed = [api.reason(each) for each in instances if each["state"] == "failed"]
    assert (api.run(DAG_ID, run)["state"], failed) == ("success", [])

    start = datetime(2025, 3, 17, tzinfo=UTC)
    end = start + timedelta(days=1)
    target = received(session.platform, EXPORT.validate_python(prepare.config))
    assert target is not None
    sites = [each for each in instances if each["task_id"] == "deliver"]
    assert {each["rendered_map_index"] for each in sites} == {str(PARIS), str(LYON)}
    for site in (PARIS, LYON):
        key = data_key(site, TYPE, ExportWindow(start, end))
        content = target.read(key)
        assert content == expected_file(session.data, site, TYPE, start, end) != b""
        (index,) = (each["map_index"] for each in sites if each["rendered_map_index"] == str(site))
        links = api.request(
            "GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/deliver/links", params={"map_index": index}
        )
        address = "https://console.cloud.google.com/storage/browser/_details/demo-customer/own/"
        # The page shows exports of customer files, and no others' files.
        delivered = address + key.replace(":", "%3A")
        assert links["extra_links"] == {"Data export": None, "Files": None, "Delivered file": delivered}
    links = api.request("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/prepare/links")
    assert links["extra_links"] == {"Data export": None}
