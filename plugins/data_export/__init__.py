"""Core of the Data Export Service: usable and testable without Airflow, and free of cloud SDKs at import time."""
