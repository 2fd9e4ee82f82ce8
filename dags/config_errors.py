"""Shows the problems of the customer files as one import error in the Airflow UI; makes no DAG.

Where `CustomerFilesBundle` serves the DAGs, each broken file has an import error of its own name instead.
"""

from data_export_airflow.dags.config_errors import sentinel_dags

globals().update(sentinel_dags(__file__))
