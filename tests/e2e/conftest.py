"""One embedded platform and one Airflow for all end-to-end tests, in folders of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.run import NAMES
from demo.session import Session, running

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="session")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's own customer files, and one that is broken."""
    folder = tmp_path_factory.mktemp("customers")
    for name in NAMES:
        shutil.copy(ROOT / "include" / "customers" / f"{name}.yaml", folder)
    (folder / "broken.yaml").write_text(BROKEN)
    return folder


@pytest.fixture(scope="session")
def session(customers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    state = tmp_path_factory.mktemp("state")
    with running(state, print, {"DATA_EXPORT_CUSTOMERS_DIR": str(customers)}) as session:
        yield session
