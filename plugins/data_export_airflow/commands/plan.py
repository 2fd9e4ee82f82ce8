"""`plan`: what merging the customer files would do."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from data_export.wording import harmless
from data_export_airflow.commands.output import Progress, painted

if TYPE_CHECKING:
    from datetime import datetime

    from data_export_airflow.commands.planning import Plan, PlannedExport

_SIGNS = {"added": "+", "changed": "~", "removed": "-", "broken": "x", "mended": "+"}
_COLOURS = {"added": "green", "changed": "yellow", "removed": "red", "broken": "red", "mended": "green"}


def add(commands: Any) -> None:
    parser = commands.add_parser("plan", help="say what the customer files will change, before they are merged")
    parser.add_argument(
        "--since", default="HEAD", metavar="REV", help="git revision to compare with, e.g. origin/main (default: HEAD)"
    )
    parser.add_argument(
        "--no-source", action="store_true", help="do not count at the source; without it that is tried for some seconds"
    )
    parser.add_argument("--json", action="store_true", help="print one object: since, commit, unchanged, exports")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from data_export.config.platform import customers_dir
    from data_export_airflow.commands.planning import make_plan

    now = datetime.now(UTC)
    with Progress(f"comparing the customer files with {options.since}"):
        plan = make_plan(customers_dir(), options.since, now, ask_source=not options.no_source)
    text = json.dumps(plan.to_dict(), indent=2) if options.json else "\n".join(_text(plan, now, options.out))
    print(text, file=options.out)
    return 1 if any(export.change.kind == "broken" or export.refusals for export in plan.exports) else 0


def _text(plan: "Plan", now: "datetime", out: TextIO) -> Iterator[str]:
    kinds = [export.change.kind for export in plan.exports]
    counts = [f"{kinds.count(kind)} {kind}" for kind in _SIGNS if kind in kinds]
    yield f"since {plan.since} ({plan.commit[:12]}): {', '.join([*counts, f'{plan.unchanged} unchanged'])}"
    for export in plan.exports:
        yield ""
        sign, *lines = _export(export, now)
        yield painted(sign, _COLOURS[export.change.kind], out)
        yield from lines
    if plan.source is not None and any(export.runs for export in plan.exports):
        yield f"\nnot everything was counted at the source: {plan.source}"


def _export(planned: "PlannedExport", now: "datetime") -> Iterator[str]:
    change = planned.change
    yield f"{_SIGNS[change.kind]} {harmless(change.name)}: {change.kind}"
    for problem in change.problems:
        yield f"    {problem}"
    for key in change.keys:
        yield f"    {key.key}: {_value(key.before)} -> {_value(key.after)}"
    for sentence in filter(None, (*change.consequences, planned.note, planned.seam)):
        yield f"    {sentence}"
    yield from _runs(planned, now)
    if planned.held:
        yield f"    limits    {', '.join(f'{limit.name} {limit.value}' for limit in planned.held)}"
    for refusal in planned.refusals:
        yield f"    REFUSED   {refusal}"
    if planned.counted is not None:
        yield f"    estimate  {_estimate(planned)}"


def _runs(planned: "PlannedExport", now: "datetime") -> Iterator[str]:
    if not planned.runs:
        return
    yield f"    {'window (UTC)':<43} runs (UTC)"
    for run in planned.runs:
        at = "at once" if run.run_after <= now else f"{run.run_after:%Y-%m-%d %H:%M:%S}"
        yield f"    {run.window.start:%Y-%m-%d %H:%M:%S} to {run.window.end:%Y-%m-%d %H:%M:%S}  {at}"
    if planned.objects is not None:
        objects = planned.objects
        named = (("data", objects.data), ("image", objects.image), ("receipt", objects.receipt))
        yield from (f"    {kind:<9} {address}" for kind, address in named if address)


def _estimate(planned: "PlannedExport") -> str:
    counted, window = planned.counted, planned.counted_in
    if counted is None:
        return ""
    images = "" if counted.images is None else f" and {counted.images:,.0f} images"
    part = "" if counted.share == 1 else f", estimated from {counted.share:.0%} of the sites"
    return f"{counted.work_orders:,.0f} work orders{images} a window, as in {window}{part}"


def _value(value: Any) -> str:
    return (
        "(none)"
        if value is None
        else ", ".join(map(harmless, value))
        if isinstance(value, list)
        else harmless(value, 1200)
    )
