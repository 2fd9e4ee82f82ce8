"""What `check` tries on a container, right by right."""

import secrets
from typing import TYPE_CHECKING, Any

from data_export.check.probe import check_by_probe
from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import PROBE, REMOVE, REPLACE, Step
from data_export.delivery.abfs.errors import asked
from data_export.errors import AccessDenied, CredentialsRefused, DataExportError, PermanentError

if TYPE_CHECKING:
    from data_export.delivery.abfs.store import AbfsStore

_CONTAINER = Step("container", "finds the container, and whether a policy or a hold keeps what is written")
_LIST = Step("list", "lists the folder")
_WRITE = Step("write", "uploads a block that is never shown, where a file could not be removed again")
#: What the sheet for the customer announces.
STEPS = (_CONTAINER, _LIST, *PROBE, _WRITE)


async def check_abfs(target: "AbfsStore") -> Results:
    """Container, listing and removal first; an object is written only where it can be removed again."""
    results = Results()
    held = await _container(target, results)
    if results and not results[-1].ok:
        return results
    await results.tried(_LIST.of("target"), "may list", _list(target))
    nothing = f"data-export-check-{secrets.token_hex(8)}"
    may_remove = await _may_remove(target, nothing, results)
    if may_remove and not held:
        results += await check_by_probe(target, "target")
        return results
    # A block that is never committed shows the right and leaves nothing: Azure drops it after a week.
    block = target.blob(nothing).stage_block
    await results.tried(
        _WRITE.of("target"), "may write", target.ask(target.uri, lambda: block("MDAwMA==", b"{}\n", length=3))
    )
    return results


async def _container(target: "AbfsStore", results: Results) -> bool:
    """Whether something holds what is written, so that it could not be removed."""
    try:
        found: Any = await target.ask(target.uri, target.container.get_container_properties)
    except CredentialsRefused as error:
        results.append(CheckResult(_CONTAINER.of("target"), False, str(error)))
        return False
    except AccessDenied as error:  # roles and SAS tokens on objects alone do not cover it
        results.append(CheckResult(_CONTAINER.of("target"), True, f"not looked at: {error}"))
        return False
    except DataExportError as error:
        results.append(CheckResult(_CONTAINER.of("target"), False, str(error)))
        return False
    held = bool(found.has_immutability_policy or found.has_legal_hold)
    results.append(CheckResult(_CONTAINER.of("target"), True, f"is there{await _kind(target)}"))
    if held:
        name = "immutability policy" if found.has_immutability_policy else "legal hold"
        results.append(
            CheckResult(
                REPLACE.of("target"),
                False,
                f"the {name} of the container lets nothing be replaced or removed: set if_exists to keep or revision",
            )
        )
    return held


async def _kind(target: "AbfsStore") -> str:
    """The kind of namespace, for those who may see it."""
    try:
        found: Any = await asked(target.patience.answer, target.uri, target.container.get_account_information)
    except DataExportError:
        return ""
    return ", with a hierarchical namespace" if found.get("is_hns_enabled") else ""


async def _list(target: "AbfsStore") -> None:
    async for _ in target.list(""):
        return


async def _may_remove(target: "AbfsStore", nothing: str, results: Results) -> bool:
    """Azure looks at the right first and then whether there is such a blob."""
    try:
        await target.delete(nothing)
    except PermanentError as error:
        results.append(CheckResult(REMOVE.of("target"), True, f"not allowed, which no export needs: {error}"))
        return False
    return True
