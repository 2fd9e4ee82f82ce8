"""`backfill`: windows of the past, as Airflow's own backfill."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from data_export.wording import windows_in_words
from data_export_airflow.commands.output import Progress, as_json, painted

if TYPE_CHECKING:
    from data_export_airflow.backfill.dry_run import Forecast

_RESTS = 3  # that are named
_REPROCESS = {
    "none": "windows that never ran",
    "failed": "windows that never ran or failed",
    "completed": "all windows, delivered ones again",
}


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "backfill",
        help="show what a backfill would do, ask, and have Airflow do it",
        description="It takes the windows that start in the range and are over. A date without zone is midnight in the "
        "export's timezone. What breaks a limit is refused by name.",
    )
    parser.add_argument("name", metavar="NAME", help="export, by the name of its file")
    parser.add_argument("--from", dest="start", metavar="DATE", required=True, help="first window, e.g. 2025-03-16")
    parser.add_argument("--to", dest="end", metavar="DATE", required=True, help="end of the range, exclusive")
    parser.add_argument(
        "--reprocess",
        choices=list(_REPROCESS),
        default="none",
        help="which windows that have run before to run again; default: none",
    )
    parser.add_argument("--newest-first", action="store_true", help="run the newest window first")
    parser.add_argument(
        "--max-active-runs", type=int, metavar="N", help="runs at once; default and most: the limit of that name"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="show only")
    parser.add_argument(
        "--json", action="store_true", help="print one object, with the id of the backfill; needs --yes or --dry-run"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    if options.max_active_runs is not None and options.max_active_runs < 1:
        print(f"--max-active-runs {options.max_active_runs} is too few: give 1 or more", file=sys.stderr)
        return 2
    if options.json and not (options.yes or options.dry_run):
        print("--json asks nothing: add --yes to create the backfill, or --dry-run to show it", file=sys.stderr)
        return 2
    with Progress(f"looking at {options.name} in Airflow's database and at the source"):
        found = _found(options)
    if not options.json:
        print(*_text(found, options.out), sep="\n", file=options.out)
    if not found.runs or options.dry_run:
        return _ended(found, None, options)
    if not options.yes and not found.under_way and not sys.stdin.isatty():
        print("nothing was created: add --yes, since there is no terminal to ask", file=sys.stderr)
        return 2
    options.out.flush()
    if not options.yes and not found.under_way and not _agreed():
        print("nothing was created", file=sys.stderr)
        return 1
    from data_export_airflow.backfill.dry_run import create
    from data_export_airflow.metadata.airflow_database import airflow_database

    try:
        with airflow_database():
            created = create(found)
    except KeyboardInterrupt:
        print("\nstopped while Airflow made the backfill: --dry-run shows which windows have a run", file=sys.stderr)
        return 130
    return _ended(found, created, options)


def _found(options: argparse.Namespace) -> "Forecast":
    from datetime import UTC, datetime

    from data_export_airflow.backfill.dry_run import BackfillRequest, forecast
    from data_export_airflow.commands.run import require_owner_of
    from data_export_airflow.metadata.airflow_database import airflow_database

    request = BackfillRequest(
        options.name, options.start, options.end, options.reprocess, options.newest_first, options.max_active_runs
    )
    require_owner_of(options.name)
    with airflow_database():
        return forecast(request, datetime.now(UTC))


def _ended(found: "Forecast", created: int | None, options: argparse.Namespace) -> int:
    if options.json:
        print(as_json(_object(found, created)), file=options.out)
    elif created is not None:
        print(*_after(found, created), sep="\n", file=options.out)
    return 0


def _object(found: "Forecast", created: int | None) -> dict[str, Any]:
    return {
        "name": found.request.name,
        "dag_id": found.dag_id,
        "timezone": found.timezone,
        "windows": [{"start": row.start, "end": row.end, "state": row.state} for row in found.windows],
        "runs": [window.to_dict() for window in found.runs],
        "reprocess": found.request.reprocess,
        "max_active_runs": found.max_active_runs,
        "seconds": found.seconds,
        "under_way": found.under_way,
        "is_paused": found.is_paused,
        "scheduler": found.has_scheduler,
        "backfill_id": created,
    }


def _agreed() -> bool:
    try:
        return input("Create it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _text(found: "Forecast", out: TextIO) -> Iterator[str]:
    from data_export_airflow.backfill.dry_run import IN_A_LONGER

    request, runs = found.request, len(found.runs)
    states, rows = Counter({"never run": 0}), [row for row in found.windows if row.state != "rest"]
    for row in rows:
        states["never run" if row.state in ("missing", "past", "open") else row.state] += 1
    first, last = found.first, found.last
    loud = partial(painted, colour="yellow", stream=out)
    yield f"{request.name}: {windows_in_words(len(rows), first.start, last.start, found.timezone)}"
    counts = ", ".join(f"{number:,} {state}" for state, number in states.items() if number)
    yield f"  windows   {len(rows):,}: {counts}"
    yield f"  first     {first.start:%Y-%m-%d %H:%M:%S} to {first.end:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  last      {last.start:%Y-%m-%d %H:%M:%S} to {last.end:%Y-%m-%d %H:%M:%S} UTC"
    yield from (f"  note      {note}" for note in _notes(found))
    yield from _rests(found, loud("REST"))
    order = "newest" if request.newest_first else "oldest"
    at_once = f"{order} first, at most {found.max_active_runs} at once" if runs else "nothing to do"
    yield f"  runs      {runs:,} ({_REPROCESS[request.reprocess]}), {at_once}"
    if again := _again(request.reprocess, states, runs):
        yield f"  note      {again}"
    if runs and (twice := states[IN_A_LONGER]):
        yield f"  {loud('TWICE')}     {twice:,} of these runs deliver a second time what is {IN_A_LONGER}"
    if runs:
        yield from _reckoned(found)
    held = (found.limits.max_window_days, found.limits.earliest, found.limits.max_active_runs)
    yield f"  limits    {', '.join(f'{limit.name} {limit.value}' for limit in held)}: kept"
    if found.under_way:
        then = ": this one can be created when it is over" if runs else ""
        yield f"  {loud('BUSY')}      {found.under_way} is under way{then}"
    if not found.has_scheduler and (runs or found.under_way):
        yield f"  {loud('IDLE')}      no scheduler of Airflow is alive: the runs wait until one is"
    if found.is_paused and (runs or found.under_way):
        yield f"  {loud('PAUSED')}    the DAG is paused: the runs wait until `airflow dags unpause {found.dag_id}`"


def _again(reprocess: str, states: Counter[str], runs: int) -> str | None:
    """What another `--reprocess` would run, where this one leaves windows as they are that somebody may mean."""
    left_out = states.total() - runs  # a window that failed in a run by hand has no run of its own, and gets one
    failed = min(left_out, sum(number for state, number in states.items() if state.startswith("failed")))
    if failed and reprocess == "none":
        return f"{failed:,} that failed {'is' if failed == 1 else 'are'} left out: add --reprocess failed"
    if (unproven := states["unproven"]) and reprocess != "completed":
        are = "is" if unproven == 1 else "are"
        return f"{unproven:,} whose runs succeeded without a receipt {are} left out: add --reprocess completed"
    others = sum(number for state, number in states.items() if state.startswith(("delivered", "empty")))
    if others and not runs and reprocess != "completed":
        return "what is delivered is left out: add --reprocess completed to deliver it again"
    return None


def _notes(found: "Forecast") -> Iterator[str]:
    first, last = found.first, found.last
    if first.start > found.start:
        yield f"no window starts before {first.start:%Y-%m-%d %H:%M:%S} UTC: what lies before is not exported"
    if last.end > found.end:
        yield f"the last window starts in the range and goes on after it, to {last.end:%Y-%m-%d %H:%M:%S} UTC"
    elif last.end < found.end and found.is_complete:
        yield f"no window starts after {last.start:%Y-%m-%d %H:%M:%S} UTC: the export ends there"
    elif last.end < found.end:
        yield "windows that are not over yet are left out: they run when they are"


def _rests(found: "Forecast", label: str) -> Iterator[str]:
    """Parts of windows that no backfill delivers, and what does."""
    from data_export.alerts.alert import trigger_command
    from data_export.window import ExportWindow

    rests = [ExportWindow(row.start, row.end) for row in found.windows if row.state == "rest"]
    for rest in rests[:_RESTS]:
        yield f"  {label}      {rest} is in no run: one made for other bounds has its window's place. Trigger it:"
        yield f"            {trigger_command(found.dag_id, rest)}"
    if len(rests) > _RESTS:
        yield f"  {label}      and {len(rests) - _RESTS:,} more: see the page Data exports, or take a shorter range"


def _reckoned(found: "Forecast") -> Iterator[str]:
    from data_export.wording import size_in_words
    from data_export_airflow.backfill.dry_run import sampled

    runs, sample, counted = len(found.runs), found.sample, found.counted
    if sample is not None:
        amounts = [f"{sample['work_orders'] * runs:,.0f} work orders", size_in_words(sample["bytes"] * runs)]
        amounts += [f"{sample['images'] * runs:,.0f} images"] if sample["images"] else []
        yield f"  estimate  {', '.join(amounts)}, going by {sample['windows']:.0f} deliveries"
        yield f"  time      about {_duration(found.seconds or 0)}, at their speed"
    elif counted is not None:
        images = "" if counted.images is None else f" and {counted.images * runs:,.0f} images"
        some = f"going by {asked} of {runs:,} windows" if (asked := len(sampled(found.runs))) < runs else "as counted"
        part = "" if counted.share == 1 else f", of which {counted.share:.0%} were counted in time"
        yield f"  estimate  {counted.work_orders * runs:,.0f} work orders{images}, {some} at the source{part}"
        yield "  time      unknown until a first window is delivered"
    else:
        yield f"  estimate  unknown: nothing was delivered yet, and the source does not answer: {found.silence}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _after(found: "Forecast", backfill_id: int) -> Iterator[str]:
    from airflow.configuration import conf

    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    yield f"backfill {backfill_id} is created with {len(found.runs):,} run{'s' * (len(found.runs) != 1)}"
    yield f"  watch     {base}/dags/{found.dag_id}/backfills, or the page Data exports"
    yield f"  cancel    there, or PUT {base}/api/v2/backfills/{backfill_id}/cancel; what is delivered stays"
