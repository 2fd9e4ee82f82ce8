"""Sites by name: for people, with the same files as without."""

from uuid import UUID

import pytest

from data_export.config.models import EXPORT
from data_export.config.sites import keys_of_sites, site_label
from data_export.config.validate import load_values
from data_export.errors import ConfigError
from data_export.review import _keys
from tests.customers import SITE, export

OTHER = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
NAMED = {"Lille Nord": SITE, "Orléans (A10)": OTHER}


def test_a_name_is_shown_and_the_uuid_where_there_is_none() -> None:
    named, unnamed = export(site_id=NAMED), export(site_id=[SITE])
    assert [named.site_label(site) for site in named.site_id] == list(NAMED)
    assert unnamed.site_label(UUID(SITE)) == unnamed.site_label(SITE) == SITE
    assert named.sites == export(site_id=[OTHER, SITE]).sites


def test_a_plan_on_its_way_between_tasks_keeps_names_and_their_order() -> None:
    dumped = export(site_id=NAMED).model_dump(mode="json")
    assert dumped["site_id"] == NAMED
    assert site_label(dumped["site_id"], OTHER) == "Orléans (A10)"
    again = EXPORT.validate_python(dumped)
    assert again == export(site_id=NAMED)
    assert again.config_hash() == export(site_id=NAMED).config_hash()
    assert keys_of_sites(again.site_id) == list(NAMED)


@pytest.mark.parametrize("unknown", [None, [], [SITE], "text", {"Lille": OTHER}, 7])
def test_whatever_is_no_mapping_with_the_site_knows_no_name(unknown: object) -> None:
    assert site_label(unknown, SITE) == SITE


def test_without_names_nothing_of_an_export_changes() -> None:
    assert export().model_dump(mode="json")["site_id"] == [SITE]
    assert export().config_hash() == "7f8bb509bbc31c3e"


@pytest.mark.parametrize(
    ("sites", "problem"),
    [
        ({"Lille": "433a"}, "site_id.Lille: '433a' is not a uuid"),
        ({"Lille": None}, "site_id.Lille: is empty"),
        ({"Lille": [SITE]}, "site_id.Lille: the value is not a uuid"),
        ({"a": "x", "b": "y"}, "site_id.b: 'y' is not a uuid"),
        ({SITE: "Lille"}, f"has the uuid {SITE} in the place of a name: write Lille: {SITE}"),
        ({SITE: SITE}, "write a name for people"),
        ({"Lille": SITE, "Roubaix": SITE.upper()}, f"names site {SITE} twice"),
        ({" Lille": SITE}, "without spaces at either end"),
        ({"": SITE}, "write 1 to 80 characters"),
        ({"a" * 81: SITE}, "write 1 to 80 characters"),
        ({"Li\u202elle": SITE}, "invisible character U+202E"),
        ({"a\nb": SITE}, "invisible character U+000A"),
        ({}, "is an empty list: name at least one"),
        ({str(number): SITE for number in range(1025)}, "has more than 1024 items"),
        ([SITE] * 1025, "has more than 1024 items"),
    ],
    ids=str,
)
def test_a_wrong_name_or_uuid_is_named_with_its_fix(sites: object, problem: str) -> None:
    values = export().model_dump(mode="json", exclude_unset=True)
    with pytest.raises(ConfigError, match=r"config of acme: site_id") as refused:
        load_values("acme", values | {"site_id": sites})
    assert problem in str(refused.value)


def test_a_review_shows_a_renamed_site_once_and_no_order() -> None:
    renamed = {"Lille": SITE, "Orléans (A10)": OTHER}
    (change,) = _keys(export(site_id=NAMED), export(site_id=renamed))
    assert change.key == "site_id"
    turned = dict(reversed(NAMED.items()))
    assert _keys(export(site_id=NAMED), export(site_id=turned)) == ()
