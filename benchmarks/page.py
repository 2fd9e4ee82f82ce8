"""How quick the page "Data exports" is with thousands of exports and a year of their runs.

    export PYTHONPATH=plugins
    python -m benchmarks.page                              # 5,000 exports, a year of daily runs; 10 minutes to fill
    python -m benchmarks.page --exports 500 --days 30
    python -m benchmarks.page --folder /tmp/fleet --serve  # stay, to look at it in a browser

Starts a PostgreSQL of its own in a temporary folder (`--folder` keeps it for the next time), lets Airflow make its
tables and store one DAG per connector, copies those, and adds runs and receipts. Then, with the real API server:

- cold: PostgreSQL and the API server have just started, and the database's files are in no cache of the system;
- again: once more, after the page's own caches have expired: of the routes that share a list, the first makes it anew;
- cached: once more at once.

Seconds to first content are those of a real Chromium from the navigation to the first row of the list.
"""

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
from playwright.sync_api import Page, sync_playwright

from benchmarks.page_history import add_exports, add_look, add_runs
from data_export.config.models import dag_id
from demo.airflow import USER, Airflow
from demo.platform import Secrets
from demo.rest import wait_for
from demo.servers.postgres import PostgresServer

DAY = timedelta(days=1)
EXPIRED = 61.0  # seconds after which nobody is shown the list that was made before
ONE = "data_export__fleet_00001"  # there in a fleet of any size
ROUTES = {
    "list, first page": "api/exports?limit=100",
    "list, sorted by bytes": "api/exports?limit=100&sort=bytes&order=desc",
    "list, search": "api/exports?limit=100&search=fleet-004",
    "broken files": "api/problems",
    "one export": f"api/exports/{ONE}",
    "fleet": "api/fleet",
    "failures": "api/failures",
    "volume": "api/volume",
}
TEMPLATE = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
interval: daily
start_date: {start:%Y-%m-%d}
connector_type: {type}
connector_config:
{config}
"""
CONNECTORS = {
    "gs": ("cloud_storage", "  storage_uri: gs://customer-bucket/exports/\n  export_images: true"),
    "s3": ("cloud_storage", "  storage_uri: s3://customer-bucket/exports/\n  export_images: true"),
    "sftp": ("sftp", "  conn_id: customer_sftp\n  sftp_remote_path: /exports\n  export_images: true"),
    "email": ("email", "  emails: [bi-team@customer.example]"),
}

#: A few exports are paused, late or running, as in any installation.
UNUSUAL = """
WITH paused AS (UPDATE dag SET is_paused = true WHERE dag_id LIKE '%%fleet%%077'),
late AS (DELETE FROM dag_run WHERE dag_id LIKE '%%fleet%%7_13' AND logical_date >= %(last)s - interval '2 days')
UPDATE dag_run SET state = 'running', end_date = NULL
WHERE dag_id LIKE '%%fleet%%321' AND logical_date = %(last)s - interval '1 day'
"""

#: Notes milliseconds from the navigation to the frame that shows the first element of a kind: Playwright itself looks
#: but a few times a second.
NOTE_CONTENT = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("%s")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.contentShown = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""


class Installation:
    """Airflow's database and API server in a folder; filled once."""

    def __init__(self, folder: Path, exports: int, days: int) -> None:
        self.folder, self.exports, self.days = folder, exports, days
        self.customers = folder / "customers"
        self.customers.mkdir(parents=True, exist_ok=True)
        self._secrets = Secrets(folder / "secrets.json")

    @contextmanager
    def postgres(self) -> Iterator[str]:
        with PostgresServer(self.folder / "postgres", durable=False) as server:
            yield server.create_database("airflow")

    @contextmanager
    def airflow(self, dsn: str) -> Iterator[Airflow]:
        environment = {"DATA_EXPORT_CUSTOMERS_DIR": str(self.customers)}
        with Airflow(self.folder, dsn, self._secrets, environment, port=0) as airflow:
            yield airflow

    def fill(self) -> None:
        done = self.folder / f"filled-{self.exports}-{self.days}"
        if done.exists():
            return
        last = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        first = last - self.days * DAY
        for name, (kind, config) in CONNECTORS.items():
            text = TEMPLATE.format(start=first - 30 * DAY, type=kind, config=config)
            (self.customers / f"template-{name}.yaml").write_text(text)
        with self.postgres() as dsn, self.airflow(dsn) as airflow:
            airflow.prepare()
            airflow.start([])
            airflow.run("dags", "reserialize")
            with psycopg.connect(dsn, autocommit=True) as connection:
                self._add(connection, first, last)
        done.touch()

    def _add(self, connection: psycopg.Connection[object], first: datetime, last: datetime) -> None:
        share = self.exports // len(CONNECTORS)
        for place, name in enumerate(CONNECTORS):
            add_exports(connection, dag_id(f"template-{name}"), place * share + 1, (place + 1) * share)
        connection.execute("UPDATE dag SET is_stale = true WHERE dag_id LIKE '%template%'")
        while first < last:  # in order of time, as a year would have
            month = min(first + 30 * DAY, last)
            add_runs(connection, "data_export__fleet%", first, month, DAY)
            first = month
        with connection.transaction():
            connection.execute(UNUSUAL, {"last": last})
        add_look(connection, "data_export__fleet%", last - 3 * DAY, last, DAY)
        connection.execute("VACUUM ANALYZE")

    @contextmanager
    def cold(self) -> Iterator[Airflow]:
        """PostgreSQL and the API server, started with the database's files out of the system's cache."""
        os.sync()  # what is not on the disk yet stays in the cache
        for path in (self.folder / "postgres" / "data").rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with self.postgres() as dsn, self.airflow(dsn) as airflow:
            airflow.start(["api-server"])
            wait_for("the API server is up", lambda: airflow.api.sign_in() is None, 120, pause=0.2)
            yield airflow


def measure_routes(installation: Installation) -> None:
    print(f"{'seconds':24} {'cold':>8} {'again':>8} {'cached':>8} {'kB':>8}")
    cold, size = {}, {}
    for name, route in ROUTES.items():
        with installation.cold() as airflow, signed_in(airflow) as client:
            client.get("/api/v2/dags", params={"limit": 1}).raise_for_status()  # warms Airflow's own parts, not ours
            cold[name], size[name] = timed(client, route)
    with installation.cold() as airflow, signed_in(airflow) as client:
        for route in ROUTES.values():
            timed(client, route)
        time.sleep(EXPIRED)
        again = {name: timed(client, route)[0] for name, route in ROUTES.items()}
        cached = {name: statistics.median(timed(client, route)[0] for _ in range(20)) for name, route in ROUTES.items()}
    for name in ROUTES:
        print(
            f"{name:24} {cold[name]:8.3f} {again[name]:8.3f} {cached[name]:8.3f} {size[name] / 1000:8.1f}", flush=True
        )


@contextmanager
def signed_in(airflow: Airflow) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=airflow.url, timeout=120, trust_env=False) as client:
        answer = client.post("/auth/token", json={"username": USER, "password": airflow.password})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


def timed(client: httpx.Client, route: str) -> tuple[float, int]:
    began = time.monotonic()
    answer = client.get(f"/data-exports/{route}")
    answer.raise_for_status()
    return time.monotonic() - began, len(answer.content)


def measure_browser(installation: Installation, rounds: int = 5) -> None:
    """From the navigation to the first row, the frame of Airflow's own page not counted."""
    path = shutil.which("chromium")
    if path is None:
        print("no chromium: time to first content is not measured")
        return
    with sync_playwright() as playwright:
        for page, ready in (
            ("", "#body tr"),
            (f"export.html?dag={ONE}", "button.cell"),
            ("fleet.html", "section.card"),
        ):
            with installation.cold() as airflow:
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                context = browser.new_context(base_url=f"{airflow.url}/data-exports/")
                with signed_in(airflow) as client:
                    token = client.headers["Authorization"].removeprefix("Bearer ")
                context.add_cookies([{"name": "_token", "value": token, "url": airflow.url}])
                tab = context.new_page()
                tab.add_init_script(NOTE_CONTENT % ready)
                cold = shown(tab, page, ready)
                warm = [shown(tab, page, ready) for _ in range(rounds)]
                browser.close()
            name = f"Chromium, {page.partition('.')[0] or 'list'}"
            print(f"{name:24} {cold:8.2f} {'':8} {statistics.median(warm):8.2f}", flush=True)


def shown(tab: Page, page: str, ready: str) -> float:
    """Seconds until the first element of the selector `ready` is there, noted in the page by NOTE_CONTENT."""
    tab.goto(page, wait_until="commit")
    tab.locator(ready).first.wait_for()
    return float(tab.wait_for_function("window.contentShown").json_value()) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=5000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--folder", type=Path, help="keeps the database for the next time")
    parser.add_argument("--serve", action="store_true", help="fill it, start the API server and stay")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    with tempfile.TemporaryDirectory() as temporary:
        installation = Installation(options.folder or Path(temporary), options.exports, options.days)
        began = time.monotonic()
        installation.fill()
        print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
        if options.serve:
            serve(installation)
        else:
            measure_routes(installation)
            measure_browser(installation)


def serve(installation: Installation) -> None:
    with installation.cold() as airflow:
        print(f"{airflow.url}/data-exports/  {USER} / {airflow.password}", flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
