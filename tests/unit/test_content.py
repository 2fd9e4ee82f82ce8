"""What a sender says of the bytes it sends."""

from dataclasses import replace
from pathlib import Path

import pytest

from data_export.content import Content, Digests, Hasher

DATA = b"some bytes"


def known_of(data: bytes) -> Digests:
    hasher = Hasher(md5=True)
    hasher.update(data)
    return hasher.digests()


@pytest.mark.parametrize("md5", [False, True])
@pytest.mark.parametrize("sha256", [False, True])
def test_digests_asked_for_and_those_announced(md5: bool, sha256: bool) -> None:
    known = known_of(DATA)
    content = Content.of_bytes(DATA, md5=md5, sha256=sha256)
    assert content.digests_of(DATA) == content.digests
    assert content.digests_of(DATA, md5=True, sha256=True) == known


def test_of_the_records_only_what_was_announced_is_known() -> None:
    content = Content(DATA, replace(known_of(DATA), records_sha256="0" * 64))
    assert content.digests_of(DATA).records_sha256 == "0" * 64


def test_other_bytes_than_were_announced_are_seen(tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(DATA)
    of_file, in_memory = Content.of_file(path), Content.of_bytes(DATA)
    for content in (of_file, in_memory, Content(DATA, Digests(len(DATA), md5=known_of(DATA).md5))):
        assert content.digests.matches(content.digests_of(DATA[::-1])) is False


def test_nothing_is_believed_of_a_file() -> None:
    other = DATA[::-1]
    assert Content(Path("of no matter"), known_of(DATA)).digests_of(other) == known_of(other)
