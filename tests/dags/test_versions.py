"""An unchanged customer file never makes a new version of its DAG: through the dag-processor and a real database."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from data_export.config.models import dag_id
from demo.airflow import BUNDLE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "include" / "examples").glob("*.yaml"))


def stored(home: Path, hash_seed: str) -> dict[str, tuple[int, str]]:
    """Version and content of every DAG after one more pass of a new dag-processor over all files."""
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",  # else nothing is stored again within 30 seconds
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
        "DATA_EXPORT_CUSTOMERS_DIR": str(home / "customers"),
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}",
    }
    command = [sys.executable, Path(__file__).with_name("store_dags.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: (version, content) for name, (version, content) in json.loads(done.stdout.splitlines()[-1]).items()}


def test_only_a_changed_file_changes_its_dag(tmp_path: Path) -> None:
    customers = tmp_path / "customers"
    customers.mkdir()
    for example in EXAMPLES:
        shutil.copy(example, customers)
    (customers / "broken.yaml").write_text("owner: someone@customer.example\ninterval: dayly\n")
    first = stored(tmp_path, "1")
    assert first.keys() >= {dag_id(example.stem) for example in EXAMPLES}
    for example in EXAMPLES:
        os.utime(customers / example.name)
    file = customers / "sftp.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"interval": "weekly"}))
    second = stored(tmp_path, "2")
    assert {name for name in first if second[name] != first[name]} == {dag_id("sftp")}
