"""The locks: every file by its hash, nothing that nobody imports, and a list of it all for those who ask."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from data_export.config.load import load_named
from demo.platform import EmbeddedPlatform
from demo.run import DAYS, NAMES
from demo.verify import missing
from tests.unit.deploy.compose_file import ROOT

LOCKS = (
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-uv.txt",
    ".ci/seaweedfs.txt",
    ".ci/openlineage.txt",
)
EXCLUDED = re.findall(r"^([a-z][\w-]*)", (ROOT / "requirements-excluded.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_locked_to_one_version_and_its_files(lock: str) -> None:
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) >= 1
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,-]+\])?==\S+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
        assert "--hash=" not in re.sub(r"--hash=sha256:[0-9a-f]{64}\b", "", entry)


def test_locks_are_installed_by_hash_everywhere() -> None:
    """And as they are: whatever else a package asks for is left out on purpose."""
    texts = [(ROOT / name).read_text() for name in ("Makefile", "Dockerfile", ".ci/run")]
    installs = [line for line in "".join(texts).splitlines() if "pip install" in line]
    assert len(installs) == 6
    assert re.findall(r"npm install .* (\S+@\S+) &&", texts[2]) == ["azurite@3.35.0"]
    assert all("--require-hashes" in line for line in installs)
    assert all("--no-deps" in line for line in installs if "uv pip" in line)


def test_what_is_left_out_is_in_no_lock() -> None:
    locked = set(re.findall(r"^([a-z0-9][\w.-]*)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert len(EXCLUDED) >= 4
    assert not {*EXCLUDED, "litellm", "openai", "scikit-learn", "scipy", "tokenizers"} & locked


def test_the_service_needs_nothing_that_its_requirements_leave_out(tmp_path: Path) -> None:
    """All of it is imported, and every connector exports to its server."""
    sources = [ROOT / "plugins", ROOT / "deploy" / "preload"]
    modules = [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for source in sources
        for path in sorted(source.rglob("*.py"))
        if path.stem != "__main__"
    ]
    assert len(modules) > 150
    day = DAYS[0]
    window = ["--from", f"{day:%Y-%m-%d}", "--to", f"{day + timedelta(days=1):%Y-%m-%d}"]
    customers = ROOT / "include" / "customers"
    with EmbeddedPlatform(tmp_path / "platform") as platform:
        data = platform.fill()
        environment = {**platform.environment(), "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
        environment |= {"AIRFLOW_HOME": str(tmp_path), "DATA_EXPORT_CUSTOMERS_DIR": str(customers)}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, sources))
        asked = {"modules": modules, "commands": [["run", str(customers / f"{name}.yaml"), *window] for name in NAMES]}
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("without_excluded.py")],
            env=environment,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        exports = {name: load_named(name, customers) for name in NAMES}
        assert missing(platform, data, exports, [day]) == []


def test_the_bill_of_materials_names_every_package_with_its_hashes(tmp_path: Path) -> None:
    if shutil.which("cyclonedx-py", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no cyclonedx-py: run `make install`")
    recipe = re.search(r"^sbom:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    line = recipe[1].strip().lstrip("@").replace("$(BIN)/", f"{Path(sys.executable).parent}/")
    done = subprocess.run(line.replace("sbom.json", str(tmp_path / "sbom.json")), shell=True, cwd=ROOT)
    assert done.returncode == 0
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    named = {component["name"].lower().replace("_", "-").replace(".", "-") for component in bill["components"]}
    locked = re.findall(r"^([a-z0-9][\w.-]*)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert named == {name.replace("_", "-").replace(".", "-") for name in locked}
    assert all("hash" in json.dumps(component) for component in bill["components"])
