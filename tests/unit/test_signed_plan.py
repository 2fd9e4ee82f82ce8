"""Who may edit an XCom cannot make a run do anything but what it froze."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from data_export.config.models import EXPORT, AnyExport
from data_export.errors import ConfigError
from data_export.plan import SIGNATURE, SIGNING_KEY, ExportPlan, accept_unsigned, sign, verified
from data_export.receipt import Extracted, ImagesCopied, SiteReceipt, Transformed
from data_export.window import ExportWindow

RUN = ("data_export__acme", "scheduled__2025-03-17")
SITE, OTHER = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787"), UUID("533a60f6-9756-473e-b1e9-9e89e24bb787")
STAGING = "gs://platform-staging/exports/"
FIRST, SECOND = "first key of thirty-two characters", "second key of thirty-two characters"


def export(**config: object) -> AnyExport:
    return EXPORT.validate_python(
        {
            "site_id": [str(SITE)],
            "interval": "daily",
            "start_date": "2025-03-16",
            "connector_type": "cloud_storage",
            "connector_config": {"storage_uri": "gs://acme/data/", "export_images": True} | config,
        }
    )


def plan() -> ExportPlan:
    return ExportPlan(
        name="acme",
        export=export(),
        window=ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)),
        run_token="0123456789abcdef",
        config_hash="0123456789abcdef",
        created_at="2025-03-17T00:05:00+00:00",
    )


def travelled() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(sign(plan(), *RUN)))
    return value


@pytest.fixture(autouse=True)
def one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIGNING_KEY, FIRST)


def test_a_plan_comes_back_the_same_with_its_keys_in_another_order() -> None:
    value = travelled()
    assert verified(value, *RUN) == plan()
    assert verified(dict(reversed(value.items())), *RUN) == plan()


def edit(*at: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for key in at[:-1]:
            value = value[key]
        value[at[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        edit("name", to="other"),
        edit("export", "site_id", to=[str(OTHER)]),
        edit("export", "site_id", to=[str(SITE), str(OTHER)]),
        edit("export", "connector_config", "storage_uri", to="gs://evil/"),
        edit("export", "connector_config", "conn_id", to="other_customers"),
        edit("export", "owner", to="evil@evil.example"),
        edit("window", "start", to="2020-03-16T00:00:00+00:00"),
        edit("run_token", to="another"),
        edit("config_hash", to="another"),
        edit("created_at", to="2026-03-17T00:05:00+00:00"),
        edit("more", to=1),
        edit(SIGNATURE, to=None),
        edit(SIGNATURE, to=""),
        edit(SIGNATURE, to=True),
        edit(SIGNATURE, to=["é"]),
        lambda value: value["export"].pop("owner"),
    ],
)
def test_an_edited_plan_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    value = travelled()
    change(value)
    with pytest.raises(ConfigError, match="does not have this run's signature"):
        verified(value, *RUN)


@pytest.mark.parametrize(
    "run", [("data_export__other", RUN[1]), (RUN[0], "manual__1"), (RUN[0] + RUN[1], ""), ("", RUN[0] + RUN[1])]
)
def test_a_plan_of_another_run_is_refused(run: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="does not have this run's signature"):
        verified(travelled(), *run)


def test_keys_are_rotated_without_stopping_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    old = travelled()
    monkeypatch.setenv(SIGNING_KEY, f"{SECOND}, {FIRST}")
    assert verified(old, *RUN) == plan()
    new = travelled()
    assert new[SIGNATURE] != old[SIGNATURE]
    monkeypatch.setenv(SIGNING_KEY, SECOND)
    assert verified(new, *RUN) == plan()
    with pytest.raises(ConfigError, match="the key that signed it is no longer in DATA_EXPORT_SIGNING_KEY"):
        verified(old, *RUN)


@pytest.mark.parametrize("value", [None, "", " , ", "short", f"{FIRST},short"])
def test_without_a_good_key_nothing_is_signed_nor_verified(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = travelled()
    monkeypatch.delenv(SIGNING_KEY)
    if value is not None:
        monkeypatch.setenv(SIGNING_KEY, value)
    for action in (lambda: sign(plan(), *RUN), lambda: verified(signed, *RUN)):
        with pytest.raises(ConfigError, match=r"DATA_EXPORT_SIGNING_KEY (is not set|has a key that is too short)"):
            action()


class TestBeforeSignatures:
    """What a version without them froze goes on where it says what the customer file says."""

    def test_it_goes_on(self) -> None:
        assert accept_unsigned(plan().to_dict(), "acme", export()) == plan()

    @pytest.mark.parametrize(
        ("name", "current"),
        [
            (None, None),
            ("other", export()),
            ("acme", export(storage_uri="gs://new/")),
            ("acme", export(conn_id="new")),
            ("acme", export(if_exists="keep")),
        ],
    )
    def test_what_the_file_does_not_say_is_cleared_from_prepare(self, name: str | None, current: AnyExport) -> None:
        with pytest.raises(ConfigError, match=r"is not signed, and differs .*: clear the run's `prepare` task"):
            accept_unsigned(plan().to_dict(), name, current)


PREFIX = f"{plan().staging_prefix}/{SITE}/try-1"
#: None of these is this run's and site's own folder.
FOREIGN = [
    "",
    "/",
    f"{PREFIX}/..",
    f"{PREFIX}/../try-2",
    f"{PREFIX}%2F..",
    f"{PREFIX}/",
    f"/{PREFIX}",
    f"{PREFIX}\n",
    PREFIX.replace("try-1", "try-x"),
    PREFIX.replace("try-1", "try-"),
    PREFIX.replace("try-1", "try-\u0661"),
    PREFIX.replace("acme", "other"),
    PREFIX.replace("acme", "ACME"),
    PREFIX.replace(str(SITE), str(OTHER)),
    PREFIX.replace("0123456789abcdef", "0123456789abcdee"),
    "gs://evil/x",
]


def transformed(prefix: str = PREFIX, **changes: Any) -> Transformed:
    keys = {"data_key": f"{prefix}/data.json", "images_key": f"{prefix}/images.parquet"}
    counts: dict[str, Any] = {"work_orders": 1, "images": 1, "bytes": 1, "sha256": "", "crc32c": ""}
    return Transformed.model_validate({"site_id": SITE} | keys | counts | changes)


def delivered(**changes: Any) -> SiteReceipt:
    uri = "gs://acme/data/" + plan().data_key(SITE)
    counts: dict[str, Any] = {"work_orders": 1, "quarantined": 0, "bytes": 1, "sha256": "", "outcome": "created"}
    return SiteReceipt.model_validate({"site_id": SITE, "uri": uri} | counts | changes)


def refused(action: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"acme: .* of this run's plan|acme: a result of site"):
        action()


class TestResults:
    def test_those_of_the_run_pass(self) -> None:
        made = plan()
        assert made.check_extracted(Extracted(site_id=SITE, prefix=PREFIX, tables={"input": 1}, bytes=1), SITE)
        assert made.check_transformed(transformed(quarantine_key=f"{PREFIX}/quarantine.json"), SITE)
        images = ImagesCopied(site_id=SITE, missing_list=f"{STAGING}{PREFIX}/missing-images.txt")
        assert made.check_images(images, SITE, STAGING)
        assert made.check_delivered([delivered(images=images)], "gs://acme/data/", STAGING)
        assert made.check_delivered([delivered(uri=f"{STAGING}{PREFIX}/data.json")], None, STAGING)
        revised = delivered(uri="gs://acme/data/" + made.data_key(SITE, 2), revision=2)
        assert made.check_delivered([revised], "gs://acme/data/", STAGING)

    @pytest.mark.parametrize("prefix", FOREIGN)
    def test_other_places_of_staging_are_never_read(self, prefix: str) -> None:
        made = plan()
        refused(lambda: made.check_extracted(Extracted(site_id=SITE, prefix=prefix, tables={}, bytes=1), SITE))
        refused(lambda: made.check_transformed(transformed(prefix), SITE))
        for key, name in (("images_key", "images.parquet"), ("quarantine_key", "quarantine.json")):
            refused(lambda key=key, name=name: made.check_transformed(transformed(**{key: f"{prefix}/{name}"}), SITE))
        images = ImagesCopied(site_id=SITE, missing_list=f"{STAGING}{prefix}/missing-images.txt")
        refused(lambda: made.check_images(images, SITE, STAGING))
        refused(lambda: made.check_delivered([delivered(images=images)], "gs://acme/data/", STAGING))
        refused(lambda: made.check_delivered([delivered(uri=f"{STAGING}{prefix}/data.json")], None, STAGING))

    @pytest.mark.parametrize("table", ["../x", "a/b", "", "input.parquet", "input\n"])
    def test_tables_are_names(self, table: str) -> None:
        extracted = Extracted(site_id=SITE, prefix=PREFIX, tables={table: 1}, bytes=1)
        refused(lambda: plan().check_extracted(extracted, SITE))

    def test_sites_are_the_plan_s_and_each_its_own(self) -> None:
        made = plan()
        refused(lambda: made.check_site(OTHER))
        refused(lambda: made.check_transformed(transformed(site_id=OTHER), SITE))
        refused(lambda: made.check_transformed(transformed(site_id=OTHER), OTHER))
        refused(lambda: made.check_delivered([delivered(site_id=OTHER)], "gs://acme/data/", STAGING))
        refused(lambda: made.check_delivered([delivered(), delivered()], "gs://acme/data/", STAGING))

    @pytest.mark.parametrize("uri", ["gs://evil/x.json", "gs://acme/data/x.json", "", "gs://acme/data/../x"])
    def test_a_receipt_names_the_run_s_own_file(self, uri: str) -> None:
        refused(lambda: plan().check_delivered([delivered(uri=uri)], "gs://acme/data/", STAGING))
        refused(lambda: plan().check_delivered([delivered(uri=uri)], None, STAGING))
