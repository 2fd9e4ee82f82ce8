"""Every object name that the service writes, defined in this one place.

Names are relative to the root of the target or of staging, use `/`, and never begin with `/`.
Source of the delivered layout: the service's public page, "Structure of the data in the target bucket".
"""

import re
from typing import Literal
from uuid import UUID

from data_export.window import ExportWindow

# What may follow an input's id in a file name: no separator, no NUL, no dot-dot, nothing a shell or server would read.
_SAFE_EXTENSION = re.compile(r"(?:\.?[A-Za-z0-9_-]{1,16}){0,3}", re.ASCII)


#: How a data file is packed: plain JSON Lines, the same compressed, or Parquet.
Encoding = Literal["json", "gzip", "zstd", "parquet"]
#: What a data file's name ends in.
DATA_SUFFIXES: dict[Encoding, str] = {
    "json": ".json",
    "gzip": ".json.gz",
    "zstd": ".json.zst",
    "parquet": ".parquet",
}


def data_key(
    site_id: UUID, export_type: str, window: ExportWindow, revision: int = 1, encoding: Encoding = "json"
) -> str:
    """`<site_id>/data/<export_type>/<from>_<to>.json`, of revision 2 `.r2.json`; ends as in `DATA_SUFFIXES`."""
    folder = data_folder(site_id, export_type)
    return f"{folder}/{window.stamp}{_suffix(revision)}{DATA_SUFFIXES[encoding]}"


#: Folder of the manifests, below the target's own.
MANIFESTS = "manifests"


def data_folder(site_id: UUID, export_type: str) -> str:
    return f"{site_id}/data/{export_type}"


def images_folder(site_id: UUID) -> str:
    return f"{site_id}/inputs"


def _suffix(revision: int) -> str:
    return "" if revision == 1 else f".r{revision}"


def image_key(site_id: UUID, input_id: UUID | str, file_extension: str | None) -> str:
    """`<site_id>/inputs/<input_id><file_extension>`.

    Raises:
        ValueError: see `plain_extension`.
    """
    return f"{images_folder(site_id)}/{input_id}{plain_extension(file_extension)}"


def receipt_key(site_id: UUID, export_type: str, window: ExportWindow, revision: int = 1) -> str:
    """`<site_id>/receipts/<export_type>/<from>_<to>.json`; later revisions end in `.r<n>.json`, like the data file."""
    return f"{receipts_folder(site_id, export_type)}/{window.stamp}{_suffix(revision)}.json"


def receipts_folder(site_id: UUID, export_type: str) -> str:
    return f"{site_id}/receipts/{export_type}"


def manifest_key(export_type: str, window: ExportWindow, revision: int = 1) -> str:
    """`manifests/<export_type>/<from>_<to>.json`, of all sites; later revisions end in `.r<n>.json`."""
    return f"{manifests_folder(export_type)}/{window.stamp}{_suffix(revision)}.json"


def manifests_folder(export_type: str) -> str:
    return f"{MANIFESTS}/{export_type}"


def missing_images_key(site_id: UUID, export_type: str, window: ExportWindow, revision: int = 1) -> str:
    """`<site_id>/receipts/<export_type>/<from>_<to>.missing-images.txt`: all names, if too many for a receipt."""
    return f"{site_id}/receipts/{export_type}/{window.stamp}{_suffix(revision)}.missing-images.txt"


def plain_extension(file_extension: str | None) -> str:
    """The extension, empty if there is none.

    Raises:
        ValueError: the extension could leave the folder (see `is_safe_extension`).
    """
    if not is_safe_extension(file_extension):
        raise ValueError(f"file_extension {file_extension!r} is not a plain extension such as .png")
    return file_extension or ""


def is_safe_extension(file_extension: str | None) -> bool:
    """Whether the extension is empty or up to three short groups of ASCII letters, digits, `_` and `-`."""
    return not file_extension or _SAFE_EXTENSION.fullmatch(file_extension) is not None


#: Below these is what runs stage, the files that links lead to, who has their mail, notices, and each window's last.
RUNS_PREFIX, LINKS_PREFIX, MAILED_PREFIX, NOTICES_PREFIX, TOLD_PREFIX = (
    "runs/", "links/", "mailed/", "notices/", "told/",
)  # fmt: skip


def staging_run_prefix(export: str, window: ExportWindow, run_token: str) -> str:
    """`runs/<export>/<from>_<to>/<run_token>`: everything one run stages, so that two runs never meet."""
    return f"{RUNS_PREFIX}{export}/{window.stamp}/{run_token}"


def staging_site_prefix(run_prefix: str, site_id: UUID, attempt: int) -> str:
    """`<run_prefix>/<site_id>/try-<n>`: one attempt's files; a later attempt never reads an earlier one's."""
    return f"{run_prefix}/{site_id}/try-{attempt}"


def mailed_prefix(export: str, window: ExportWindow, run_token: str) -> str:
    """`mailed/<export>/<from>_<to>/<run_token>/`: the mails of a run that a server has accepted."""
    return f"{MAILED_PREFIX}{export}/{window.stamp}/{run_token}/"


def mailed_prefix_before(run_prefix: str) -> str:
    """`<run_prefix>/mail/`: where an earlier version kept these, of runs that were under way when it was replaced."""
    return f"{run_prefix}/mail/"


def link_key(export: str, token: str, file_name: str) -> str:
    """`links/<export>/<token>/<file_name>`: a file offered by mail, under a token that cannot be guessed."""
    return f"{LINKS_PREFIX}{export}/{token}/{file_name}"


def link_file_name(export: str, export_type: str, window: ExportWindow, encoding: Encoding = "json") -> str:
    """`<export>_<export_type>_<from>_<to>.json`, without the colons that Windows refuses: the recipient saves it."""
    return f"{export}_{export_type}_{window.stamp.replace(':', '-')}{DATA_SUFFIXES[encoding]}"


def notices_prefix(export: str) -> str:
    """`notices/<export>/`: the notices of an export's deliveries, sent and left."""
    return f"{NOTICES_PREFIX}{export}/"


def notice_key(export: str, notice_id: str) -> str:
    """`notices/<export>/<id>.json`: one window's notice."""
    return f"{notices_prefix(export)}{notice_id}.json"


def told_key(export: str, window: ExportWindow) -> str:
    """`told/<export>/<from>_<to>`: which notice of the window is the last."""
    return f"{TOLD_PREFIX}{export}/{window.stamp}"


#: What plans and results are signed with, where the environment has no key.
SIGNING_KEY = "keys/signing-key"


def alerts_prefix(export: str) -> str:
    """`alerts/<export>/`: the alerts of an export that were sent recently."""
    return f"alerts/{export}/"


#: How many exports failed alike today (`<cause>/<day>/<number>`), counted while the platform's list hears of each.
ALIKE_PREFIX = "alerts/.alike/"
#: What the watch for late windows knows from one look to the next.
WATCH_KEY = "alerts/.watch/state.json"
