"""Run with a service's environment: tells what Airflow makes of it, as JSON on standard output.

A process of its own, since Airflow reads its environment once, when it is imported. Standard input holds
`{"commands": [[...]], "connections": [...]}`.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow import settings
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.executors.executor_loader import ExecutorLoader
from airflow.models.connection import Connection
from airflow.plugins_manager import get_import_errors
from airflow.utils.file import list_py_file_paths
from cryptography.fernet import Fernet


def unknown_options(names: list[str]) -> list[str]:
    """Those AIRFLOW__SECTION__KEY that name no option of Airflow or of an installed provider."""
    described: dict[str, Any] = conf.configuration_description
    known = {f"AIRFLOW__{section}__{key}".upper() for section, keys in described.items() for key in keys["options"]}
    known |= {f"AIRFLOW__{section}__{key}".upper() for section, key in conf.sensitive_config_values}
    return sorted(set(names) - {name.replace(".", "_") for name in known})


def main() -> None:
    asked = json.load(sys.stdin)
    parser = get_parser()
    for command in asked["commands"]:
        parser.parse_args(command)
    Fernet(conf.get("core", "fernet_key"))
    module, _, name = conf.get("core", "auth_manager").rpartition(".")
    executor, _ = ExecutorLoader.import_default_executor_cls()
    bundles = list(DagBundlesManager().get_all_dag_bundles())
    for bundle in bundles:
        bundle.initialize()
    answer = {
        "unknown": unknown_options(asked["options"]),
        "auth_manager": getattr(import_module(module), name).__name__,
        "executor": executor.__name__,
        "async_dsn": settings.SQL_ALCHEMY_CONN_ASYNC,
        "connections": {text: Connection.from_json(text).conn_type for text in asked["connections"]},
        "plugin_errors": get_import_errors(),
        "bundles": {each.name: type(each).__name__ for each in bundles},
        "dag_files": [Path(file).name for each in bundles for file in list_py_file_paths(each.path)],
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
