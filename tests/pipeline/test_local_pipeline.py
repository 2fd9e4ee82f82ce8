"""All steps of a run on a real source and local stores, without Airflow: the bytes, the repeat, the clean staging."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

import pytest

from data_export import layout
from data_export.config.models import EXPORT, CustomerExport
from data_export.config.platform import PlatformSettings, load_platform
from data_export.delivery.local.store import LocalStore
from data_export.errors import SourceRejected
from data_export.images import split_images_uri
from data_export.limits import limits_of
from data_export.pipeline.receipts import make_receipt, site_receipt
from data_export.pipeline.site import copy_site_images, deliver_site, extract_site, transform_site
from data_export.pipeline.staging import clean_up
from data_export.plan import ExportPlan, prepare
from data_export.receipt import ImagesCopied, Receipt, SiteReceipt
from data_export.window import ExportWindow
from demo.data import LYON, PARIS, DemoData, build, stored_images
from demo.expected import expected_file, expected_images
from demo.fill import fill_source
from demo.servers.postgres import PostgresServer

WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
NOW = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def data() -> DemoData:
    return build()


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory, data: DemoData) -> Iterator[str]:
    with PostgresServer(tmp_path_factory.mktemp("source"), durable=False) as server:
        server.create_database("source")
        fill_source(server.dsn("source"), data, "reader", "secret")
        yield server.dsn("source")


class Run:
    """A run on local stores below one folder."""

    def __init__(self, folder: Path, dsn: str, settings: PlatformSettings) -> None:
        self.target = LocalStore(folder / "target")
        self.staging = LocalStore(folder / "staging")
        self.images = LocalStore(folder / "images")
        self.dsn, self.settings = dsn, settings
        _, self.template = split_images_uri("file:///images/{site_id}/{input_id}{file_extension}")

    def site(self, plan: ExportPlan, site_id: UUID) -> SiteReceipt:
        extracted = extract_site(plan, site_id, 1, self.dsn, self.staging)
        transformed = transform_site(plan, extracted, self.staging)
        copied = copy_site_images(plan, transformed, self.images, self.template, self.target, self.staging)
        return site_receipt(transformed, copied, deliver_site(plan, transformed, self.target, self.staging))

    def whole(self, plan: ExportPlan) -> Receipt:
        sites = [self.site(plan, site) for site in plan.sites]
        receipt = make_receipt(plan, self.target.uri, sites, NOW)
        clean_up(plan, receipt, self.staging)
        return receipt


@pytest.fixture
def run(tmp_path: Path, dsn: str, data: DemoData) -> Run:
    made = Run(tmp_path, dsn, load_platform())
    for name, content in stored_images(data):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return made


def export(*sites: UUID, export_type: str = "work-orders-timeline") -> CustomerExport:
    return EXPORT.validate_python(
        {
            "site_id": list(sites),
            "export_type": export_type,
            "interval": "daily",
            "start_date": "2025-03-15",
            "connector_type": "cloud_storage",
            "connector_config": {"storage_uri": "file:///target", "export_images": True},
        }
    )


def plan_of(exported: CustomerExport) -> ExportPlan:
    return prepare("acme", exported, WINDOW, limits_of("acme", exported, load_platform().limits), NOW)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("export_type", ["work-orders-timeline", "work-orders-states"])
def test_two_sites_arrive_byte_for_byte(run: Run, data: DemoData, tmp_path: Path, export_type: str) -> None:
    receipt = run.whole(plan_of(export(PARIS, LYON, export_type=export_type)))
    names = set()
    for site, part in zip(sorted((PARIS, LYON)), receipt.sites, strict=True):
        key = layout.data_key(site, export_type, WINDOW)
        expected = expected_file(data, site, export_type, WINDOW.start, WINDOW.end)
        assert (tmp_path / "target" / key).read_bytes() == expected
        assert (part.bytes, part.work_orders) == (len(expected), expected.count(b"\n"))
        images = expected_images(data, site, export_type, WINDOW.start, WINDOW.end)
        assert part.images is not None
        assert part.images.copied + part.images.missing_at_source == len(images)
        assert part.images.missing_at_source == (data.missing_image in images)
        names |= {key} | {name.replace("/", "/inputs/") for name in images - {data.missing_image}}
    assert files(tmp_path / "target") == names
    assert files(tmp_path / "staging") == set()


def test_a_repeated_window_sends_nothing(run: Run, tmp_path: Path) -> None:
    run.whole(plan_of(export(PARIS)))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "target").rglob("*")}
    receipt = run.whole(plan_of(export(PARIS)))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "target").rglob("*")} == before
    assert receipt.sites[0].outcome == "unchanged"
    assert receipt.sites[0].images is not None
    assert receipt.sites[0].images.copied == 0


def test_an_empty_window_is_an_empty_file(run: Run, tmp_path: Path) -> None:
    window = ExportWindow(datetime(2025, 4, 1, tzinfo=UTC), datetime(2025, 4, 2, tzinfo=UTC))
    plan = prepare("acme", export(PARIS), window, limits_of("acme", export(PARIS), load_platform().limits), NOW)
    run.whole(plan)
    assert (tmp_path / "target" / plan.data_key(PARIS)).read_bytes() == b""


class Closed(LocalStore):
    """A staging area that nobody is to open."""

    async def __aenter__(self) -> Self:
        raise AssertionError("there is nothing to stage")


@pytest.mark.parametrize("encoding", ["json", "gzip", "parquet"])
def test_of_an_empty_window_nothing_is_staged_that_has_no_content(run: Run, tmp_path: Path, encoding: str) -> None:
    values = export(PARIS).model_dump(mode="json", exclude_unset=True)
    packed = {"json": {}, "gzip": {"compression": "gzip"}, "parquet": {"file_format": "parquet"}}[encoding]
    exported = EXPORT.validate_python(values | packed)
    window = ExportWindow(datetime(2025, 4, 1, tzinfo=UTC), datetime(2025, 4, 2, tzinfo=UTC))
    plan = prepare("acme", exported, window, limits_of("acme", exported, load_platform().limits), NOW)
    closed = Closed(tmp_path / "closed")
    extracted = extract_site(plan, PARIS, 1, run.dsn, closed)
    assert extracted.is_empty
    transformed = transform_site(plan, extracted, closed if encoding == "json" else run.staging)
    assert len(files(tmp_path / "staging")) == (encoding != "json")  # a packed file of no line has bytes
    copied = copy_site_images(plan, transformed, closed, run.template, closed, closed)
    assert copied == ImagesCopied(site_id=PARIS)
    deliver_site(plan, transformed, run.target, closed if encoding == "json" else run.staging)
    assert (tmp_path / "target" / plan.data_key(PARIS)).stat().st_size == transformed.bytes


def test_a_file_that_is_there_is_recognised_without_staging(run: Run, tmp_path: Path) -> None:
    plan = plan_of(export(PARIS))
    transformed = transform_site(plan, extract_site(plan, PARIS, 1, run.dsn, run.staging), run.staging)
    assert deliver_site(plan, transformed, run.target, run.staging).outcome == "created"
    assert deliver_site(plan, transformed, run.target, Closed(tmp_path / "closed")).outcome == "unchanged"


def test_an_unknown_site_is_named_with_the_fix(run: Run) -> None:
    unknown = UUID("00000000-0000-4000-8000-000000000000")
    with pytest.raises(SourceRejected, match=f"site {unknown} .* check site_id"):
        run.whole(plan_of(export(unknown)))


def test_two_runs_of_one_window_never_meet_in_staging(run: Run) -> None:
    first, second = plan_of(export(PARIS)), plan_of(export(PARIS))
    one = extract_site(first, PARIS, 1, run.dsn, run.staging)
    other = extract_site(second, PARIS, 1, run.dsn, run.staging)
    clean_up(first, make_receipt(first, "", [], NOW), run.staging)
    assert one.prefix != other.prefix
    transform_site(second, other, run.staging)
