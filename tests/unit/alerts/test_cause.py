"""Which failures are one cause."""

import pytest

from data_export.alerts.cause import cause_of

SITES = ("433a60f6-9756-473e-b1e9-9e89e24bb787", "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"site {SITES[0]}: gone", f"site {SITES[1]}: gone"),
        ("file 2025-03-16_00:00:00 is refused", "file 2025-12-31_23:00:00 is refused"),
        ("3 of 1204 images", "77 of 9 images"),
        ("sha256 0a1b2c3d4e5f60718293 is not 99", "sha256 ffffffffffff00000000 is not 12"),
    ],
)
def test_sites_dates_counts_and_digests_do_not_matter(one: str, other: str) -> None:
    assert cause_of("failure", "AccessDenied", one) == cause_of("failure", "AccessDenied", other)


@pytest.mark.parametrize(
    "other",
    [
        ("failure", "AccessDenied", "bucket b is refused"),
        ("failure", "TargetRefused", "bucket a is refused"),
        ("late", "AccessDenied", "bucket a is refused"),
    ],
)
def test_words_class_and_occasion_matter(other: tuple[str, str, str]) -> None:
    assert cause_of(*other) != cause_of("failure", "AccessDenied", "bucket a is refused")


def test_a_key_can_be_part_of_an_object_name() -> None:
    key = cause_of("failure", "../..", "/\n")
    assert len(key) == 16
    assert key.isalnum()
