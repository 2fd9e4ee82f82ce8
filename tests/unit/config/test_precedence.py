"""Which of several files that would write the same objects runs: never another than the one that delivers already."""

from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from data_export.config.load import Loaded, load_beside
from data_export.config.models import CustomerExport
from data_export.config.precedence import LastDelivery, other_owner, require_owner
from data_export.config.problems.problems import BrokenFile
from data_export.errors import ConfigError
from tests.customers import export

OLD, NEW = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
SITES = [UUID(int=number) for number in (1, 2)]


def to(folder: str = "x", sites: list[UUID] | None = None, **more: Any) -> CustomerExport:
    config = {"storage_uri": f"gs://bucket/{folder}/", "export_images": False}
    return export(connector_type="cloud_storage", connector_config=config, site_id=sites or SITES[:1], **more)


def delivered(by: CustomerExport, since: datetime = OLD) -> LastDelivery:
    record = {
        "place": by.connector_config.identity(),
        "export_type": by.export_type,
        "sites": [{"site_id": str(s)} for s in by.site_id],
    }
    return LastDelivery.of(record, since)


def runs(exports: dict[str, CustomerExport], last_deliverys: dict[str, LastDelivery]) -> list[str]:
    return [name for name in exports if other_owner(name, exports, last_deliverys.get) is None]


def test_a_copy_never_stops_the_export_it_was_copied_from_whatever_its_name() -> None:
    for name in ("alpha", "omega"):
        assert runs({"live": to(), name: to()}, {"live": delivered(to())}) == ["live"]


def test_an_edit_that_leads_to_anothers_target_stops_the_edited_export() -> None:
    for edited, live in permutations(("alpha", "zeta")):
        last_deliverys = {edited: delivered(to("elsewhere"), since=OLD), live: delivered(to(), since=NEW)}
        assert runs({edited: to(), live: to()}, last_deliverys) == [live]
        last_deliverys = {edited: delivered(to(sites=SITES[1:]), since=OLD), live: delivered(to(), since=NEW)}
        assert runs({edited: to(sites=SITES), live: to()}, last_deliverys) == [live]
        other_type = delivered(to(export_type="work-orders-states"), since=OLD)
        assert runs({edited: to(), live: to()}, {edited: other_type, live: delivered(to(), since=NEW)}) == [live]


def test_where_both_delivered_the_longer_goes_on_and_where_none_did_the_first_by_name() -> None:
    both = {"alpha": to(), "zeta": to()}
    assert runs(both, {"alpha": delivered(to(), since=NEW), "zeta": delivered(to(), since=OLD)}) == ["zeta"]
    assert runs(both, {}) == ["alpha"]


def test_a_live_export_goes_on_among_many() -> None:
    many = {"alpha": to(), "beta": to(sites=SITES), "gamma": to(sites=SITES[1:]), "apart": to("apart")}
    assert runs(many, {"gamma": delivered(many["gamma"])}) == ["alpha", "gamma", "apart"]
    assert runs(many, {"beta": delivered(many["beta"])}) == ["beta", "apart"]


def test_the_one_that_stands_back_is_told_with_both_files_and_the_fix(tmp_path: Path) -> None:
    text = """\
site_id: [00000000-0000-0000-0000-000000000001]
interval: daily
start_date: 2025-03-16
connector_type: cloud_storage
connector_config: {storage_uri: "gs://bucket/x/", export_images: false}
"""
    for name in ("live", "copy"):
        (tmp_path / f"{name}.yaml").write_text(text)
    last_delivery = {"live": delivered(to())}.get
    assert require_owner("live", load_beside("live", tmp_path), last_delivery).site_id == (SITES[0],)
    with pytest.raises(
        ConfigError, match=r"copy\.yaml does not run, since live\.yaml, .*change storage_uri"
    ) as refused:
        require_owner("copy", load_beside("copy", tmp_path), last_delivery)
    assert not isinstance(refused.value, BrokenFile)  # which is tried again for minutes


def test_an_export_that_is_off_and_run_by_hand_stands_back_too(tmp_path: Path) -> None:
    live, off = to(), to(enabled=False)
    last_delivery = {"live": delivered(live)}.get
    for known in ({}, {"live": delivered(live)}, {"live": delivered(live, NEW), "off": delivered(live, OLD)}):
        with pytest.raises(ConfigError, match=r"off\.yaml does not run, since live\.yaml, .*; change its target"):
            require_owner("off", Loaded({"live": live, "off": off}, ()), known.get)
    assert require_owner("live", Loaded({"live": live, "off": off}, ()), last_delivery) is live
    assert require_owner("off", Loaded({"live": to("y"), "off": off}, ()), last_delivery) is off


def test_who_delivered_is_asked_only_where_exports_collide() -> None:
    def refuse(name: str) -> LastDelivery:
        raise AssertionError(f"asked for {name}")

    apart = {"alpha": to(), "beta": to("y"), "gamma": to(enabled=False), "delta": export(site_id=SITES[:1])}
    assert [other_owner(name, apart, refuse) for name in apart] == [None] * 4


@pytest.mark.parametrize("recorded", ["", "export_s3"])
def test_a_connection_that_is_written_out_makes_no_other_target(recorded: str) -> None:
    def at(**conn_id: str) -> CustomerExport:
        config = {"storage_uri": "s3://bucket/x/", "export_images": False} | conn_id
        return export(connector_type="cloud_storage", connector_config=config, site_id=SITES[:1])

    place = {"place": ["s3://bucket/x/", recorded], "export_type": at().export_type}
    last_delivery = {"zeta": LastDelivery.of(place | {"sites": [{"site_id": str(SITES[0])}]}, OLD)}
    for named, other in permutations(("alpha", "zeta")):
        assert runs({named: at(conn_id="export_s3"), other: at()}, last_delivery) == ["zeta"]
    assert runs({"alpha": at(conn_id="another"), "zeta": at()}, last_delivery) == ["alpha", "zeta"]


def test_an_export_that_was_mailed_holds_no_place() -> None:
    mailed = LastDelivery.of({"place": None, "export_type": to().export_type, "sites": []}, OLD)
    assert runs({"alpha": to(), "zeta": to()}, {"alpha": mailed, "zeta": delivered(to())}) == ["zeta"]
