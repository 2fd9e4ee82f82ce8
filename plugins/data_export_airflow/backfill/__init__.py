"""Backfills: shown before they are made, kept within the limits, made by Airflow."""
