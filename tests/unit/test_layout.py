"""Names at the target, as the service's public page spells them, and names in staging."""

from datetime import UTC, datetime
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_export import layout
from data_export.window import ExportWindow

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
INPUT = UUID("67dd3441-bdee-4deb-9a48-f7663637ed78")
DAY = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))


def test_names_at_the_target_are_those_of_the_public_page() -> None:
    stamp = "2025-03-16_00:00:00_2025-03-17_00:00:00"
    assert layout.data_key(SITE, "work-orders-states", DAY) == f"{SITE}/data/work-orders-states/{stamp}.json"
    assert layout.image_key(SITE, INPUT, ".png") == f"{SITE}/inputs/{INPUT}.png"
    assert layout.image_key(SITE, INPUT, None) == f"{SITE}/inputs/{INPUT}"
    assert layout.receipt_key(SITE, "work-orders-states", DAY) == f"{SITE}/receipts/work-orders-states/{stamp}.json"


def test_a_revision_lies_beside_the_first() -> None:
    first, second = (layout.data_key(SITE, "work-orders-timeline", DAY, revision) for revision in (1, 2))
    assert second == first.removesuffix(".json") + ".r2.json"


@pytest.mark.parametrize("extension", [".png", ".jpeg", ".tar.gz", "png", "", ".JPG", "_x", ".a-b_c", "." + "x" * 16])
def test_plain_extensions_are_kept(extension: str) -> None:
    assert layout.image_key(SITE, INPUT, extension).endswith(f"{INPUT}{extension}")


@pytest.mark.parametrize(
    "extension",
    [
        "/../../x",
        "/x",
        "\\x",
        "..",
        ".",
        ".png/",
        ".p\x00ng",
        ".png\n",
        "\u202egnp.",
        ".pñg",
        "\uff0epng",
        " .png",
        ".png ",
        ".%2e",
        "?x",
        "#x",
        ".a.b.c.d",
        "." + "x" * 60,
    ],
)
def test_an_extension_that_could_leave_the_folder_is_refused(extension: str) -> None:
    assert not layout.is_safe_extension(extension)
    with pytest.raises(ValueError, match="is not a plain extension") as caught:
        layout.image_key(SITE, INPUT, extension)
    assert str(caught.value).isprintable()


@given(st.text(max_size=20))
def test_no_extension_changes_the_folder(extension: str) -> None:
    if layout.is_safe_extension(extension):
        path = PurePosixPath(layout.image_key(SITE, INPUT, extension))
        assert path.parent == PurePosixPath(f"{SITE}/inputs")
        assert path.name == f"{INPUT}{extension}"


def test_two_runs_and_two_tries_never_meet_in_staging() -> None:
    runs = [layout.staging_run_prefix("acme", DAY, token) for token in ("t1", "t2")]
    tries = {layout.staging_site_prefix(run, SITE, attempt) for run in runs for attempt in (1, 2)}
    assert len(tries) == 4
    assert all(name.startswith("runs/acme/") for name in tries)
    assert not any(name.startswith("runs/acm/") for name in tries)
    assert layout.link_key("acme", "token", "x.json") == "links/acme/token/x.json"
