"""The steps of a check, each on a client that the edge has made."""

import os
import re
import smtplib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from data_export.check.probe import check_by_probe, check_staging_by_probe
from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import OPENS, RECIPIENT, SERVER
from data_export.config.models import CustomerExport
from data_export.delivery.base import Destination, Store
from data_export.delivery.connector import CheckTarget
from data_export.delivery.email.send import CUSTOMER_LIST, connected, offer_recipient
from data_export.delivery.threads import run_async
from data_export.errors import SourceUnavailable
from data_export.source.database import RowSecurity, Source, open_source
from data_export.source.estimate import expected
from data_export.source.extract import require_site
from data_export.source.queries import SQL_FOLDER, Queries, Query
from data_export.window import ExportWindow

_TLS = """SELECT COALESCE(version, ''), COALESCE(cipher, ''), inet_server_addr() IS NULL
FROM (SELECT) AS one LEFT JOIN pg_stat_ssl ON pid = pg_backend_pid() AND ssl"""
_SSL_MODE = re.compile(r"(?:^|[\s?&])sslmode\s*=\s*'?([\w-]+)")
_PATIENCE = 10  # seconds for what is only good to know


def check_connection(dsn: str, row_security: RowSecurity = "refuse") -> list[CheckResult]:
    """Whether the source lets us in, and by which TLS."""
    results = Results()
    with results.step("source: connection", ""), open_source(dsn, row_security=row_security) as source:
        secured = _transport(source, dsn)
    return [CheckResult("source: connection", True, secured)] if results[-1].ok else results


def check_queries(
    dsn: str, export: CustomerExport, row_security: RowSecurity = "refuse", sql_folder: Path = SQL_FOLDER
) -> list[CheckResult]:
    """Whether the source plans the export's own queries, and knows the sites."""
    results = Results()
    now = datetime.now(UTC).replace(microsecond=0)
    day = ExportWindow(now - timedelta(days=1), now)
    with results.step("source: queries", ""):
        said = expected(dsn, export, day, sql_folder=sql_folder, row_security=row_security)
    if results[-1].ok:
        results[-1] = CheckResult("source: queries", True, said)
    for site_id in export.sites:
        with results.step(f"source: site {export.site_label(site_id)}", "known"):
            require_site(dsn, site_id, row_security)
    return results


def check_update_dates(
    dsn: str, site_id: UUID, export_type: str, row_security: RowSecurity = "refuse"
) -> list[CheckResult]:
    """Whether update_date moved with what was added to the work orders of the last day: without it no later window
    brings what was added after a work order's window. Says what it finds and fails no export: only the platform can
    change it."""
    now = datetime.now(UTC).replace(microsecond=0)
    queries = Queries(SQL_FOLDER, site_id, ExportWindow(now - timedelta(days=1), now), export_type)
    results = Results()
    with results.step("source: update_date", ""):
        try:
            with open_source(dsn, patience=_PATIENCE, row_security=row_security) as source:
                orders, unmoved, example = source.row(queries.unmoved()) or (0, 0, None)
        except SourceUnavailable:
            return [CheckResult("source: update_date", True, f"not looked at: it took longer than {_PATIENCE} s")]
        found = f"moved with every input and correction of the {orders} work orders of the last day"
        if not orders:
            found = "no work order was created or updated in the last day"
        if unmoved:
            found = (
                f"did not move with an input or correction of {unmoved} of {orders} work orders of the last day, for "
                f"example {example}: the change waits for the next update; docs/format.md, What moves update_date"
            )
    return [CheckResult(result.step, result.ok, result.detail or found) for result in results]


def _transport(source: Source, dsn: str) -> str:
    """How the open connection is secured, as the server sees it, and what `sslmode` would have let pass."""
    version, cipher, by_socket = source.row(Query(_TLS, ())) or ("", "", False)
    if by_socket:
        return "by a socket on this machine, which has no TLS"
    found = _SSL_MODE.findall(dsn) or [os.environ.get("PGSSLMODE", "")]
    mode = found[-1] or "prefer"
    if not version:
        return f"not encrypted (sslmode {mode}): set sslmode to verify-full in the connection's extra"
    verified = {
        "verify-full": "certificate and host name verified",
        "verify-ca": "certificate verified, host name not",
    }.get(mode, "certificate not verified: set sslmode to verify-full and sslrootcert in the connection's extra")
    return f"{version}, {cipher}, sslmode {mode}: {verified}"


def check_images(images: Store) -> list[CheckResult]:
    """Whether the image store lets us list and read; the beginning of one image at the most is read."""

    async def read_one() -> None:
        async with images:
            async for image in images.list(""):
                async for _chunk in images.read(image.key):
                    return

    results = Results()
    with results.step("images: readable at the source", images.uri):
        run_async(read_one())
    return results


def check_staging(staging: Store, link_lifetime: timedelta | None) -> list[CheckResult]:
    """Whether staging can be written, read and cleaned and, for a link by mail, signs one that opens and lives."""
    results = Results()

    async def run() -> None:
        async with staging:
            results.append(CheckResult(OPENS.of("staging"), True, staging.uri))
            results.extend(await check_staging_by_probe(staging, link_lifetime))

    return _opened(results, OPENS.of("staging"), run)


async def _by_probe(target: Destination, folders: Sequence[str]) -> list[CheckResult]:
    return await check_by_probe(target, "target", folders)


def check_target(target: Destination, folders: Sequence[str] = (), check: CheckTarget = _by_probe) -> list[CheckResult]:
    """Whether the target lets us in and takes what an export writes, under the names that it uses.

    Args:
        folders: what the export will write to, below the target's root.
        check: the steps that this kind of target has, once it is open.
    """
    results = Results()

    async def run() -> None:
        async with target:
            results.append(CheckResult(OPENS.of("target"), True, target.uri))
            results.extend(await check(target, folders))

    return _opened(results, OPENS.of("target"), run)


def check_mail(
    connect: Callable[[], smtplib.SMTP],
    sender: str,
    recipients: Sequence[str],
    what: str = "mail",
    listed_in: str = CUSTOMER_LIST,
) -> list[CheckResult]:
    """Whether the mail server takes our login, sender and each recipient; the transaction is reset, no mail is sent."""
    results = Results()
    with results.step(SERVER.of(what), sender):
        client = connected(connect)
    if results[-1].ok:
        results[-1] = replace(results[-1], detail=f"{sender}, {_secured(client)}")
        for number, recipient in enumerate(recipients, 1):
            with results.step(f"{RECIPIENT.of(what)} {number}", "accepted"):
                offer_recipient(client, sender, recipient, listed_in)
        with suppress(OSError):
            client.quit()
    return results


def _secured(client: smtplib.SMTP) -> str:
    """Whether links and password can be read on their way."""
    if isinstance(client.sock, ssl.SSLSocket):
        return f"by TLS, certificate {'verified' if client.sock.context.verify_mode else 'not verified'}"
    return "not encrypted: where the server offers TLS, remove disable_tls or disable_ssl from the connection's extra"


def _opened(results: Results, step: str, run: Callable[[], Coroutine[Any, Any, None]]) -> Results:
    """Runs the steps inside; where the place does not even open, that is the one result."""
    inside = Results()
    with inside.step(step, ""):
        run_async(run())
    return results if inside[-1].ok else Results([*results, inside[-1]])
