"""`site_id` of a customer file: a list of uuids, or a mapping of names, for people, to uuids."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from data_export.config.fields import plain, quoted

MAX_SITES = 1024  # a run has one mapped task per site, of which Airflow makes no more
_LONGEST_NAME = 80


class Sites(tuple[UUID, ...]):
    """The sites in the order of the file; `names` has the names of those that have one."""

    names: Mapping[UUID, str]

    @classmethod
    def named(cls, sites: Mapping[str, UUID]) -> Self:
        made = cls(sites.values())
        made.names = {site: name for name, site in sites.items()}
        return made

    def dumped(self) -> list[str] | dict[str, str]:
        return {name: str(site) for site, name in self.names.items()} or [str(site) for site in self]


Sites.names = {}


def site_label(sites: object, site: UUID | str) -> str:
    """What people read for a site: its name, or its uuid where it has none.

    Args:
        sites: `site_id` of an export, or of a plan as it travels between tasks; anything else knows no names.
    """
    if isinstance(sites, dict):
        return next((str(name) for name, uuid in sites.items() if uuid == str(site)), str(site))
    names = names_of(sites)
    return names.get(UUID(str(site)), str(site)) if names else str(site)


def label_in(plan: object, site: str) -> str:
    """`site_label` by a plan as it travels between tasks; the uuid where it is no plan."""
    export = plan.get("export") if isinstance(plan, dict) else None
    return site_label(export.get("site_id") if isinstance(export, dict) else None, site)


def names_of(sites: object) -> Mapping[UUID, str]:
    """The names of an export's sites, of those that have one."""
    return sites.names if isinstance(sites, Sites) else {}


def keys_of_sites(sites: Sequence[UUID]) -> Sequence[str | int]:
    """How the file names each of them: by its name, or by its place in the list."""
    return [*names_of(sites).values()] or range(len(sites))


def _checked(value: object, as_list: ValidatorFunctionWrapHandler) -> Sites:
    """Counted before any of them is looked at: pydantic itself counts the right ones only.

    Raises:
        ValidationError: with the name as the last key of each error's place.
    """
    if isinstance(value, list | dict) and len(value) > MAX_SITES:
        raise PydanticCustomError("too_long", "too many sites", {"max_length": MAX_SITES})
    if isinstance(value, Sites):
        return value
    if not isinstance(value, dict):
        return Sites(_distinct(as_list(value)))
    for name, site in value.items():
        _check_name(str(name), site)
    names = [str(name) for name in value]
    try:
        found = as_list([*value.values()])
    except ValidationError as wrong:
        errors = [_at_name(error, names) for error in wrong.errors(include_url=False)]
        raise ValidationError.from_exception_data("site_id", errors) from None
    return Sites.named(dict(zip(names, _distinct(found), strict=True)))


def _at_name(error: ErrorDetails, names: Sequence[str]) -> InitErrorDetails:
    """An error in a list of sites, as one in the mapping that the list was made from."""
    place = (names[int(error["loc"][0])], *error["loc"][1:]) if error["loc"] else ()
    return {"type": error["type"], "loc": place, "input": error["input"], "ctx": error.get("ctx", {})}


def _check_name(name: str, site: object) -> None:
    if _is_uuid(name):
        fix = f"write {site}: {name}" if isinstance(site, str) and not _is_uuid(site) else "write a name for people"
        raise ValueError(f"has the uuid {name} in the place of a name: {fix}")
    if not name.strip() or name != name.strip() or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"has the name {quoted(name)}: write 1 to {_LONGEST_NAME} characters, without spaces at either end"
        )
    plain(name)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _distinct(sites: tuple[UUID, ...]) -> tuple[UUID, ...]:
    seen: set[UUID] = set()
    for site in sites:
        if site in seen:
            raise ValueError(f"names site {site} twice: remove one")
        seen.add(site)
    return sites


_UUID = {"type": "string", "format": "uuid"}
SiteIds = Annotated[
    tuple[UUID, ...],
    Field(min_length=1),
    WrapValidator(_checked),
    PlainSerializer(lambda sites: sites.dumped() if isinstance(sites, Sites) else [*map(str, sites)], when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _UUID, "minItems": 1, "maxItems": MAX_SITES, "uniqueItems": True},
                {
                    "type": "object",
                    "additionalProperties": _UUID,
                    "propertyNames": {"minLength": 1, "maxLength": _LONGEST_NAME},
                    "minProperties": 1,
                    "maxProperties": MAX_SITES,
                },
            ]
        }
    ),
]
