"""Addresses and paths: what a customer writes cannot lead out of the customer's folder, nor hide what it is."""

import base64
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from data_export.config.fields import Host, no_placeholder, path_inside, quoted
from data_export.delivery.registry import store_uri
from data_export.delivery.sftp.host_keys import host_keys

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + "A" * 44
OTHER = "ecdsa-sha2-nistp256 " + base64.b64encode(b"\0\0\0\x13ecdsa-sha2-nistp256\0\0\0\x50" + b"k" * 80).decode()
TRICKS = {
    "parent": "a/../../b",
    "parent at the end": "a/..",
    "parent at the beginning": "../a",
    "here": "a/./b",
    "empty part": "a//b",
    "two slashes first": "//a",
    "two slashes last": "a//",
    "dots that Windows cuts off": "a/.. /b",
    "three dots": "a/.../b",
    "spaces only": "a/  /b",
    "full-width dots": "a/\uff0e\uff0e/b",
    "dot leaders": "a/\u2025/b",
    "full-width slash": "a/\uff0e\uff0e\uff0fb",
    "full-width backslash": "a\uff3c..\uff3cb",
    "backslash": "a\\..\\b",
    "NUL": "a\x00b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "line separator": "a\u2028b",
    "right-to-left override": "a\u202eb",
    "isolate": "a\u2067b",
    "left-to-right mark": "a\u200eb",
    "zero width": "a\u200bb",
    "byte order mark": "\ufeffa",
    "no-break space": "a\u00a0b",
    "half a character": "a\ud800b",
    "long folder": "a" * 256,
    "long folder of wide characters": "é" * 128,
    "long path": "/".join(["a" * 100] * 9),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_passes_as_a_path_or_as_part_of_an_address(trick: str) -> None:
    for check, value in ((path_inside, TRICKS[trick]), (store_uri, "gs://bucket/" + TRICKS[trick])):
        if trick == "two slashes first" and check is path_inside:
            value = "/" + TRICKS[trick]
        with pytest.raises(ValueError) as caught:
            check(value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "path", ["/", "a", "/a/b", "a/b/", "/exports/acme eu/é", ".hidden", "..a", "a.b", "100%", "日本"]
)
def test_plain_paths_stay_as_they_are(path: str) -> None:
    assert path_inside(path) == path


@given(st.text(max_size=30))
def test_whatever_passes_stays_inside(path: str) -> None:
    try:
        path_inside(path)
    except ValueError:
        return
    for form in (path, unicodedata.normalize("NFKC", path)):
        parts = form.strip("/").split("/")
        assert parts == [""] or not {"", ".", ".."} & {part.strip() for part in parts}
        assert "\\" not in form
    assert path.isprintable()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("gs://my-bucket", "gs://my-bucket/"),
        ("gs://my-bucket/", "gs://my-bucket/"),
        ("s3://my.bucket_1/a/b", "s3://my.bucket_1/a/b/"),
        ("file:///srv/exports", "file:///srv/exports/"),
        ("gs://bucket/a 100%/", "gs://bucket/a 100%/"),
    ],
)
def test_an_address_ends_in_a_slash(value: str, stored: str) -> None:
    assert store_uri(value) == stored
    assert store_uri(stored) == stored


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://bucket/x", "does not begin with gs://"),
        ("GS://bucket/x", "does not begin with gs://"),
        ("gs:/bucket/x", "does not begin with gs://"),
        ("bucket/x", "does not begin with gs://"),
        ("gs://", "is not a bucket name"),
        ("gs:///x", "is not a bucket name"),
        ("gs://Bucket/x", "is not a bucket name"),
        ("gs://b..b/x", "is not a bucket name"),
        ("gs://bücket/x", "is not a bucket name"),
        ("gs://b/x", "is not a bucket name"),
        ("gs://../x", "is not a bucket name"),
        ("gs://[bucket/x", "is not a bucket name"),
        ("gs://bucket:80/x", "remove user, port"),
        ("gs://bucket/x?y", "remove user, port"),
        ("gs://bucket/x#y", "remove user, port"),
        ("gs://bucket/%2e%2e/x", "is percent-encoded"),
        ("gs://bucket/a%2Fb", "is percent-encoded"),
        ("file://", "names no absolute folder"),
        ("file://host/x", "names no absolute folder"),
    ],
)
def test_an_address_has_scheme_bucket_and_folder_only(value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        store_uri(value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    for value in ("gs://user:hunter2@bucket/x", "https://user:hunter2@bucket/x", "gs://hunter2@bucket"):
        with pytest.raises(ValueError) as caught:
            store_uri(value)
        assert "hunter2" not in str(caught.value)


def test_a_shown_value_is_short_and_visible() -> None:
    assert quoted("a\nb\u202e") == r"'a\nb\u202e'"
    assert len(quoted("x" * 5000)) == 82


@pytest.mark.parametrize("value", [KEY, f"{KEY} root@host", f"  {KEY}\n", KEY.replace(" ", "   ")])
def test_a_host_key_is_stored_without_its_comment(value: str) -> None:
    assert host_keys(value) == KEY


@pytest.mark.parametrize(
    "value",
    [
        [KEY, OTHER],
        (KEY, OTHER),
        f"{KEY}\n{OTHER}",
        f"# node a\n{KEY} root@a\n\n# node b\n{OTHER} root@b\n",
        [f"{KEY} a", OTHER, KEY],
        [f"{KEY}\n{OTHER}"],
        f"\r\n# node a\r\n{KEY} root@a\r\n\r\n  # node b\r\n{OTHER}\r\n",
        f"{KEY}\r{OTHER}",
        ["", f"\t{KEY}\troot@a", "# node b", OTHER],
    ],
)
def test_of_several_host_keys_none_is_dropped(value: object) -> None:
    assert host_keys(value) == f"{KEY}\n{OTHER}"
    assert host_keys(host_keys(value)) == host_keys(value)


@pytest.mark.parametrize("folder", ["{date}", "a/{site_id}/b", "%Y/%m/%d", "day=%Y-%m-%d", "$(date)", "{{ ds }}"])
def test_a_placeholder_in_a_target_is_not_taken_for_a_folder(folder: str) -> None:
    for scheme in ("gs://bucket/", "s3://bucket/"):
        with pytest.raises(ValueError, match="which nothing fills in"):
            store_uri(scheme + folder)
    with pytest.raises(ValueError, match="which nothing fills in"):
        no_placeholder(f"/exports/{folder}")


@pytest.mark.parametrize("folder", ["100% done", "a%", "$HOME", "share$", "a{", "100%", "%%Y"])
def test_what_only_looks_like_a_placeholder_is_a_folder(folder: str) -> None:
    assert no_placeholder(folder) == folder


@pytest.mark.parametrize("name", ["sftp_1.customer.example", "_sftp.example", "sftp.example.", "10.0.0.1", "fe80::1"])
def test_a_host_that_servers_have(name: str) -> None:
    assert TypeAdapter(Host).validate_python(name) == name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("SHA256:" + "a" * 43, "is a fingerprint"),
        ("host.example " + KEY, "without a host name before it"),
        ("ssh-rsa " + KEY.split()[1], "is not a public host key"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "is not a public host key"),
        (KEY[:-1] + "!", "is not a public host key"),
        ("ssh-ed25519", "is not a public host key"),
        ("ssh-ed25519 é", "is not a public host key"),
        ("", "is not a public host key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "is not a public host key"),
        (f"{KEY} {KEY}", "more than one key on a line"),
        (f"{KEY}, {KEY}", "is not a public host key"),
        (f"{KEY} comment {KEY.split()[1]}", "more than one key on a line"),
        (f"{KEY} | {KEY}", "more than one key on a line"),
        (f"[host.example]:2222 {KEY}", "without a host name before it"),
        (f"@cert-authority *.example {KEY}", "@cert-authority, which is not supported"),
        (f"@revoked * {KEY}", "which is not supported"),
        (f"{KEY}\n@revoked * {KEY}", "which is not supported"),
        (KEY[:-4], "is cut, or broken in two"),
        (f"{KEY[:-8]} {KEY[-8:]}", "is cut, or broken in two"),
        (f"|1|c2FsdA==|aGFzaA== {KEY}", "without a host name before it"),
        (f"{KEY}\n|1|c2FsdA==|aGFzaA== {OTHER}", "without a host name before it"),
        (f"{KEY}\\n{OTHER}", "is not a public host key"),
        (f"{KEY};{OTHER}", "is not a public host key"),
        ("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t", "is not a public host"),
        ("# only a comment", "is not a public host key"),
        ([], "is not a public host key"),
        ([KEY, 7], "a list of texts"),
        ({"a": KEY}, "a list of texts"),
        (7, "a list of texts"),
        ([KEY, "SHA256:" + "a" * 43], "is a fingerprint"),
    ],
)
def test_what_is_no_host_key_is_refused_with_what_it_is(value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        host_keys(value)
