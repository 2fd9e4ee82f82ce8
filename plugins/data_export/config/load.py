"""From the files of `include/customers/` to checked exports, and to everything that is wrong with them."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from data_export.config.collisions import colliding
from data_export.config.fields import NAME, Email, name_meant, quoted, reference_of
from data_export.config.folder import customer_names, file_of, listed, names_in, near_name, unlisted
from data_export.config.models import EXPORT, AnyExport, CustomerExport
from data_export.config.platform import customers_dir, load_platform, platform_file
from data_export.config.problems.diagnose import diagnose
from data_export.config.problems.explain import near_key
from data_export.config.problems.problems import BrokenFile, ConfigProblem, MissingFile
from data_export.config.reading.file_text import is_missing, is_settled, read_text, stamp
from data_export.config.reading.yaml_lines import Document, read_document
from data_export.config.tenants import Bounds, bounds, shared_sites, tenants_file
from data_export.errors import ConfigError
from data_export.limits import most_window_days, windows_too_long


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder holds: usable exports by name, and every problem, errors and warnings, in order of files.

    A file with an error is not among the exports, except those that collide: which of them runs is for the run to say
    (`data_export.config.collisions`).
    """

    exports: dict[str, AnyExport]
    problems: tuple[ConfigProblem, ...]

    def errors(self) -> dict[str, list[str]]:
        """What is wrong with the files of exports, by their name; warnings left out."""
        found: dict[str, list[str]] = {}
        for problem in self.problems:
            if problem.name is not None and problem.is_error:
                found.setdefault(problem.name, []).append(str(problem))
        return found

    def broken(self) -> dict[str, list[str]]:
        """`errors` of the files that make no export."""
        return {name: errors for name, errors in self.errors().items() if name not in self.exports}


def load_customers(folder: Path | None = None, *, only_dag_id: str | None = None) -> Loaded:
    """Every `*.yaml` of the folder (default: `customers_dir()`). Never raises.

    A file with an error hides no other. With `only_dag_id` only that export's own file is read, whatever number lies
    in its folder; collisions with other files are then not looked for. A whole folder that is as it was when this
    process, or the one that it is a fork of, read it last costs one `stat` for each file (15 ms for 5,000). One that
    cannot be listed now is what it was then, with that problem: every customer's DAG would go for a disk's bad moment.
    """
    folder = customers_dir() if folder is None else folder
    try:
        if only_dag_id is not None:
            return load_all(listed(folder, only_dag_id))
        return _load_folder(folder)
    except OSError as error:
        problem = ConfigProblem(folder, None, None, unlisted(error))
        known = _read_last[2] if _read_last is not None and _read_last[0] == folder else Loaded({}, ())
        return Loaded(known.exports, (problem, *known.problems))


#: The folder that was read last, all that it depended on, or None where that may change unseen, and what it held.
_read_last: tuple[Path, object, Loaded] | None = None


def _load_folder(folder: Path) -> Loaded:
    global _read_last
    names = names_in(folder)
    stamps = [stamp(platform_file()), stamp(tenants_file()), *(stamp(f"{folder}/{name}") for name in names)]
    settings = {name: value for name, value in os.environ.items() if name.startswith("DATA_EXPORT_")}
    read = (folder, names, stamps, settings)
    if _read_last is not None and _read_last[1] == read:
        return _read_last[2]
    settled, loaded = all(map(is_settled, stamps)), load_all(folder / name for name in names)
    readable = not any("cannot be read" in problem.message for problem in loaded.problems)  # it may be the next time
    _read_last = folder, read if settled and readable else None, loaded
    return loaded


def load_all(paths: Iterable[Path]) -> Loaded:
    """These files, which are to lie in one folder. Never raises."""
    file_refusal, most_days, limits = cache(local_refusal), cache(most_window_days), bounds()
    exports: dict[str, AnyExport] = {}
    documents: dict[str, Document] = {}
    problems: list[ConfigProblem] = []
    for path in paths:
        try:
            document, export = _load(path, file_refusal, most_days, limits)
            documents[path.stem], exports[path.stem] = document, export
            problems += warnings_of(document, export) + _too_long(document, export, most_days)
        except BrokenFile as broken:
            problems += broken.problems
        except Exception as error:  # a fault of ours over one file must not hide every other customer's export
            message = f"cannot be read because of a fault of the service ({type(error).__name__}): report it"
            problems.append(ConfigProblem(path, None, None, message))
    for name, other, site in colliding(exports):
        problems.append(_collision(documents[name], exports[name], documents[other].path, site))
    for name, other, site in () if limits.tenants is not None else shared_sites(exports):
        fix = f"is exported by {documents[other].path.name} to another place too: write the same customer in both files"
        found = f"{site} {fix} if it is one customer's, else remove it from one of them"
        problems.append(documents[name].problem(("site_id",), found, is_error=False))
    return Loaded(exports, tuple(sorted(problems, key=lambda problem: problem.path)))


def load_customer(path: Path) -> AnyExport:
    """One file.

    Raises:
        BrokenFile: with all problems of the file.
    """
    return _load(path, local_refusal, most_window_days, bounds())[1]


def load_named(name: str, folder: Path | None = None) -> AnyExport:
    """The export of this name; reads its file only.

    Raises:
        MissingFile: no such file.
        BrokenFile: with all problems of the file.
    """
    folder = customers_dir() if folder is None else folder
    if not NAME.fullmatch(name):  # it may come from outside, and must not lead to another folder
        raise ConfigError(_no_name(name, folder))
    path = folder / f"{name}.yaml"
    if is_missing(path):
        hint = near_name(name, customer_names(folder))
        fix = "correct the name, or put its file back"
        raise MissingFile(name, f"there is no export {name}{hint}: {fix}: {path}")
    return load_customer(path)


def _no_name(name: str, folder: Path) -> str:
    hint = near_name(name, customer_names(folder))
    return f"{quoted(name)} is not the name of a customer file{hint}: write its name alone, without folder and .yaml"


def load_beside(name: str, folder: Path | None = None) -> Loaded:
    """The export of this name, among all that could write the same objects.

    Of the other files only those are understood whose text names a site of this one, or a manifest, which is of all
    sites, if this one has one: 0.1 s instead of 0.6 s of 5,000.

    Raises:
        MissingFile: no such file.
        BrokenFile: with all problems of the file.
    """
    folder = customers_dir() if folder is None else folder
    export = load_named(name, folder)
    words = [*(site.hex for site in export.site_id), *(["manifest"] if export.manifest else [])]
    loaded = load_all(path for path in listed(folder) if path.stem == name or _may_name(path, words))
    return Loaded({**loaded.exports, name: export}, loaded.problems)


def _may_name(path: Path, words: Iterable[str]) -> bool:
    """Whether the file's text has one of the words, uuids in any spelling; an escaped text may spell what it likes."""
    try:
        text = read_text(path).lower().replace("-", "")
    except BrokenFile:
        return False
    return "\\" in text or any(word in text for word in words)


def _load(
    path: Path, file_refusal: Callable[[], str | None], most_days: Callable[[], int | None], limits: Bounds
) -> tuple[Document, AnyExport]:
    if problem := _not_there(path) or _bad_name(path) or _leaves_folder(path):
        raise BrokenFile([ConfigProblem(path, None, None, problem)])
    document = read_document(path)
    try:
        export = EXPORT.validate_python(document.values)
    except ValidationError:
        raise BrokenFile(diagnose(document)) from None
    uri = export.connector_config.address() or ""
    if uri.startswith("file://") and (refusal := file_refusal()):
        raise BrokenFile([document.problem(("connector_config", "storage_uri"), refusal)])
    too_long = _too_long(document, export, most_days)
    if any(problem.is_error for problem in too_long):
        raise BrokenFile(too_long)
    if refusals := [document.problem(*refusal) for refusal in limits.refusals(export)]:
        raise BrokenFile(refusals)
    return document, export


def _too_long(document: Document, export: CustomerExport, most: Callable[[], int | None]) -> list[ConfigProblem]:
    """An error where every window would break the platform's limit, a warning where some would."""
    found = windows_too_long(export, most)
    return [document.problem(("interval",), found[0], is_error=found[1])] if found else []


def _not_there(path: Path) -> str | None:
    if not is_missing(path):
        return None
    folder = path.parent if path.parent.parts else customers_dir()  # a bare name is an export's
    found = near_key(path.stem, customer_names(folder))
    hint = f" (did you mean {file_of(found, folder)}?)" if found else ""
    return f"there is no such file{hint}: correct the path, or put the file back"


def _bad_name(path: Path) -> str | None:
    if NAME.fullmatch(path.stem) and path.suffix == ".yaml":
        return None
    rename = f"rename it to {name_meant(path) or 'customer-name'}.yaml"
    if path.suffix != ".yaml":
        return f"customer files end in .yaml: {rename}"
    rule = "the name of a customer file must be 1-63 characters of a-z, 0-9 and '-', and must not start with '-'"
    return f"{rule}: {rename}"


def _leaves_folder(path: Path) -> str | None:
    """Links within the folder are fine: a Kubernetes ConfigMap is mounted that way."""
    if not path.is_symlink():
        return None
    inside = os.path.realpath(path).startswith(os.path.realpath(path.parent) + os.sep)
    return None if inside else "is a link to a file outside of its folder: put a copy of the file here"


def local_refusal() -> str | None:
    """Why `file://` may not be used; None where it may."""
    try:
        if load_platform().targets.allow_local:
            return None
    except ConfigError as error:
        return f"file:// may be refused, but the platform's settings cannot be read: {error}"
    return "file:// is for demo and tests (targets.allow_local of platform.yaml): use gs://, s3:// or abfs://"


def warnings_of(document: Document, export: CustomerExport) -> list[ConfigProblem]:
    """What is allowed in a file but better left out: a secret itself."""
    fix = "is written in the file, where everybody reads it: put it elsewhere and write env:NAME or var:NAME"
    written = [key for key, secret in export.connector_config.secrets().items() if reference_of(secret) is None]
    return [document.problem(("connector_config", key), fix, is_error=False) for key in written]


def _collision(document: Document, export: CustomerExport, other: Path, site: UUID) -> ConfigProblem:
    key = export.connector_config.target_key
    both = f"{document.path.name} and {other.name} would write the same files ({export.export_type} of site {site})"
    fix = f"change {key}, site_id or export_type in one of them; until then only the one that delivers already runs"
    return document.problem(("connector_config", key), f"{both}: {fix}")


_EMAIL: TypeAdapter[str] = TypeAdapter(Email)


def owner_in(path: Path) -> str | None:
    """Whom the file names as `owner`, if it can be read and that is an address, even where the rest of it is broken."""
    try:
        return _EMAIL.validate_python(read_document(path).values.get("owner"))
    except (ConfigError, ValidationError, OSError):
        return None
