"""`files`, `verify` and `audit`: what was delivered, by the receipts, and whether it still is where they say."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from data_export_airflow.commands.output import Progress, as_json, columns, instant, joined, painted

if TYPE_CHECKING:
    from data_export.pipeline.verify import DeliveredFile, Verified
    from data_export_airflow.execution.auditing import AuditReport

_RUNS = 10  # that are named
_COLOURS = {"ok": "green", "elsewhere": "yellow"}


def add(commands: Any) -> None:
    files = commands.add_parser(
        "files",
        help="list delivered files: window, work orders, bytes, checksum and address, from the receipts",
        description="Without a range, of the newest ten windows that were delivered. A date without zone is "
        "midnight in the export's timezone. It asks Airflow only, not the target: see verify.",
    )
    files.add_argument("name", metavar="NAME", help="export, by the name of its file")
    files.add_argument("--window", metavar="DATE", help="only windows that hold this moment, e.g. 2025-03-16")
    _add_range(files, needed=False)
    files.set_defaults(command=run_files)
    verify = commands.add_parser(
        "verify",
        help="compare what receipts say with what is at the target: missing, other size, other content",
        description="It reads only, with the rights that the export has anyway. A file whose checksum the target does "
        "not keep is read back. Exit code 1 where a file is missing, different or unreadable.",
    )
    verify.add_argument("name", metavar="NAME", help="export, by the name of its file")
    _add_range(verify, needed=True)
    verify.add_argument("--sizes", action="store_true", help="read nothing back: compare presence and size only")
    verify.set_defaults(command=run_verify)
    audit = commands.add_parser(
        "audit",
        help="look whether all that was delivered is at the target: data files, images, receipts, manifests",
        description="What the DAG data_export_audit does, for one export and from here. It reads only: presence and "
        "size of all, and the content of what was written after its delivery and of a sample. Exit code 1 where "
        "something is missing or damaged.",
    )
    audit.add_argument("name", metavar="NAME", help="export, by the name of its file")
    audit.add_argument("--since", metavar="DATE", help="what was delivered since then; default: audit.days")
    audit.add_argument("--full", action="store_true", help="read every file and look at every image")
    audit.add_argument(
        "--drift", action="store_true", help="extract windows again and count what the source has changed since"
    )
    audit.add_argument(
        "--repair", action="store_true", help="have Airflow run the windows again that a run can make good"
    )
    audit.add_argument("--json", action="store_true", help="print one object")
    audit.set_defaults(command=run_audit)


def _add_range(parser: argparse.ArgumentParser, *, needed: bool) -> None:
    parser.add_argument(
        "--from", dest="start", metavar="DATE", required=needed, help="windows that start here or later"
    )
    parser.add_argument("--to", dest="end", metavar="DATE", required=needed, help="end of the range, exclusive")
    parser.add_argument("--json", action="store_true", help="print a list of objects, one for each file")


def run_files(options: argparse.Namespace) -> int:
    with Progress("asking Airflow"):
        files = _delivered(options.name, options.window, options.start, options.end)
    if options.json:
        print(as_json([file.to_dict() for file in files]), file=options.out)
        return 0
    named = any(file.site_name for file in files)
    rows = [
        (
            _window(file.start, file.end),
            *[file.site_name or file.site_id] * named,
            "-" if file.work_orders is None else f"{file.work_orders:,}",
            f"{file.bytes:,}",
            file.outcome,
            file.sha256,
            file.uri,
        )
        for file in files
    ]
    heads = ("WINDOW (UTC)", *["SITE"] * named, "WORK ORDERS", "BYTES", "OUTCOME", "SHA256", "ADDRESS")
    head, *table = columns(heads, rows)
    print(painted(joined(head), "dim", options.out), file=options.out)
    print(*map(joined, table), sep="\n", end="\n" * bool(table), file=options.out)
    windows = _count(len({(file.start, file.end) for file in files}), "window")
    print(f"{_count(len(files), 'file')} of {windows}", file=options.out)
    return 0


def run_verify(options: argparse.Namespace) -> int:
    found: list[Verified] = []
    with Progress(f"verifying {options.name}") as progress:
        files = _delivered(options.name, None, options.start, options.end)
        if not files:
            print(f"nothing of {options.name} was delivered in that range", file=sys.stderr)
            print("[]\n" * options.json, end="", file=options.out)
            return 1
        from data_export.config.load import load_named
        from data_export.config.platform import load_platform
        from data_export.errors import ConfigError, DataExportError
        from data_export.pipeline.verify import verify
        from data_export_airflow.connections.clients import destination

        export = load_named(options.name)
        if export.connector_config.recipients():
            raise ConfigError(f"{options.name}: its files are mailed as links, which end: there is no target to verify")

        def report(one: "Verified") -> None:
            found.append(one)
            progress.text = f"verified {len(found):,} of {_count(len(files), 'file')}"

        verify(destination(options.name, export, load_platform()), files, report, read=not options.sizes)
    found.sort(key=lambda one: (one.file.start, one.file.end, one.file.site_id))
    if options.json:
        print(as_json([one.to_dict() for one in found]), file=options.out)
    else:
        print(*_verdict(found, options), sep="\n", file=options.out)
        try:  # not every user may read it
            if words := _last_audit(options.name):
                print(words, file=options.out)
        except DataExportError as error:
            print(f"what the last audit found is not known: {error}", file=sys.stderr)
    return 0 if all(one.ok or one.found == "elsewhere" for one in found) else 1


def run_audit(options: argparse.Namespace) -> int:
    with Progress(f"auditing {options.name}"):
        from data_export.config.load import load_named
        from data_export.config.platform import load_platform
        from data_export.errors import ConfigError
        from data_export_airflow.execution.auditing import AuditRequest, audit_with_database
        from data_export_airflow.metadata.airflow_database import airflow_database
        from data_export_airflow.metadata.receipts import moment_in

        export = load_named(options.name)
        since = moment_in(options.since, export.timezone)
        if since and since > datetime.now(UTC):
            raise ConfigError(f"--since {options.since} is in the future: give an earlier date")
        asked = AuditRequest(since, options.full, repair=options.repair, drift=options.drift)
        with airflow_database():
            report = audit_with_database(options.name, export, load_platform(), asked)
    lines = [as_json(report.to_dict())] if options.json else _audited(report, options)
    print(*lines, sep="\n", file=options.out)
    return 0 if report.damaged == 0 else 1


def _audited(report: "AuditReport", options: argparse.Namespace) -> Iterator[str]:
    """What is damaged, what has drifted, and the counts."""
    rows = [
        (_window(one.start, one.end), one.kind, one.found, f"{one.uri}{one.detail and f': {one.detail}'}")
        for _, one in report.findings
    ]
    if rows:
        head, *table = columns(("WINDOW (UTC)", "WHAT", "FOUND", "ADDRESS"), rows)
        yield painted(joined(head), "dim", options.out)
        for cells, (_, one) in zip(table, report.findings, strict=True):
            cells[2] = painted(cells[2], "red", options.out)
            yield joined(cells) + (f": {one.fix}" if one.fix else "")
    for drift in report.drifts:
        counts = f"{drift.added:,} added, {drift.changed:,} changed, {drift.gone:,} gone since its delivery"
        yield f"{_window(drift.start, drift.end)}, site {drift.site_id}: {drift.unknown or counts}"
    seen, damaged = report.seen, f"{report.damaged:,} damaged"
    yield f"{_count(seen.objects, 'object')}, {damaged}; read {seen.read:,}, {_count(seen.images, 'image')}"
    for number, words in (
        (seen.left, "not looked at: the time was over"),
        (seen.elsewhere, "at another target, left out"),
        (seen.unknown, f"not compared: {seen.unknown_reason}"),
    ):
        if number:
            yield f"{_count(number, 'object')} {words}"
    if seen.cut:
        yield "older deliveries are left out, since there are too many objects: give a later --since"
    if report.repairs:
        yield f"{_count(len(report.repairs), 'run')} cleared, to deliver again: {', '.join(report.repairs[:_RUNS])}"
    elif report.note or (report.repairable and not options.repair):
        yield report.note or f"to deliver {_count(len(report.repairable), 'window')} again: add --repair"


def _verdict(found: "list[Verified]", options: argparse.Namespace) -> Iterator[str]:
    """What is not as it should be, and the counts."""
    wrong = [one for one in found if not one.ok]
    rows = [
        (_window(one.file.start, one.file.end), one.found, f"{one.file.uri}{one.detail and f': {one.detail}'}")
        for one in wrong
    ]
    if wrong:
        head, *table = columns(("WINDOW (UTC)", "FOUND", "FILE"), rows)
        yield painted(joined(head), "dim", options.out)
        for cells, one in zip(table, wrong, strict=True):
            cells[1] = painted(cells[1], _COLOURS.get(one.found, "red"), options.out)
            yield joined(cells)
    counts = Counter(one.found for one in found)
    yield f"{_count(len(found), 'file')}: {', '.join(f'{number:,} {what}' for what, number in counts.most_common())}"
    if any(not one.ok and one.found != "elsewhere" for one in found):
        again = f"python -m data_export_airflow backfill {options.name} --from DATE --to DATE --reprocess completed"
        yield f"to deliver them again: {again}"


def _last_audit(name: str) -> str | None:
    """In words, which has also looked at images, receipts and manifests; None if there was none."""
    from data_export.config.models import dag_id
    from data_export.wording import harmless
    from data_export_airflow.connections.airflow_api import airflow_url, ask

    if url := airflow_url():
        return harmless(ask(url, f"exports/{dag_id(name)}/audit")["words"] or "", 2000)
    from data_export_airflow.metadata.airflow_database import airflow_database, airflow_session
    from data_export_airflow.metadata.failures import audit_in_words, last_audit

    with airflow_database(), airflow_session() as session:
        result = last_audit(session, name)
    return audit_in_words(result) if result else None


def _delivered(name: str, window: str | None, start: str | None, end: str | None) -> "list[DeliveredFile]":
    """The files of the newest receipt of each window, oldest first.

    Raises:
        ConfigError: Airflow knows no such export, or a date is none.
    """
    from data_export.config.folder import unknown_to_airflow
    from data_export.config.models import dag_id, name_of
    from data_export.errors import ConfigError
    from data_export.pipeline.verify import DeliveredFile
    from data_export_airflow.connections.airflow_api import airflow_url, ask

    if name_of(dag_id(name)) is None:
        raise ConfigError(unknown_to_airflow(name))
    if url := airflow_url():
        path, files = f"exports/{dag_id(name)}/delivered", list[DeliveredFile]()
        while True:
            asked = ask(url, path, unknown_to_airflow(name), start=start, end=end, window=window, paged="true")
            files += [DeliveredFile(**file) for file in asked["files"]]
            if not (start := asked.get("next")):
                return files

    from data_export_airflow.metadata.airflow_database import airflow_database, airflow_session
    from data_export_airflow.metadata.receipts import files_of_windows
    from data_export_airflow.metadata.windows import schedule

    with airflow_database(), airflow_session() as session:
        plan = schedule(session, dag_id(name))
        if plan is None:
            raise ConfigError(unknown_to_airflow(name))
        return [*files_of_windows(session, dag_id(name), plan.timezone.key, start, end, window)]


def _window(start: str, end: str) -> str:
    return f"{instant(start)} to {instant(end)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
