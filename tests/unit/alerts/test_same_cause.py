"""Which failures are one cause."""

import pytest

from data_export.alerts.alert import cause_of

SITES = ("433a60f6-9756-473e-b1e9-9e89e24bb787", "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D")


STAMP, DATA = "2025-03-16_00:00:00", "2025-03-16_00:00:00_2025-03-17_00:00:00"
OTHER_DATA = "2025-12-31_23:00:00_2026-01-01_23:00:00"
TARGET = "gs://exports-1/acme/433a60f6-9756-473e-b1e9-9e89e24bb787"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"site {SITES[0]}: gone", f"site {SITES[1]}: gone"),
        (f"file {STAMP} is refused", "file 2025-12-31_23:00:00 is refused"),
        ("acme: window [2025-03-16T00:00:00+00:00, x) is", "acme: window [2026-03-17T22:00:00+00:00, x) is"),
        ("begins before 2025-03-16: begin later", "begins before 2020-01-01: begin later"),
        ("now 2025-03-16 10:11:12 UTC", "now 2025-03-17 01:02:03 UTC"),
        ("3 of 1204 images", "77 of 9 images"),
        ("1,204 bytes where 9 were announced", "7 bytes where 12,345,678 were announced"),
        ("is 401.5 days long", "is 500 days long"),
        ("but S3 holds 512", "but S3 holds 9"),
        ("sha256 0a1b2c3d4e5f60718293 is not 99 bytes", "sha256 ffffffffffff00000000 is not 12 bytes"),
        (
            "holds Digests(size=5, sha256=None, md5='1B2M2Y8AsgTpgAmY7PhCfg==', crc32c='AAAAAA==')",
            "holds Digests(size=17, sha256=None, md5='CY9rzUYh03PK3k6DJie09g==', crc32c='Dq+dCQ==')",
        ),
        (f"{TARGET}/data/default/{DATA}.json: x", f"{TARGET}/data/default/{OTHER_DATA}.r2.json: x"),
        (f"{TARGET}/inputs/{SITES[0]}.jpg: x", f"{TARGET}/inputs/{SITES[1]}.png: x"),
        (f"{TARGET}/inputs/{SITES[0]}: x", f"{TARGET}/inputs/{SITES[1]}.tar.gz: x"),
        (
            f"runs/acme/{DATA}/0123456789abcdef0123456789abcdef/{SITES[0]}/try-1/data.json is gone",
            f"runs/acme/{OTHER_DATA}/fedcba9876543210fedcba9876543210/{SITES[1]}/try-3/data.json is gone",
        ),
        (
            ".data-export-0a1b2c3d4e5f6071-0123456789ab.tmp: full",
            ".data-export-1a1b2c3d4e5f6071-ba9876543210.tmp: full",
        ),
        ("AccessDenied (Request ID: 6X4MVSVEN3ZWKWQA)", "AccessDenied (Request ID: K3WQ9Z0TBD1AAAQB)"),
    ],
)
def test_sites_dates_counts_and_digests_do_not_matter(one: str, other: str) -> None:
    assert cause_of("failure", "AccessDenied", one) == cause_of("failure", "AccessDenied", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gs://exports-1/x: not granted", "gs://exports-2/x: not granted"),
        ("gs://exports-2025-03-16/x: no", "gs://exports-2025-03-17/x: no"),
        ("gs://b/2024/x: not granted", "gs://b/2025/x: not granted"),
        ("there is no bucket 2024: create it", "there is no bucket 2025: create it"),
        ("10.0.0.1:22: refused", "10.0.0.2:22: refused"),
        ("10.0.0.1:22: refused", "10.0.0.1:2222: refused"),
        ("10.0.0.1 is refused", "10.0.0.2 is refused"),
        ("[fd00::1]:22: refused", "[fd00::2]:22: refused"),
        ("db1.example: down", "db2.example: down"),
        (
            'connection to server at "10.0.0.1", port 5432 failed',
            'connection to server at "10.0.0.1", port 5433 failed',
        ),
        ("user 'sftp1' is refused", "user 'sftp2' is refused"),
        ("user '2024' is refused", "user '2025' is refused"),
        ("column note_1 is missing", "column note_2 is missing"),
        ("relation is gone (SQLSTATE 42P01)", "relation is gone (SQLSTATE 42703)"),
        ("the mail server refuses the login (535 5.7.8)", "the mail server refuses the login (534 5.7.9)"),
        ("Cloud Storage answers 503 (x)", "Cloud Storage answers 429 (x)"),
        ("include/sql/input.sql, line 7 is wrong", "include/sql/input.sql, line 8 is wrong"),
        ("arn:aws:iam::123456789012:user/x lacks", "arn:aws:iam::123456789013:user/x lacks"),
    ],
)
def test_names_addresses_and_codes_matter_with_their_digits(one: str, other: str) -> None:
    """A second fault of the day that looks like the first but for a digit must not be taken for it."""
    assert cause_of("failure", "AccessDenied", one) != cause_of("failure", "AccessDenied", other)


def test_what_is_no_text_has_a_cause_too() -> None:
    assert cause_of("failure", "E", "answers 'caf\udce9'") != cause_of("failure", "E", "answers 'caf'")


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
