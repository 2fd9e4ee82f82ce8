"""Run as a program: Airflow's dag-processor parses every DAG file once, into the database of the environment.

A process of its own, since the order of a set's members differs from process to process. Prints, as JSON, of every DAG
its latest version and the hash of its content.
"""

import json
import sys

from airflow.dag_processing.manager import DagFileProcessorManager
from airflow.models.dag_version import DagVersion
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select


def main() -> None:
    initdb()
    DagFileProcessorManager(max_runs=1).run()
    with create_session() as session:
        rows = session.execute(
            select(SerializedDagModel.dag_id, DagVersion.version_number, SerializedDagModel.dag_hash).join(
                DagVersion, SerializedDagModel.dag_version_id == DagVersion.id
            )
        )
        found = {dag_id: [version, content] for dag_id, version, content in rows}
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
