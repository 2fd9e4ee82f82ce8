"""An export without a customer file, as people write one in a DAG of their own: a bundle of the tests' Airflow."""

from airflow.sdk import DAG, Param

from data_export_airflow.operators import CloseExportOperator, PrepareExportOperator, export_sites

with DAG("own_export", schedule=None, params={"day": Param("2025-03-16", type="string", format="date")}) as dag:
    prepare = PrepareExportOperator(
        task_id="prepare",
        start="{{ params.day }}",
        end="{{ macros.ds_add(params.day, 1) }}",
        config={
            "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787", "5d0c0be2-6f4e-4f0a-9c2e-2f6d1b7f3a10"],
            "interval": "daily",
            "start_date": "2025-03-16",
            "connector_type": "cloud_storage",
            "connector_config": {"storage_uri": "gs://demo-customer/own/", "export_images": True},
        },
    )
    delivered = export_sites(prepare.plan, prepare.output)
    CloseExportOperator(task_id="close", plan=prepare.plan, sites=delivered)
