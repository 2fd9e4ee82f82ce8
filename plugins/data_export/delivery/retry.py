"""How the cloud stores reach a server: whom they trust, how long they try, and what a lost answer may mean."""

import asyncio
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import SystemRandom
from typing import TypeVar

from data_export.delivery.base import StoredObject
from data_export.errors import ConfigError, DataExportError, ObjectExists, TargetNotFound, TransientError

T = TypeVar("T")
_random = SystemRandom()

# Slower than this a server counts as stalled: 100 kB/s for a request's body.
_SLOWEST_BYTES_PER_SECOND = 100_000

_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_SECONDS = re.compile(r"[0-9]{1,9}")

# Marks a word as a host, URL or path, which says nothing of the fault: a bucket or a machine may be called "timeout".
_ADDRESS = re.compile(r"/|\w\.\w|\w:\d|^\W{,9}(host=)?['\"][\w-]+['\"]\W{,9}$")

#: What names, codes and words of a failed connection mean, in the order in which they are looked for.
_SILENCES = (
    (
        r"CERTIFICATE_VERIFY|CertificateError|CertVerification|InvalidCertificate|UnknownIssuer",
        "the server's certificate is not trusted",
    ),
    (
        r"gaierror|getaddrinfo|Name or service not|NameResolution|nodename|dns error",
        "no server has that name",
    ),
    (r"Refused|refused", "nothing listens at that address"),
    (r"Unreachable|unreachable|No route", "no way leads to that address"),
    (r"(?<!retry_)[Tt]imeout|timed out|TimedOut", "the server is silent"),  # obstore names its setting in each error
    (r"SSL|TLS|Ssl|InvalidMessage|AlertReceived|PeerIncompatible", "TLS fails"),
    (
        r"Reset|reset|Disconnected|[Cc]losed|Broken|Payload|[Ii]ncomplete",
        "the server broke off the connection",
    ),
)


class NoSuchObject(TargetNotFound):
    """The bucket is there, the object is not."""


class PreconditionFailed(ObjectExists):
    """A write asked for another state of the object than there is."""

    #: Whether a library sent the request again by itself, so that it may be about a success whose answer was lost.
    repeated = False


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds and tries; callers above (a copy of many images, Airflow's task retries) have their own on top."""

    tries: int = 4
    first_pause: float = 0.5
    longest_pause: float = 8
    connect: float = 15
    #: Longest silence of a server that has a request.
    answer: float = 60

    async def retry(self, once: Callable[[], Awaitable[T]]) -> T:
        """The result of `once`, tried again after any `TransientError`; the last error is raised as it is.

        Pauses up to twice as long each time, at random (full jitter), after what the server asks for, if that is no
        longer than a silence is borne. Not by a library: those that read the signature of what they call cost a small
        request as much CPU as the request itself.
        """
        longest = self.first_pause
        for tries_left in reversed(range(self.tries)):
            try:
                return await once()
            except TransientError as error:
                if not tries_left:
                    raise
                asked = min(error.wait, self.answer)
            await asyncio.sleep(asked + _random.uniform(0, min(longest, self.longest_pause)))
            longest *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    def whole(self, body_bytes: int) -> float:
        """Longest duration of a request with a body of that size."""
        return self.answer + body_bytes / _SLOWEST_BYTES_PER_SECOND


def heeding(problem: DataExportError, headers: Mapping[str, str] | None) -> DataExportError:
    """The problem, with the seconds for which the answer asks to wait."""
    if isinstance(problem, TransientError):
        problem.wait = asked_to_wait(headers)
    return problem


def asked_to_wait(headers: Mapping[str, str] | None) -> float:
    """The seconds of an answer's Retry-After; a date would need its clock."""
    said = (headers or {}).get("retry-after", "")
    return float(said) if _SECONDS.fullmatch(said) else 0.0


async def persist(
    patience: Patience, look: Callable[[], Awaitable[StoredObject | None]], write: Callable[[], Awaitable[StoredObject]]
) -> StoredObject:
    """Tries `write` until it succeeds, and looks before each further try.

    A failed try may have been a success whose answer was lost: what it wrote must be recognised, neither sent again nor
    taken for another's. It may also become one later, even after that look: a busy server goes on with a request for
    which nobody waits.

    Args:
        look: the object if it holds just what `write` would store.
    """
    tried = False

    async def once() -> StoredObject:
        nonlocal tried
        if not tried:
            tried = True
            return await write()
        if found := await look():
            return found
        try:
            return await write()
        except ObjectExists:
            if found := await look():
                return found
            raise

    return await patience.retry(once)


def trusted(conn_id: str = "", only: str | None = None, shown: tuple[str, ...] = ()) -> ssl.SSLContext | bool:
    """What aiohttp is to trust: with the system's authorities those of which only `requests` hears by itself.

    Tokens, links and big files go by `requests`; a company's proxy must not be trusted for these alone.

    Args:
        conn_id: the Airflow connection that names what follows.
        only: a file or folder of certificates that a connection names in place of all these.
        shown: file of the certificate that a connection shows to its server; that of its key, and the key's password.

    Raises:
        ConfigError: what is named holds no certificates, or none that can be shown.
    """
    found = ((f"environment variable {name}", os.environ.get(name)) for name in _AUTHORITIES)
    of_connection = f"Airflow connection {conn_id!r}, connection_"
    where, path = (f"{of_connection}verify", only) if only else next((one for one in found if one[1]), ("", None))
    with _named(where, path, "no certificates"):
        if not shown:
            return authorities(path, alone=only is not None) if path else True
        context = _made(path or None, only is not None)  # of its own: what it shows is for no other server
    file, key, password = (*shown, None, None)[:3]
    with _named(f"{of_connection}cert", file, "no certificate with its key, or its password is another"):
        context.load_cert_chain(str(file), key, password or "")  # with None, OpenSSL asks at the terminal
    return context


@contextmanager
def _named(where: str, path: str | None, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{where}: {path} holds {what} ({type(error).__name__}): correct it, and on all workers"
        ) from None


def authorities(path: str, *, alone: bool) -> ssl.SSLContext:
    """What trusts the authorities of the file or folder, and the system's unless `alone`.

    Read once, and again when it changes: reading takes as long as 20 copies of an image.

    Raises:
        OSError: there is no such file, or no certificate in it.
    """
    return _read_authorities(path, alone, Path(path).stat().st_mtime_ns)


@cache
def _read_authorities(path: str, alone: bool, _changed: int) -> ssl.SSLContext:
    return _made(path, alone)


def _made(path: str | None, alone: bool) -> ssl.SSLContext:
    if path is None:
        return ssl.create_default_context()
    file, folder = (None, path) if Path(path).is_dir() else (path, None)
    if alone:
        return ssl.create_default_context(cafile=file, capath=folder)
    context = ssl.create_default_context()
    context.load_verify_locations(file, folder)
    return context


def why_unanswered(error: BaseException) -> str:
    """Why a server gave no answer, in words with the error's class; never its text, which may repeat an address."""
    chain = [*_causes(error)][:8]
    words_of = (f"{type(cause).__name__} {cause}".split() for cause in chain)
    said = " ".join(word for words in words_of for word in words if not _ADDRESS.search(word))
    words = next((words for pattern, words in _SILENCES if re.search(pattern, said)), "")
    name = type(error).__name__
    return f"{words} ({name})" if words else name


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
