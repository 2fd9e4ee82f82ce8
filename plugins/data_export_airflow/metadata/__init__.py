"""What Airflow's metadata database and API know of exports. Airflow's insides are used in this room."""
