"""The part of Airflow's REST API that demo and end-to-end tests use."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
_PAUSES = (0.2, 1.0, 3.0)
"""Seconds before what Airflow's database rolled back is asked for again."""


class AirflowApi:
    """A signed-in client.

    Raises:
        httpx.HTTPError: from every method, when the server does not answer or refuses.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._login = {"username": user, "password": password}
        # trust_env off: a proxy of the user's environment must not get requests for this machine.
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def sign_in(self) -> None:
        answer = self._client.post("/auth/token", json=self._login)
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON of `/api/v2<path>`; the error of a refusal carries the server's words.

        What Airflow's database refuses, as a change that meets one of the scheduler's may be, is rolled back, and
        Airflow leaves it to the client to ask again.
        """
        answer = self._client.request(method, f"/api/v2{path}", **arguments)
        for pause in _PAUSES:
            if not (answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR and '"Database error"' in answer.text):
                break
            time.sleep(pause)
            answer = self._client.request(method, f"/api/v2{path}", **arguments)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:5000]}", request=answer.request, response=answer
            )
        return answer.json() if answer.content else None

    def list_all(self, path: str, name: str, **params: Any) -> list[dict[str, Any]]:
        """All of a list, of which Airflow gives 100 at a time, whatever limit it is asked for."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", path, params={"limit": 100, "offset": len(found)} | params)
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def health(self) -> dict[str, str]:
        """Status by component: metadatabase, scheduler, triggerer, dag_processor."""
        return {name: state["status"] for name, state in self.request("GET", "/monitor/health").items()}

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.list_all("/dags", "dags")}

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def backfill(self, dag_id: str, first: datetime, last: datetime) -> None:
        """Runs every window that starts in `[first, last]`, those that already ran too."""
        for old in self.list_all("/backfills", "backfills", dag_id=dag_id):
            # A finished backfill counts as active until the scheduler looks again, up to half a minute later, and
            # Airflow refuses a second one meanwhile.
            if old["completed_at"] is None:
                self.request("PUT", f"/backfills/{old['id']}/cancel")
        body = {"dag_id": dag_id, "from_date": first.isoformat(), "to_date": last.isoformat()}
        self.request("POST", "/backfills", json=body | {"max_active_runs": 1, "reprocess_behavior": "completed"})

    def trigger(self, dag_id: str, **conf: str) -> str:
        """Starts a run as the trigger form does, `conf` being its fields; returns the run's id."""
        run = self.request("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Runs all tasks of a run again."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        self.request("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return found

    def runs(self, dag_ids: Iterable[str]) -> list[dict[str, Any]]:
        """All runs of the DAGs, with one request."""
        body = {"dag_ids": list(dag_ids), "page_limit": 1000}
        runs: list[dict[str, Any]] = self.request("POST", "/dags/~/dagRuns/list", json=body)["dag_runs"]
        return runs

    def count_tasks(self, dag_ids: Iterable[str], states: Sequence[str] = ()) -> int:
        """How many task instances there are in one of the states, or in any; cheap, however many there are."""
        body = {"dag_ids": list(dag_ids), "page_limit": 1} | ({"state": list(states)} if states else {})
        return int(self.request("POST", "/dags/~/dagRuns/~/taskInstances/list", json=body)["total_entries"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self.list_all(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")

    def log(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        """The lines of the log of a task instance's last try, each with `event` and mostly `level`."""
        path = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}".format_map(instance)
        lines = self.request("GET", path, params={"map_index": instance["map_index"]})["content"]
        return [line for line in lines if isinstance(line, dict)]

    def reason(self, instance: dict[str, Any]) -> str:
        """`<class>: <message>` of the error in the log of a task instance's last try."""
        errors = [error for line in self.log(instance) for error in line.get("error_detail") or ()]
        return "{exc_type}: {exc_value}".format_map(errors[-1]) if errors else "its log holds no error"

    def import_errors(self) -> list[str]:
        return [error["stack_trace"] for error in self.list_all("/importErrors", "import_errors")]


def wait_for(what: str, condition: Callable[[], T], seconds: float, pause: float = 0.5) -> T:
    """The first truthy answer of `condition`, a server that does not answer in time being none.

    What takes long is asked for less and less often, every two seconds at last: on a small machine the questions would
    otherwise be a good part of its work.

    Raises:
        TimeoutError: naming `what`, when there was none within `seconds`.
    """
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < seconds:
        with suppress(httpx.TransportError):
            if answer := condition():
                return answer
        time.sleep(max(pause, min(waited / 10, 2)))
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")
