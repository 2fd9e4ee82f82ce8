"""Writes a small file, looks at it, replaces it and removes it again; fetches a link to it as whoever is mailed one."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import COLONS, FOLDER, LOOK, REMOVE, REPLACE, WRITE
from data_export.content import Content
from data_export.delivery.base import Destination, Store, WithFolders, hours
from data_export.errors import AccessDenied, DataExportError, TargetRefused, TargetUnavailable
from data_export.wording import harmless

_PERIOD = "2025-03-16_00:00:00_2025-03-17_00:00:00"
_FIRST, _SECOND = Content.of_bytes(b"{}\n"), Content.of_bytes(b"[]\n")


async def check_by_probe(place: Destination, what: str, folders: Sequence[str] = ()) -> Results:
    """For servers that let us remove what we write: each step on one file in the root, none on a file of an export.

    Its name has colons, since those of delivered files have them and some servers (Windows) refuse them. The right to
    remove is not needed, it only spares temporary files: without it the file stays, and the result names it.

    Args:
        folders: what an export will write to; missing ones are made, and removed again.
    """
    made = Results()
    async with AsyncExitStack() as for_a_while:
        if isinstance(place, WithFolders):
            for folder in folders:
                with made.step(f"{FOLDER.of(what)} {folder}", "is there or can be made"):
                    await for_a_while.enter_async_context(place.folder_for_a_while(folder))
        results = Results()
        if key := await _write(place, what, results):
            results[1:1] = made  # where nothing can be written they only repeat that
            await results.tried(LOOK.of(what), key, place.stat(key))
            await results.tried(REPLACE.of(what), key, place.replace(key, _SECOND))
            await _remove(place, what, key, results, must_remove=False)
    return results


async def check_staging_by_probe(staging: Store, link_lifetime: timedelta | None) -> Results:
    """The same for the platform's own store, which must let us remove, and whose links must open while they live."""
    results = Results()
    if key := await _write(staging, "staging", results):
        await results.tried(LOOK.of("staging"), key, staging.stat(key))
        if link_lifetime is not None:
            with results.step("staging: link", ""):
                found = await _check_link(staging, key, link_lifetime)
            if results[-1].ok:
                results[-1] = CheckResult("staging: link", True, found)
        await results.tried(REPLACE.of("staging"), key, staging.replace(key, _SECOND))
        await _remove(staging, "staging", key, results, must_remove=True)
    return results


async def _write(place: Destination, what: str, results: Results) -> str | None:
    """The name that could be written, if any; one without colons where those are what the server refuses."""
    stem, step, colons = f"data-export-check-{secrets.token_hex(4)}", WRITE.of(what), COLONS.of(what)
    dated, plain = f"{stem}_{_PERIOD}.json", f"{stem}.json"
    if await results.tried(step, dated, place.create(dated, _FIRST)):
        results.append(CheckResult(colons, True, dated))
        return dated
    refusal = results.pop()
    if not await results.tried(step, plain, place.create(plain, _FIRST)):
        return None
    results.append(CheckResult(colons, False, refusal.detail))
    return plain


async def _remove(place: Destination, what: str, key: str, results: Results, must_remove: bool) -> None:
    step = REMOVE.of(what)
    try:
        await place.delete(key)
    except DataExportError as error:
        spared = isinstance(error, AccessDenied) and not must_remove
        text = (
            f"not allowed, so that unfinished files of killed runs will stay: remove {key} there" if spared else error
        )
        results.append(CheckResult(step, spared, str(text)))
    else:
        results.append(CheckResult(step, True, "removed"))


_SECONDS = 20
_SKEW = timedelta(minutes=1)
_CODE_AND_WORDS = re.compile(r"<(?:Code|Message|Details)>([^<]*)<")
# What an answer says, and what to do: S3 and Cloud Storage word the same faults in codes of their own.
_FIXES = (
    (r"explicit deny|vpc|SecureTransport|security polic", "a policy keeps strangers out: have the bucket's owner allow "
     "signed requests from any network, or name another staging.uri"),
    (r"expired|not (yet )?valid|Skewed", "set this worker's clock by NTP; a session token that signs must be renewed"),
    (r"SignatureDoesNotMatch|signature", "correct the secret of staging's Airflow connection, and its endpoint_url"),
    (r"AuthorizationHeaderMalformed|QueryParameters|Redirect|region", "set region_name of staging's Airflow connection "
     "to the bucket's region"),
    (r"InvalidAccessKeyId|InvalidToken|InvalidSecurity", "correct the key of staging's Airflow connection"),
    (r"KMS|kms", "let whoever signs use the key for decryption (kms:Decrypt)"),
    (r"AccessDenied|does not have|Forbidden", "grant whoever signs the right to read objects, s3:GetObject or "
     "storage.objects.get"),
)  # fmt: skip
_INSIDE = re.compile(r"[^.:]*|.*\.(local|localhost|internal|lan|svc|test)|.*\.vpce\.amazonaws\.(com|com\.cn|eu)")


async def _check_link(staging: Store, key: str, lifetime: timedelta) -> str:
    """Signs a link to the file as a run does and fetches its beginning, without credentials; what to say of it.

    Raises:
        TargetRefused: whoever opens the link does not get the file.
        DataExportError: the link cannot be signed.
    """
    link = await staging.sign(key, lifetime, "link.json")
    await asyncio.to_thread(_fetch, link, key)
    works, host = f"works for {hours(lifetime)}", urlsplit(link).hostname or ""
    return f"{works}; only this network knows its host {host}: nobody outside can open it" if _inside(host) else works


def _inside(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return _INSIDE.fullmatch(host) is not None


def _fetch(link: str, key: str) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    named = f"the link to {key}"
    if urlsplit(link).scheme not in ("http", "https"):
        raise TargetRefused(f"{named} is no web address")
    try:
        request = Request(link, headers={"Range": "bytes=0-0"})  # noqa: S310 - http(s), as seen above
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - the same
            begins = answer.read(1)
    except HTTPError as error:
        with error:
            said = _said(error.read(4096).decode(errors="replace"), str(error.reason))
            raise _refusal(named, error.code, said, error.headers.get("Date")) from None
    except (OSError, HTTPException, ValueError) as error:  # urllib's own errors are OSErrors
        reason = harmless(str(getattr(error, "reason", "")) or type(error).__name__)
        host = urlsplit(link).netloc
        raise TargetUnavailable(f"{named} cannot be opened: {host} does not answer properly ({reason})") from None
    if begins != b"{":
        raise TargetRefused(f"{named} opens something else: is there a proxy or a sign-in page in between?")


def _said(body: str, reason: str) -> str:
    return harmless(": ".join(_CODE_AND_WORDS.findall(body)) or re.sub(r"<[^>]*>", " ", body) or reason)


def _refusal(named: str, status: int, said: str, date: str | None) -> DataExportError:
    if status == 429 or status >= 500:
        return TargetUnavailable(f"{named} is answered with {status} ({said}): try again")
    fixes = [fix for words, fix in _FIXES if re.search(words, said, re.IGNORECASE)]
    fix = fixes[0] if fixes else "open such a link by hand, and correct staging's Airflow connection"
    return TargetRefused(f"{named} cannot be opened, it is answered with {status} ({said}): {fix}{_skew(date)}")


def _skew(date: str | None) -> str:
    """How far this machine's clock is from the server's, where that is more than a minute."""
    try:
        ahead = datetime.now(UTC) - parsedate_to_datetime(date or "").astimezone(UTC)
    except ValueError:
        return ""
    seconds = round(abs(ahead.total_seconds()))
    return f" (the clock of this worker is {seconds} s {'ahead' if ahead > _SKEW else 'behind'})" * (seconds > 60)
