"""Where an image lies: the template of platform.yaml taken apart, never left."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_export.errors import ConfigError
from data_export.images import source_key_of, split_images_uri

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
INPUT = "0b4c4d38-7d31-4d6c-8f0e-0f8f3bb6a1d2"


@pytest.mark.parametrize(
    ("template", "root", "key", "address"),
    [
        ("gs://b/{site_id}/{input_id}{file_extension}", "gs://b/", f"{SITE}/{INPUT}.png", f"gs://b/{SITE}/{INPUT}.png"),
        (
            "s3://b/a/b/site-{site_id}/{input_id}",
            "s3://b/a/b/",
            f"site-{SITE}/{INPUT}",
            f"s3://b/a/b/site-{SITE}/{INPUT}",
        ),
        ("s3://b/x{input_id}{file_extension}", "s3://b/", f"x{INPUT}.png", f"s3://b/x{INPUT}.png"),
        ("file:///data/{input_id}/{input_id}", "file:///data/", f"{INPUT}/{INPUT}", f"file:///data/{INPUT}/{INPUT}"),
    ],
)
def test_root_and_key_make_the_address(template, root, key, address):
    found, key_template = split_images_uri(template)
    assert found == root
    assert source_key_of(key_template, SITE)(INPUT, ".png") == key
    assert found + key == address


def test_no_extension_is_an_empty_one():
    assert source_key_of("{input_id}{file_extension}", SITE)(INPUT, None) == INPUT


@pytest.mark.parametrize("template", ["gs://images-{site_id}/{input_id}", "s3://{input_id}"])
def test_a_placeholder_in_the_bucket_is_refused(template):
    with pytest.raises(ConfigError, match="placeholder in the bucket"):
        split_images_uri(template)


@given(st.text(max_size=12))
def test_no_extension_leaves_the_folder(extension):
    try:
        key = source_key_of("{site_id}/{input_id}{file_extension}", SITE)(INPUT, extension)
    except ValueError:
        return
    assert key.startswith(f"{SITE}/{INPUT}")
    assert key.count("/") == 1
    assert ".." not in key
    assert key.isascii()
    assert key.isprintable()
