"""The shape of the code, proven: what the core may load, which way imports point, how large a file may grow."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
CORE = PLUGINS / "data_export"
EDGE_LIBRARIES = {
    "airflow",
    "google",
    "gcloud",
    "boto3",
    "botocore",
    "paramiko",
    "asyncssh",
    "obstore",
    "aiohttp",
    "azure",
}
SOURCES = sorted(PLUGINS.rglob("*.py"))


def modules() -> list[str]:
    return ["data_export", *(m.name for m in pkgutil.walk_packages([str(CORE)], "data_export."))]


def imports_of(module: str) -> set[str]:
    """Modules of the core that a module imports at module level."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    known = set(modules())
    found: set[str] = set()
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & known) - {module}


def test_importing_the_whole_core_loads_no_edge_library() -> None:
    code = (  # what a package's .pth file loads at start is not the core's doing
        f"import importlib, sys\nbefore = set(sys.modules)\n"
        f"for name in {modules()!r}: importlib.import_module(name)\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PLUGINS)}, capture_output=True, text=True, check=True
    )
    assert not EDGE_LIBRARIES & set(done.stdout.split())


def all_imports() -> dict[str, set[str]]:
    """By module the others that it imports, in functions too, but not for types alone."""
    names = {
        path: ".".join(path.relative_to(PLUGINS).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES
    }
    found: dict[str, set[str]] = {}
    for path, name in names.items():
        tree = ast.parse(path.read_text())
        for_types = {id(node) for test in ast.walk(tree) if _is_type_checking(test) for node in ast.walk(test)}
        wanted: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
                wanted |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import) and id(node) not in for_types:
                wanted |= {alias.name for alias in node.names}
        found[name] = (wanted & {*names.values()}) - {name}
    return found


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_there_is_no_import_cycle() -> None:
    graph, done = all_imports(), set[str]()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path, module])}"
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_a_folder_is_seen_at_a_glance() -> None:
    found = [path for path in SOURCES if path.name != "__init__.py"]
    crowded = {folder: count for folder, count in Counter(path.parent for path in found).items() if count > 13}
    assert not crowded
    assert len(found) <= 205


#: File names that folders make plain: one for each connector, or the core's and what Airflow's side does with it.
OF_CONNECTORS = {"config.py", "store.py", "write.py", "check.py", "errors.py", "read.py"}
OF_CORE_AND_EDGE = {"base.py", "late.py", "plan.py", "receipts.py", "site.py", "watch.py", "windows.py"}


def test_no_file_name_stands_for_two_things() -> None:
    named: dict[str, set[Path]] = {}
    for path in SOURCES:
        if path.name not in {"__init__.py", "__main__.py"}:
            named.setdefault(path.name, set()).add(path.parent)
    assert {name for name, folders in named.items() if len(folders) > 1} - OF_CONNECTORS - OF_CORE_AND_EDGE == set()


#: What each part of the core may import: its own layer and those below.
LAYERS = (
    {"pipeline", "alerts", "review", "handover"},
    {"source", "transform", "delivery", "images", "check", "seal"},
    {"config", "limits", "plan", "receipt"},
    {"window", "layout", "errors", "content", "lateness", "wording", "scratch"},
)
#: What a connector says of itself stands in its folder, but a customer file is checked with it.
OF_CONFIG = re.compile(
    r"data_export\.(delivery(\.base|\.connector|\.handed_over|\.registry|\.\w+\.config|\.(gcs|s3|sftp|local|email))?|check(\.results|\.shared_steps)?)"
)


def layer_of(module: str) -> int | None:
    if "." not in module:
        return None
    part = "config" if OF_CONFIG.fullmatch(module) else module.split(".")[1]
    found = [number for number, parts in enumerate(LAYERS) if part in parts]
    assert found, f"{part} is in no layer: add it to LAYERS"
    return found[0]


def test_imports_point_down_the_layers() -> None:
    for module in modules():
        layer = layer_of(module)
        for imported in imports_of(module):
            other = layer_of(imported)
            if layer is not None and other is not None and module.split(".")[1] != imported.split(".")[1]:
                assert other >= layer, f"{module} imports {imported}, which is above it"


def test_nothing_but_airflows_plugin_needs_the_page() -> None:
    """It shows what others know."""
    page = PLUGINS / "data_export_airflow" / "page"
    others = [path for path in SOURCES if not path.is_relative_to(page)]
    users = {path.name for path in others if "data_export_airflow.page" in path.read_text()}
    assert users == {"data_export_plugin.py"}


def test_every_coroutine_is_run_in_a_way_that_a_time_limit_ends() -> None:
    """In an event loop of the main thread, Airflow's alarm raises in the middle of anything."""
    users = {
        path.name for path in SOURCES if re.search(r"asyncio\.(run\(|Runner)|run_until_complete", path.read_text())
    }
    assert users == {"threads.py"}


#: What Airflow changes without notice, since it is not meant for others.
INSIDES = ("models", "utils", "jobs", "serialization", "api_fastapi", "dag_processing")
METADATA = "data_export_airflow/metadata/"
#: Each is what Airflow itself loads: a subclass of its bundle, an application that it mounts, hooks that it calls.
OF_AIRFLOW = {
    "data_export_airflow/bundle.py",
    "data_export_airflow/page/app.py",
    "data_export_airflow/alerting/listeners.py",
}


def insides_of_airflow(path: Path) -> set[str]:
    """What a module imports of Airflow's insides and of its private names, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = {name: name.split(".") for name in found}
    return {
        name
        for name, (top, *rest) in parts.items()
        if top == "airflow" and ((rest[:1] and rest[0] in INSIDES) or any(part.startswith("_") for part in rest))
    }


def test_airflows_insides_are_known_in_one_room() -> None:
    """The next version of Airflow then breaks one folder."""
    users = {path.relative_to(PLUGINS).as_posix() for path in SOURCES if insides_of_airflow(path)}
    assert {user for user in users if not user.startswith(METADATA)} == OF_AIRFLOW


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 45, f"{node.name} is long: split it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_end_to_end_test_is_in_a_folder_that_is_run() -> None:
    root = PLUGINS.parent
    lines = re.findall(r"^\t.* pytest -m e2e .*$", (root / "Makefile").read_text(), re.MULTILINE)
    folders = [root / word for line in lines for word in line.split() if word.startswith("tests/")]
    assert folders
    for path in (root / "tests").rglob("test_*.py"):
        if re.search(r"^pytestmark = pytest.mark.e2e$|^@pytest.mark.e2e$", path.read_text(), re.MULTILINE):
            assert any(map(path.is_relative_to, folders)), path
