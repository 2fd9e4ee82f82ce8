"""`run`: one window, without a scheduler."""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_export_airflow.commands.output import Progress

if TYPE_CHECKING:
    from data_export.config.precedence import LastDelivery

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def add(commands: Any) -> None:
    parser = commands.add_parser("run", help="export one window without a scheduler and print the receipt as JSON")
    parser.add_argument("file", type=Path, metavar="FILE", help="customer file")
    parser.add_argument(
        "--from", dest="start", type=_instant, required=True, help="window starts, e.g. 2025-03-16 (UTC)"
    )
    parser.add_argument("--to", dest="end", type=_instant, required=True, help="window ends, exclusive")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from data_export.config.load import load_customer
    from data_export.config.platform import customers_dir
    from data_export.window import ExportWindow

    try:
        window = ExportWindow(options.start, options.end)
    except ValueError as error:
        print(f"--from and --to: {error}", file=sys.stderr)
        return 2
    with Progress(f"exporting {window} of {options.file.stem}"):
        from data_export_airflow.execution.steps import run_export

        load_customer(options.file)  # which names a broken one as it was given
        if os.path.realpath(options.file.parent) == os.path.realpath(customers_dir()):
            require_owner_of(options.file.stem)
        receipt = run_export(options.file, window)
    print(receipt.model_dump_json(indent=2), file=options.out)
    return 0


def require_owner_of(name: str) -> None:
    """Passes where a run of this export would: Airflow's database is asked only where files collide.

    Raises:
        ConfigError: another export, which would write the same files, goes before it.
    """
    from data_export.config.load import load_beside
    from data_export.config.precedence import require_owner

    require_owner(name, load_beside(name), _last_delivery)


def _last_delivery(name: str) -> "LastDelivery | None":
    from data_export.config.models import dag_id
    from data_export.config.precedence import LastDelivery
    from data_export.errors import ConfigError
    from data_export_airflow.metadata.airflow_database import airflow_database, airflow_session
    from data_export_airflow.metadata.receipts import deliveries, receipt

    try:
        with airflow_database(), airflow_session() as session:
            found = [each for each in deliveries(session, dag_id(name), _EVER) if each.window]
            newest = receipt(session, dag_id(name), found[-1].event_id) if found else None
    except ConfigError as error:
        unknown = f"{name}.yaml and another file would write the same files, and which of them delivers is not known"
        raise ConfigError(f"{unknown}: {error}") from None
    return LastDelivery.of(newest, found[0].at) if newest else None


def _instant(text: str) -> datetime:
    from data_export.config.moments import instant, moment

    try:
        return instant(moment(text), "UTC")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
