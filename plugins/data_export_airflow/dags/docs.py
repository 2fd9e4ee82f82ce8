"""An export in words, for its DAG's page."""

from collections.abc import Sequence

from data_export.config.models import CustomerExport

_RECORDS = {
    "work-orders-timeline": "every work order created or updated in the window, with all inputs of each work item",
    "work-orders-states": "every work order created or updated in the window, with the last input of each work item",
}


def describe(name: str, export: CustomerExport, problems: Sequence[str] = ()) -> str:
    """Markdown: what is exported, when, to where, and which problems do not keep it from running."""
    until = f" until {export.end_date} (exclusive)" if export.end_date else ""
    lines = [
        f"### Export `{name}`",
        f"One JSON Lines file per site and window: {_RECORDS[export.export_type]}.",
        "",
        f"- **Target**: {export.connector_config.describe()}",
        f"- **Images**: {'copied beside the data' if export.export_images else 'not exported'}",
        f"- **Windows**: {export.interval}, from {export.start_date}{until}, cut in {export.timezone}",
        f"- **Sites**: {', '.join(f'`{site}`' for site in export.sites)}",
        f"- **Customer file**: `include/customers/{name}.yaml`",
    ]
    if not export.enabled:
        lines.append("- **Not enabled**: no run is scheduled (`enabled: false`)")
    lines += [f"- **Problem**: {problem}" for problem in problems]
    lines += ["", "Another range: *Trigger*, with `from` and `to`. History: *Trigger*, then *Backfill*."]
    return "\n".join(lines)


def describe_broken(name: str, problems: Sequence[str]) -> str:
    """Markdown: what is wrong with a customer file."""
    errors = "\n".join(f"    {problem}" for problem in problems)
    title = f"### Export `{name}` does not run: its customer file is broken"
    then = "It returns when the file is mended. Runs under way go on with what they have frozen; a new one fails."
    return f"{title}\n\n{errors}\n\n{then}"
