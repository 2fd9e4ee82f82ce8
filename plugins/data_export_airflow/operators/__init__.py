"""Airflow operators of a data export: for the customers' DAGs, and for DAGs of your own (docs/operators.md)."""

from data_export_airflow.operators.close import CloseExportOperator, NotifyOperator
from data_export_airflow.operators.deliver_file import DeliverFileOperator
from data_export_airflow.operators.links import FilesLink, PlannedPageLink
from data_export_airflow.operators.prepare import PrepareExportOperator
from data_export_airflow.operators.service import (
    AuditExportsOperator,
    CheckExportOperator,
    MaintenanceOperator,
    SendNoticesOperator,
    WatchExportsOperator,
)
from data_export_airflow.operators.site import (
    CopyImagesOperator,
    DeliverOperator,
    ExtractOperator,
    TransformOperator,
    export_sites,
)

#: What the plugin adds to the operators' own buttons.
PLUGIN_LINKS = [PlannedPageLink(), FilesLink()]
FilesLink.operators = [DeliverOperator, CloseExportOperator]
PlannedPageLink.operators = [
    *FilesLink.operators,
    *(PrepareExportOperator, ExtractOperator, TransformOperator, CopyImagesOperator, NotifyOperator),
]

__all__ = [
    "PLUGIN_LINKS",
    "AuditExportsOperator",
    "CheckExportOperator",
    "CloseExportOperator",
    "CopyImagesOperator",
    "DeliverFileOperator",
    "DeliverOperator",
    "ExtractOperator",
    "MaintenanceOperator",
    "NotifyOperator",
    "PrepareExportOperator",
    "SendNoticesOperator",
    "TransformOperator",
    "WatchExportsOperator",
    "export_sites",
]
