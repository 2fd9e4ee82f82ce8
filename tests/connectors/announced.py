"""What the hand-over sheet announces, held against what a check did on a real server."""

import re
from collections.abc import Iterable
from typing import Any

from data_export.check.results import CheckResult
from data_export.config.models import EXPORT
from tests.customers import SITE


def config_of(connector_type: str, **config: Any) -> Any:
    """The `connector_config` of a customer file."""
    file = {
        "site_id": [SITE],
        "interval": "daily",
        "start_date": "2025-01-01",
        "connector_type": connector_type,
        "connector_config": config,
    }
    return EXPORT.validate_python(file).connector_config


def not_announced(results: Iterable[CheckResult], config: Any) -> set[str]:
    """Steps that were taken and are not on the sheet; empty if it tells all. A folder or number may follow a name."""
    names = [step.name for step in config.handover().checks]
    known = re.compile(f"({'|'.join(map(re.escape, names))})( .*)?")
    return {step for one in results if not known.fullmatch(step := one.step.partition(": ")[2])}
