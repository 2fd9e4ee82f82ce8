"""What a kind of target says of itself before anything is connected. `delivery.registry` lists all kinds."""

import os
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from data_export.check.results import CheckResult
from data_export.config.fields import SPELLED_WHOLE, quoted
from data_export.delivery.base import LONGEST_LINK_HOURS, Destination, Store
from data_export.delivery.handed_over import Handover
from data_export.errors import ConfigError

IfExists = Literal["replace", "keep", "revision"]
LinkHours = Annotated[int, Field(ge=1, le=LONGEST_LINK_HOURS), SPELLED_WHOLE]

_LENDS_CREDENTIALS = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "GCE_METADATA_ROOT",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT",
    "K_SERVICE",
)


def in_a_cloud() -> bool:
    """Whether this machine is a cloud's, where credentials that are not found may only be slow."""
    if any(os.environ.get(name) for name in _LENDS_CREDENTIALS):
        return True
    try:
        maker = "".join(Path("/sys/class/dmi/id", name).read_text() for name in ("sys_vendor", "product_name"))
    except (OSError, ValueError):
        return False
    return any(name in maker for name in ("Amazon", "Google", "Microsoft"))


class Connection(Protocol):
    """An Airflow connection, as far as a connector reads it."""

    conn_id: str
    conn_type: str | None
    host: str | None
    login: str | None
    password: str | None
    port: int | None

    @property
    def extra_dejson(self) -> dict[str, Any]: ...


def require_type(found: Connection, *wanted: str) -> None:
    """
    Raises:
        ConfigError: the connection is for something else, whose host and password must not be sent elsewhere. One
            without a type is taken for what it is used as.
    """
    kind = (found.conn_type or "").lower().replace("-", "_")
    if kind and kind not in wanted:
        raise ConfigError(
            f"Airflow connection {found.conn_id!r} is of type {quoted(kind)}, but {' or '.join(wanted)} is needed "
            "here: name another connection, or correct its type"
        )


class Connections(Protocol):
    """What the edge lends to a connector that opens a client, so that the core needs no Airflow."""

    def read(self, conn_id: str) -> Connection:
        """
        Raises:
            ConfigError: there is no such connection, or it is malformed.
        """
        ...

    def require_https(self, conn_id: str, key: str, address: str) -> None:
        """For an address that comes from `key` and not from the connection, such as a variable of the environment.

        Raises:
            ConfigError: a customer's data would go to another machine without TLS.
        """
        ...

    def hook(self, class_path: str, **options: Any) -> Any:
        """A provider's hook, e.g. of `airflow.providers.amazon.aws.hooks.s3.S3Hook`."""
        ...

    def settings_of(self, conn_id: str, fix: str, *refused: type[Exception]) -> AbstractContextManager[None]:
        """Around what makes a client: a setting that its library refuses is a ConfigError that names the connection."""
        ...

    def secret(self, key: str, value: SecretStr | None) -> str | None:
        """What the reference at a key of the customer file stands for, masked in all logs from now on."""
        ...

    def mask(self, text: str | None) -> None:
        """Hides the text in all logs from now on, line by line."""
        ...

    def default_conn_id(self, scheme: str) -> str:
        """The platform's connection for customers' targets of this scheme."""
        ...


class ConnectorConfig(BaseModel):
    """The `connector_config` of one `connector_type`, and all that differs by it.

    Names and meanings of keys are the service's public page, "Connector types". A check that needs two keys sits on the
    later declared one, so that its message names that key's line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: One line for editors: what a customer gets.
    summary: ClassVar[str]
    #: The key that says where to deliver, which a message about two exports of one target names.
    target_key: ClassVar[str]
    #: Other names that people give it as `connector_type`, for the message that names the right one.
    also_called: ClassVar[frozenset[str]] = frozenset()

    if_exists: IfExists = Field(
        default="replace",
        description="another content at an existing name: replace it, keep it, or write <from>_<to>.r2.json next to it",
    )

    @property
    @abstractmethod
    def kind(self) -> str:
        """The connector in one word, as tags, the page and receipts show it: email, sftp, or the scheme of a bucket."""

    @abstractmethod
    def address(self) -> str | None:
        """The folder below which everything is written, ending in `/`, without secrets; None for a link by mail.

        Where an Airflow connection names the server, its id stands in place of the host: `sftp://<conn_id>/folder/`.
        """

    def bounded_address(self) -> str | None:
        """What tenants.yaml holds against a customer's targets; None where mail or `conn_id` alone says where to."""
        return self.address()

    @abstractmethod
    def identity(self) -> tuple[str, ...] | None:
        """What tells one target folder from another, however it is spelled; None where names cannot meet (email)."""

    @abstractmethod
    def describe(self) -> str:
        """The target in Markdown, for the DAG's page."""

    @classmethod
    def keys_of(cls, target: str) -> dict[str, str | list[str]] | None:
        """The keys that an address on the command line stands for; None where it is not one of this connector's.

        Raises:
            ValueError: it is, but holds what it must not.
        """
        return None

    def open(self, connections: Connections, transfers: int) -> Destination | None:
        """A client of the target, not yet connected; None for a link by mail.

        Args:
            transfers: how many tasks of the run may deliver to it at once.

        Raises:
            ConfigError: a connection or secret that it needs is not there.
        """
        return None

    async def check(self, target: Destination, folders: Sequence[str]) -> list[CheckResult]:
        """Whether the opened target takes what an export writes; each step is tried, nothing is left behind."""
        from data_export.check.probe import check_by_probe

        return await check_by_probe(target, "target", folders)

    def handover(self) -> Handover:
        """What the sheet for the customer says of the target; it never holds a secret."""
        return Handover()

    def parallel_transfers(self, at_once: int, sites: int) -> int:
        """How many of `sites` may be delivered at once where the platform allows `at_once`."""
        return at_once

    def reads_images_back(self) -> bool:
        """Whether a copied image is proven by its bytes read back, and not by the server's word."""
        return False

    def recipients(self) -> tuple[str, ...]:
        """Who is mailed a link to the staged file; empty where the connector delivers to a target of its own."""
        return ()

    def link_hours(self, usual: int) -> int | None:
        """How long the mailed link must work, `usual` unless the file says; None where there is no link."""
        return None

    def secrets(self) -> dict[str, SecretStr]:
        """The keys that hold a secret or a reference to one."""
        return {}

    def secrets_open(self) -> tuple[str, ...]:
        """What the secrets belong to, such as a key's path: with another one they are of no use."""
        return ()

    def consequences(self, before: Self) -> Iterator[str]:
        """What a change from `before` to this means for the customer, apart from a new address; one sentence each."""
        return iter(())


OpenStore = Callable[[str, str, Connections, Mapping[str, Any]], Store]
CheckTarget = Callable[[Destination, Sequence[str]], Awaitable[list[CheckResult]]]


HandoverOf = Callable[[str, Mapping[str, Any]], Handover]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of object store, named by the scheme of its addresses: `gs://bucket/folder/`."""

    name: str
    #: Makes the store at an address, with a connection's id and the keys that only this scheme has.
    open: OpenStore
    #: The steps of `check` on a customer's bucket; None writes and removes a small object.
    check: CheckTarget | None = None
    #: What the hand-over sheet says of a folder at an address, with the keys that only this scheme has.
    handover: HandoverOf = lambda _uri, _own: Handover()
    #: The keys of `connector_config` that only this scheme takes, each with what to do where they stand with another.
    own_keys: Mapping[str, str] = field(default_factory=dict)
    #: Whether the connection may name another server, so that equal addresses may be different places.
    connection_names_server: bool = False
    #: Page of an object in the provider's console, with `{bucket}` and `{key}`; empty where the provider has none.
    console: str = ""
    #: What stands between `://` and the folder, and what a message says of it.
    bucket: str = r"[a-z0-9](?!.*\.\.)[a-z0-9._-]{1,220}[a-z0-9]"
    bucket_rule: str = "use 3 to 222 of a-z, 0-9, '-', '_' and '.'"
    #: How this service spells an address that other tools write in a way of their own; None for all other addresses.
    respelled: Callable[[str], str | None] = lambda _: None
    #: Other names that people give it as `connector_type`.
    also_called: tuple[str, ...] = ()
    #: Whether it has buckets; a folder of this machine has none, and is for demo and tests.
    has_buckets: bool = True
