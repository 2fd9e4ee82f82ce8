"""What the words of an SFTP server are taken for."""

import time

import asyncssh
import pytest

from data_export.delivery.sftp.errors import is_too_many, translate
from data_export.errors import TargetFull


@pytest.mark.parametrize("said", ["transfer quota exceeded", "user quota limit exceeded for this transfer"])
def test_a_full_quota_is_no_limit_of_open_files(said: str) -> None:
    error = asyncssh.SFTPFailure(said)
    assert not is_too_many(error)
    assert isinstance(translate(error, "sftp://host/file", "user"), TargetFull)


@pytest.mark.parametrize("word", ["limit ", "max open ", "transfer ", "session maximu "])
def test_endless_words_take_no_time(word: str) -> None:
    began = time.monotonic()
    is_too_many(asyncssh.SFTPFailure(word * 40_000))
    assert time.monotonic() - began < 1
