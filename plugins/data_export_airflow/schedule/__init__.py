"""Which window: what a run is for, what Airflow will run, what it has run."""
