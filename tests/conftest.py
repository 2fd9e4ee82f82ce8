"""Settings that must be there before Airflow is imported anywhere in the test process."""

import atexit
import functools
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.session
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from demo.session import Session

ROOT = Path(__file__).parents[1]
#: Line 5 misspells a key, line 8 asks for what the connector cannot do.
BROKEN = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
export_type: work-orders-timeline
interval: daily
start_date: 2025-03-16
time_zone: Europe/Paris
connector_type: email
connector_config:
  export_images: true
  emails: [bi-team@customer.example]
"""
_home = tempfile.mkdtemp(prefix="data-export-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ |= {
    "DATA_EXPORT_SIGNING_KEY": "a key of these tests alone that is long enough",
    "AIRFLOW_HOME": _home,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    # On a slow machine a second version of a DAG would otherwise be stored in the middle of a test.
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "3600",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(32 << 20),  # what is larger waits for a disk
}

botocore.session.create_loader = functools.cache(botocore.session.create_loader)  # as deploy/preload, and why it does


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported is no garbage: looking for some would be a fifth of this, and then a part of each test.

    Nor is what tests import later, such as Airflow's API server: to look for garbage a seventh as often, which is still
    many times a second, takes a third as long.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(5_000, 20, 20)
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="FOLDER", help="keep pictures of the page here, to look at them")


@pytest.fixture(scope="session")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's own customer files, and one that is broken."""
    folder = tmp_path_factory.mktemp("customers")
    from demo.run import NAMES  # late: most tests need none of it

    for name in NAMES:
        shutil.copy(ROOT / "include" / "customers" / f"{name}.yaml", folder)
    (folder / "broken.yaml").write_text(BROKEN)
    return folder


@pytest.fixture(scope="session")
def session(customers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Session"]:
    """One embedded platform and one Airflow for all tests that need them, in folders of their own."""
    from demo.airflow import BUNDLE  # late: most tests need none of it
    from demo.session import running

    state = tmp_path_factory.mktemp("state")
    own = {
        "name": "own-dags",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(ROOT / "tests" / "e2e" / "own_dags"), "refresh_interval": 5},
    }
    settings = {
        "DATA_EXPORT_CUSTOMERS_DIR": str(customers),
        # Once a year: a look by the clock would come between what a test prepares and what it looks for.
        "DATA_EXPORT_ALERTS__WATCH_SCHEDULE": "0 0 1 1 *",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE, own]),
        # Airflow makes the password of the second, who has the fewest rights with which one can change a run.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,somebody:user",
    }
    with running(state, print, settings, port=0) as session:
        yield session


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """For one file of tests: as long as Playwright runs, it keeps an event loop running in which no other test can."""
    from playwright.sync_api import expect, sync_playwright

    # Draws nothing for a screen that is not there, so it takes half the CPU.
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: the page is not tested (apt-get install chromium-headless-shell)")
    expect.set_options(timeout=30_000)  # a slow machine with three tests at once
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
