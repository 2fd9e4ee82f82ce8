"""Tries everything that an export will need, before its first window, and leaves nothing behind."""

from data_export.check.check import check_images, check_mail, check_source, check_staging, check_target
from data_export.check.results import CheckResult, table

__all__ = ["CheckResult", "check_images", "check_mail", "check_source", "check_staging", "check_target", "table"]
