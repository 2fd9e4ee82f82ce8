"""A connector, and a kind of bucket, that nobody but this test knows are treated right wherever connectors differ."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from pydantic import SecretStr

from data_export.check.check import check_target
from data_export.config.collisions import colliding
from data_export.config.fields import Flag
from data_export.config.load import load_customer
from data_export.config.models import EXPORT, EXPORTS, CustomerExport, export_of
from data_export.config.platform import ROOT, load_platform
from data_export.config.problems.problems import BrokenFile
from data_export.delivery.base import Store
from data_export.delivery.connector import Connections, ConnectorConfig, Scheme
from data_export.delivery.local.store import LocalStore
from data_export.delivery.registry import CONNECTORS, SCHEMES, kinds
from data_export.handover.contents import Expected, make_sheet
from data_export.handover.render import markdown
from data_export.review import consequences, sample_objects
from data_export.window import ExportWindow
from data_export_airflow.connections.clients import destination
from data_export_airflow.dags.factory import describe, faults
from tests.customers import SITE, export

BASE = {"site_id": [SITE], "interval": "daily", "start_date": "2024-01-01"}
WINDOW = ExportWindow.from_dict({"start": "2024-01-01T00:00:00+00:00", "end": "2024-01-02T00:00:00+00:00"})


class PigeonConfig(ConnectorConfig):
    """A loft to which pigeons carry files: here a folder of this machine."""

    summary: ClassVar[str] = "files in the customer's loft"
    target_key: ClassVar[str] = "loft"

    loft: str
    word: SecretStr = SecretStr("env:DATA_EXPORT_SECRET_WORD")
    export_images: Flag = False

    @property
    def kind(self) -> str:
        return "pigeon"

    def address(self) -> str:
        return f"pigeon://{self.loft}/"

    def identity(self) -> tuple[str, ...]:
        return ("pigeon", self.loft.lower())

    def describe(self) -> str:
        return f"the loft `{self.loft}`"

    def parallel_transfers(self, at_once: int, sites: int) -> int:
        return 1

    def secrets(self) -> dict[str, SecretStr]:
        return {"word": self.word}

    def consequences(self, before: Self) -> Iterator[str]:
        if before.export_images != self.export_images:
            yield "pigeons need to be fed"

    def open(self, connections: Connections, transfers: int) -> LocalStore:
        assert transfers == 1
        assert connections.secret("word", self.word) == "coo"
        return LocalStore(Path(self.loft))


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    return LocalStore(Path(connections.read(conn_id).host or ""))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONNECTORS, "pigeon", PigeonConfig)
    monkeypatch.setitem(EXPORTS, "pigeon", export_of("pigeon", PigeonConfig))
    monkeypatch.setitem(SCHEMES, "moon", Scheme("moon", _open, own_keys={"container_key": "remove it"}))


def pigeon(loft: str = "Acme", **config: object) -> CustomerExport:
    return EXPORTS["pigeon"].model_validate(
        BASE | {"connector_type": "pigeon", "connector_config": {"loft": loft} | config}
    )


def moon(folder: str = "x", **config: object) -> CustomerExport:
    config = {"storage_uri": f"moon://bucket/{folder}", "export_images": True} | config
    return export(connector_type="cloud_storage", connector_config=config)


class TestConnectorType:
    def test_the_dag_says_where_it_delivers(self) -> None:
        assert "- **Target**: the loft `Acme`" in describe("acme", pigeon())
        assert faults({"acme": pigeon()}) == {}

    def test_a_collision_is_seen_however_the_target_is_spelled(self) -> None:
        exports = {"a": pigeon("Acme"), "b": pigeon("ACME"), "c": pigeon("x")}
        assert {name: other for name, other, _ in colliding(exports)} == {"a": "b", "b": "a"}

    def test_plan_shows_the_names_at_the_target(self) -> None:
        assert sample_objects("acme", pigeon(), WINDOW).data.startswith(f"pigeon://Acme/{SITE}/data/")

    def test_the_customer_gets_a_sheet(self) -> None:
        made = make_sheet("acme", pigeon(), load_platform(), [Expected(WINDOW, None)], WINDOW.end, "duckdb")
        text = markdown(made)
        assert "| Where | `pigeon://Acme/` |" in text
        assert "`write and check`" in text
        assert "## What to set up" not in text

    def test_a_moved_target_and_its_own_consequences_are_said(self) -> None:
        assert any("new target" in words for words in consequences(pigeon("one"), pigeon("two")))
        assert "pigeons need to be fed" in consequences(pigeon(), pigeon(export_images=True))

    def test_the_page_knows_its_kind(self) -> None:
        assert {"pigeon", "moon", "gs", "s3", "abfs", "file", "sftp", "email"} == {*kinds()}

    def test_a_missing_type_is_guessed_from_its_keys(self, tmp_path: Path) -> None:
        file = tmp_path / "acme.yaml"
        file.write_text(f"site_id: [{SITE}]\ninterval: daily\nstart_date: 2024-01-01\nconnector_config: {{loft: x}}\n")
        with pytest.raises(BrokenFile, match="write connector_type: pigeon"):
            load_customer(file)

    def test_check_tries_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATA_EXPORT_SECRET_WORD", "coo")
        loft = pigeon(str(tmp_path))
        target = destination("acme", loft, load_platform())
        results = check_target(target, ("a",), loft.connector_config.check)
        assert len(results) > 3
        assert all(result.ok for result in results)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    @pytest.mark.parametrize("left_out", ["kind", "address", "identity", "describe"])
    def test_what_is_asked_of_each_cannot_be_left_out(self, left_out: str) -> None:
        methods = {key: vars(PigeonConfig)[key] for key in ("kind", "address", "identity", "describe")}
        partial = type("Partial", (ConnectorConfig,), {key: methods[key] for key in methods if key != left_out})
        with pytest.raises(TypeError, match=left_out):
            partial()


class TestScheme:
    def test_the_customer_gets_a_sheet(self) -> None:
        made = make_sheet("acme", moon(), load_platform(), [Expected(WINDOW, None)], WINDOW.end, "duckdb")
        assert "| Where | `moon://bucket/x/` |" in markdown(made)

    def test_a_customer_file_takes_it(self) -> None:
        assert moon().scheme == "moon"
        assert EXPORT.validate_json(moon().model_dump_json()) == moon()

    def test_docs_collisions_and_plan_treat_it_as_a_bucket(self) -> None:
        assert "- **Target**: `moon://bucket/x/`" in describe("acme", moon())
        assert [*colliding({"a": moon("x"), "b": moon("x/")})]
        assert sample_objects("acme", moon(), WINDOW).data.startswith(f"moon://bucket/x/{SITE}/data/")
        assert any("new target" in words for words in consequences(moon("one"), moon("two")))

    def test_a_key_of_another_store_is_refused(self) -> None:
        with pytest.raises(ValueError, match="works with gs:// only"):
            moon(impersonate="a@b.example")

    def test_its_client_comes_from_an_airflow_connection(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_MINE", f'{{"conn_type": "fs", "host": "{tmp_path}"}}')
        assert destination("acme", moon(conn_id="mine"), load_platform()).uri == f"file://{tmp_path}/"


def test_connectors_are_compared_by_class_or_scheme_in_their_own_folders_only() -> None:
    """Whatever differs is a method of the connector, so that a new one is not forgotten anywhere."""
    plugins, found = ROOT / "plugins", []
    classes = {config.__name__ for config in CONNECTORS.values()} | {
        "GcsStore",
        "S3Store",
        "AbfsStore",
        "SftpDestination",
    }
    for path in sorted(plugins.rglob("*.py")):
        if path.is_relative_to(plugins / "data_export" / "delivery"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                found += [f"{path.name}:{node.lineno}"] if words & {"gs", "s3", "abfs", "sftp", "email"} else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                found += [f"{path.name}:{node.lineno}"] if named & classes else []
    assert found == []
