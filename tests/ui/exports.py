"""The exports that the tests in Chromium look at on a real Airflow."""

from data_export.config.models import dag_id
from demo.session import Session

NAME = "page-s3"
DAG = dag_id(NAME)
#: The source has work orders on the 16th to the 18th only, so the 20th is delivered and empty.
FILE = """\
site_id: [9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d]
interval: daily
start_date: 2025-03-16
end_date: 2025-03-21
connector_type: cloud_storage
connector_config:
  storage_uri: s3://demo-customer/page/
  export_images: true
"""
WITHOUT_BUCKET = ("page-failing", FILE.replace("demo-customer", "no-such-bucket"))
FAILING = dag_id(WITHOUT_BUCKET[0])
HOSTILE = ("page-hostile", "site_id: ['<img src=x onerror=document.title=1>']\n")


def over(session: Session, dag: str) -> int:
    return sum(run["state"] in ("success", "failed") for run in session.api.runs([dag]))
