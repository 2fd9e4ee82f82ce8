"""Which customer may export which sites to where (`include/tenants.yaml`); nobody may to the platform's own stores."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from data_export.config.fields import quoted, quoted_address
from data_export.config.models import CustomerExport
from data_export.config.platform import ROOT, PlatformSettings, load_platform, shown
from data_export.config.problems.explain import explain
from data_export.config.reading.file_text import FILE_OF_ALL, Stamp, is_missing, is_settled, stamp
from data_export.config.reading.yaml_lines import Location, read_document
from data_export.config.sections import Section
from data_export.config.sites import keys_of_sites
from data_export.delivery.registry import SCHEMES
from data_export.errors import ConfigError

_OF_ACCOUNTS = "|".join(name for name, scheme in SCHEMES.items() if "@" in scheme.bucket)  # container@account
_SERVER = rf"(?:{_OF_ACCOUNTS})://[^/\s@?#%]+@[^/\s@?#%]+|(?!(?:{_OF_ACCOUNTS})://)[a-z][a-z0-9]*://[^/\s@?#%]*"
_TARGET = re.compile(rf"(?:{_SERVER})/[^\s?#%]*")
_DOMAIN = re.compile(r"(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,10}")
_SFTP_PORT = ":22"
_MOST_STARS = 3  # in one part of a pattern: more would only make it slow


def tenants_file() -> Path:
    """`DATA_EXPORT_TENANTS_FILE`, or `include/tenants.yaml` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_TENANTS_FILE") or ROOT / "include" / "tenants.yaml")


def _target(value: str) -> str:
    parts = value.split("/")
    if not _TARGET.fullmatch(value) or {".", ".."} & {*parts} or any(part.count("*") > _MOST_STARS for part in parts):
        raise ValueError(
            f"{quoted_address(value)} is not a target: write e.g. gs://acme-*/exports/, "
            "abfs://exports@acmedata/ or sftp://sftp.acme.example/; '*' stands for anything but '/' and '@'"
        )
    return value if value.endswith("/") else value + "/"


def _domain(value: str) -> str:
    with suppress(UnicodeError):
        value = _ascii(value.lower())
    if not _DOMAIN.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not a domain: write acme.example, or *.acme.example for those below it")
    return value


def _pattern(value: str) -> str:
    if value.count("*") > _MOST_STARS or value.strip("*") == "":
        raise ValueError(f"{quoted(value)} is not a name: write e.g. acme_*, with at most {_MOST_STARS} '*'")
    return value


class Tenant(Section):
    """What one customer's files may name; what is left out they may not."""

    sites: frozenset[UUID] = Field(description="sites that belong to the customer")
    targets: tuple[Annotated[str, AfterValidator(_target)], ...] = Field(
        default=(), description="folders that belong to the customer, with everything below"
    )
    conn_ids: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), description="Airflow connections that its files may name in conn_id"
    )
    impersonate: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), description="service accounts that its files may act as"
    )
    email_domains: tuple[Annotated[str, AfterValidator(_domain)], ...] = Field(
        default=(), description="domains of the recipients of its links and notices"
    )


_TENANTS: TypeAdapter[dict[str, Tenant]] = TypeAdapter(dict[str, Tenant])


def load_tenants() -> dict[str, Tenant] | None:
    """All customers by name; None where the installation has no such file.

    Raises:
        ConfigError: naming file, line, key and fix. Nothing is exported then, since nobody knows whose what is.
    """
    path = tenants_file()
    if is_missing(path):
        if os.environ.get("DATA_EXPORT_TENANTS_FILE"):
            raise ConfigError(f"{path}: no such file: put it there, or correct DATA_EXPORT_TENANTS_FILE")
        return None
    stamped = stamp(path)
    return (_read if is_settled(stamped) else _read.__wrapped__)(path, stamped)


@lru_cache(maxsize=1)  # a file of 5,000 takes 0.3 s, and a step asks three times
def _read(path: Path, stamped: Stamp | None) -> dict[str, Tenant]:  # noqa: ARG001 - the stamp tells two states apart
    document = read_document(path, size=FILE_OF_ALL)
    try:
        return _TENANTS.validate_python(document.values)
    except ValidationError as verdict:
        error = verdict.errors(include_url=False)[0]
        raise ConfigError(str(document.problem(error["loc"], explain(error, Tenant, error["loc"][1:])))) from None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all files of one look at a folder are held against."""

    tenants: Mapping[str, Tenant] | None
    own: tuple[str, ...]
    #: Why nothing may pass.
    fault: str | None = None

    def refusals(self, export: CustomerExport) -> Iterator[tuple[Location, str]]:
        """Where the export leaves its bounds, each with what to change."""
        if self.fault:
            yield ("customer",), f"cannot be compared with the tenants: {self.fault}"
            return
        config = export.connector_config
        address = config.address()
        if address is not None and any(_overlap(address, own) for own in self.own):
            fix = "is in the platform's own staging area or image store, which is never a target: name another folder"
            yield ("connector_config", config.target_key), fix
        if self.tenants is not None:
            yield from _leaving(export, self.tenants)


def bounds(settings: PlatformSettings | None = None) -> Bounds:
    """The bounds as they are now. Never raises: where tenants.yaml is broken, nothing passes."""
    own: tuple[str, ...] = ()
    with suppress(ConfigError):  # of platform.yaml: every step says so itself
        found = settings or load_platform()
        images = found.source.images_uri.partition("{")[0].rpartition("/")[0] + "/"
        own = (found.staging.uri, *([] if images.endswith("://") else [images]))
    try:
        return Bounds(load_tenants(), own)
    except ConfigError as error:
        return Bounds({}, own, str(error))


def require_bounds(name: str, export: CustomerExport, settings: PlatformSettings) -> None:
    """
    Raises:
        ConfigError: the export leaves its customer's bounds, or goes into a store of the platform's own.
    """
    for location, message in bounds(settings).refusals(export):
        raise ConfigError(f"{name}: {'.'.join(map(str, location))}: {message}")


def _leaving(export: CustomerExport, tenants: Mapping[str, Tenant]) -> Iterator[tuple[Location, str]]:
    at = shown(tenants_file())
    tenant = tenants.get(export.customer or "")
    if tenant is None:
        problem = f"{quoted(export.customer)} is not in {at}" if export.customer else f"is missing, and {at} is there"
        yield ("customer",), f"{problem}: name the customer whose sites these are, or add it there"
        return
    config, add = export.connector_config, f"of customer {export.customer} in {at}: correct it, or add it there"
    for key, site in zip(keys_of_sites(export.site_id), export.site_id, strict=True):
        if site not in tenant.sites:
            yield ("site_id", key), f"{site} is not among the sites {add}"
    for key, allowed in (("conn_id", tenant.conn_ids), ("impersonate", tenant.impersonate)):
        value = getattr(config, key, None)
        if value is not None and not any(_glob(pattern, value) for pattern in allowed):
            plural = key.replace("_id", "_ids")
            yield ("connector_config", key), f"{quoted_address(value)} is not among the {plural} {add}"
    address = config.bounded_address()
    if address is not None and not any(_is_below(address, target) for target in tenant.targets):
        yield ("connector_config", config.target_key), f"{quoted_address(address)} is not among the targets {add}"
    mails = [(("connector_config", config.target_key, n), email) for n, email in enumerate(config.recipients())]
    told = export.on_delivery.emails if export.on_delivery else ()
    mails += [(("on_delivery", "emails", n), email) for n, email in enumerate(told)]
    for location, email in mails:
        domain = email.rpartition("@")[2].lower()
        if not any(_of_domain(domain, allowed) for allowed in tenant.email_domains):
            yield location, f"{domain} is not among the email_domains {add}"


def _of_domain(domain: str, allowed: str) -> bool:
    return domain.endswith(allowed[1:]) if allowed.startswith("*.") else domain == allowed


def _glob(pattern: str, value: str) -> bool:
    return re.fullmatch("[^/]*".join(map(re.escape, pattern.split("*"))), value) is not None


def _parts(address: str) -> list[str]:
    """Scheme, server or account, and container in small letters, since case tells none apart, then folders as is."""
    scheme, _, rest = address.partition("://")
    server, _, path = rest.partition("/")
    container, at, server = server.lower().rpartition("@")
    return [scheme.lower(), _server(server), *([container] if at else []), *path.rstrip("/").split("/")]


def _server(server: str) -> str:
    """One spelling of a server: IDN as `xn--`, an IPv6 address at its shortest, without SFTP's usual port."""
    address, bracket, port = (server := server.removesuffix(_SFTP_PORT).rstrip(".")).removeprefix("[").partition("]")
    with suppress(ValueError):
        return f"[{IPv6Address(address).compressed}]{port}" if bracket else _ascii(server)
    return server


def _ascii(host: str) -> str:
    return ".".join(part if part.isascii() else part.encode("idna").decode() for part in host.split("."))


def _is_below(address: str, target: str) -> bool:
    """Whether a folder is a target's or below, folder by folder, so that `acme` does not stand for `acme-evil`."""
    ours, theirs = _parts(address), _parts(target)
    if {".", ".."} & {*ours}:
        return False
    if theirs[-1] == "":
        theirs.pop()
    return len(ours) >= len(theirs) and all(map(_glob, theirs, ours))


def _overlap(one: str, other: str) -> bool:
    """Whether one folder is the other, or in it, whatever the spelling; of local ones also by way of a link."""
    first, second = ([part for part in _parts(_real(uri)) if part] for uri in (one, other))
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _real(uri: str) -> str:
    path = uri.removeprefix("file://")
    return uri if path == uri else f"file://{os.path.realpath(path)}"


def shared_sites(exports: Mapping[str, CustomerExport]) -> Iterator[tuple[str, str, UUID]]:
    """`(name, other, site)` where two exports take one site to two places that look like two customers'.

    For installations without tenants.yaml, which would say whose a site is. One `customer` in both files says it too.
    """
    first: dict[UUID, tuple[str, str]] = {}
    for name in sorted(exports):
        export = exports[name]
        for place in sorted(_places(export)):
            for site in export.site_id:
                other, known = first.setdefault(site, (name, place))
                same = export.customer is not None and export.customer == exports[other].customer
                if known != place and other != name and not same:
                    yield name, other, site
                    break
            else:
                continue
            break


def _places(export: CustomerExport) -> Iterable[str]:
    config = export.connector_config
    if not export.enabled:
        return ()
    if domains := {email.rpartition("@")[2].lower() for email in config.recipients()}:
        return domains
    scheme, server = _parts(config.address() or "")[:2]
    return (f"{scheme}://{server.partition(':')[0]}",)
