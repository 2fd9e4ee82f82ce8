"""`sheet` and `keys`: what a customer gets to set up a target and to load the files."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_export_airflow.commands.output import Progress, as_json, painted

if TYPE_CHECKING:
    from data_export.handover.contents import Sheet


def add(commands: Any) -> None:
    from data_export.handover.loading import ENGINES

    sheet = commands.add_parser(
        "sheet",
        help="write the hand-over sheet of an export, for its customer, as Markdown or as one HTML page",
        description="It says what the customer sets up, with commands to paste, what check will try, where the files "
        "are, which come next, what their fields mean and how to load them, with the loader kit. It holds no secret "
        "and asks no server. What is still open on our side is on standard error.",
    )
    sheet.add_argument("name", metavar="NAME", help="export, by the name of its file")
    sheet.add_argument("--html", action="store_true", help="one HTML page that needs no other file, to send by mail")
    sheet.add_argument(
        "--engine", choices=list(ENGINES), help="only this engine's part of the loader kit; default: all of it"
    )
    sheet.add_argument("--json", action="store_true", help="print one object: what the sheet says, and open")
    sheet.set_defaults(command=run_sheet)
    keys = commands.add_parser(
        "keys",
        help="make a key for a customer's SFTP server",
        description="An ed25519 key. The private half is written to a file that its owner alone can read, and is never "
        "shown; the public half is printed and written beside it, as NAME.pub. No file is replaced.",
    )
    keys.add_argument("action", choices=["new"], help="what to do")
    keys.add_argument("name", metavar="NAME", help="name of the key: use the export's")
    keys.add_argument(
        "--folder", type=Path, help="where to write it; default: DATA_EXPORT_KEYS_DIR, or keys of this checkout"
    )
    keys.add_argument("--json", action="store_true", help="print one object: file, public_key, sftp_private_key_path")
    keys.set_defaults(command=run_keys)


def run_sheet(options: argparse.Namespace) -> int:
    with Progress(f"putting the sheet of {options.name} together"):
        sheet = sheet_of(options.name, datetime.now(UTC), options.engine)
        if options.json:
            text = as_json({**sheet.values, "open": sheet.open})
        else:
            from data_export.handover.render import html, markdown

            text = html(sheet, options.engine) if options.html else markdown(sheet)
    print(text.rstrip("\n"), file=options.out)
    for point in sheet.open:
        print(f"{painted('open', 'yellow', sys.stderr)}  {point}", file=sys.stderr)
    return 0


def sheet_of(name: str, now: datetime, engine: str | None = None) -> "Sheet":
    """The sheet of an export as its customer file is now.

    Raises:
        ConfigError: there is no such file, or it or platform.yaml is broken.
    """
    from data_export.config.load import load_named
    from data_export.config.platform import load_platform
    from data_export.handover.contents import Expected, make_sheet
    from data_export.limits import limits_of
    from data_export.window import ExportWindow

    export, settings = load_named(name), load_platform()
    settle = limits_of(name, export, settings.limits).settle
    if export.interval == "once" and export.end is not None:  # its one window needs no timetable of Airflow's
        due = export.end + settle
        window = ExportWindow(export.start, export.end)
        return make_sheet(
            name, export, settings, [Expected(window, due if export.enabled and due > now else None)], now, engine
        )

    from data_export_airflow.schedule.windows import last_complete, upcoming

    on = export.model_copy(update={"enabled": True})  # one that is off shows what it would deliver, and no dates
    runs = upcoming(on, settle, now, 3, follows=on)
    expected = [Expected(run.window, run.run_after if export.enabled else None) for run in runs]
    expected = expected or [Expected(last_complete(export, settle, now), None)]
    return make_sheet(name, export, settings, expected, now, engine)


def run_keys(options: argparse.Namespace) -> int:
    from data_export.config.platform import load_platform
    from data_export.handover.key_pair import keys_dir, make_key_pair

    on_workers = load_platform().targets.keys_folder
    made = make_key_pair(options.folder or keys_dir(), options.name)
    path = f"{on_workers.rstrip('/')}/{options.name}"
    if options.json:
        found = {"file": str(made.path), "public_key": made.public, "sftp_private_key_path": path}
        print(as_json(found), file=options.out)
        return 0
    print(
        f"{made.path} is written, for its owner alone to read. Its public half, for the customer:\n"
        f"{made.public}\n"
        f"Let workers read the file as {path}, and write into the customer file:\n"
        f"  sftp_private_key_path: {path}\n"
        "  sftp_host_key: what `check --host-key HOST` shows, once the server's administrator has confirmed it",
        file=options.out,
    )
    return 0
