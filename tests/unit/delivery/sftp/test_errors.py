"""What the words of an SFTP server are taken for."""

import socket
import time

import asyncssh
import pytest

from data_export.delivery.sftp.errors import TooManyAtOnce, is_too_many, translate, unavailable
from data_export.errors import AccessDenied, ObjectRefused, TargetFull, TargetRefused, TargetUnavailable


@pytest.mark.parametrize("said", ["transfer quota exceeded", "user quota limit exceeded for this transfer"])
def test_a_full_quota_is_no_limit_of_open_files(said: str) -> None:
    error = asyncssh.SFTPFailure(said)
    assert not is_too_many(error)
    assert isinstance(translate(error, "sftp://host/file", "user"), TargetFull)


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("No more file handles", TooManyAtOnce),
        ("unable to allocate handle", TooManyAtOnce),
        ("Only 3 uploads at a time are allowed", TooManyAtOnce),
        ("There is not enough space on the disk", TargetFull),
        ("Quota exceeded", TargetFull),
        ("account over quota", TargetFull),
        ("storage limit reached", TargetFull),
        ("maximum file size exceeded", ObjectRefused),
        ("Infected file rejected", ObjectRefused),
        ("file extension not allowed", ObjectRefused),
        ("Server busy, try again later", TargetUnavailable),
        ("it is being used by another process", TargetUnavailable),
    ],
)
@pytest.mark.parametrize("code", [asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied])
def test_words_count_whatever_the_code(said: str, becomes: type[Exception], code: type[asyncssh.SFTPError]) -> None:
    assert type(translate(code(said), "sftp://host/file", "user")) is becomes


@pytest.mark.parametrize(
    "path",
    [
        "/my quota dir/x.json",
        "/a busy folder/x",
        "uploads/quota/2026.jsonl",
        "uploads/quota",
        "in\\virus\\x",
        "\\\\srv\\quota\\x",
        "~/quota/x",
        '"/quota/x"',
        "/data/quota/s/x.json",
        "/srv/virus-lab/x",
        "/srv/busy/file",
        "/max/transfer/limit",
        "C:\\quota\\x.json",
        "C:\\my quota\\x.json",
    ],
)
def test_what_a_folder_is_called_says_nothing(path: str) -> None:
    """Servers in Go repeat the path of what they could not open."""
    said = f"open {path}: permission denied"
    assert type(translate(asyncssh.SFTPPermissionDenied(said), "sftp://host/file", "user")) is AccessDenied
    assert not is_too_many(asyncssh.SFTPFailure(f"open {path}: failure"))


@pytest.mark.parametrize("said", ["Disk/quota exceeded", "/data/x: quota exceeded on /data", "write /x: no space left"])
def test_what_is_no_path_is_heard(said: str) -> None:
    assert type(translate(asyncssh.SFTPFailure(said), "sftp://host/file", "user")) is TargetFull


def test_a_limit_after_a_path_is_heard() -> None:
    assert is_too_many(asyncssh.SFTPFailure("/in/f too many open files/handles"))


@pytest.mark.parametrize("said", ["Too many levels of symbolic links", "too many symlinks", "symlink loop"])
def test_a_link_to_itself_is_no_limit_of_open_files(said: str) -> None:
    error = asyncssh.SFTPFailure(said)
    assert not is_too_many(error)
    assert type(translate(error, "sftp://host/file", "user")) is TargetRefused


@pytest.mark.parametrize("word", ["file size ", "no handl", "limit ", "max open ", "transfer ", "session maximu "])
def test_endless_words_take_no_time(word: str) -> None:
    began = time.thread_time()
    translate(asyncssh.SFTPFailure(word * 40_000), "sftp://host/file", "user")
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 22)"), "Connection refused"),
        (OSError(113, "Connect call failed ('fe80::1', 22, 0, 0)"), "No route to host"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 22, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 22)"
            ),
            "Connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError("no words of the system"), "no words of the system"),
    ],
)
def test_the_systems_errors_are_its_words_without_the_address_again(error: OSError, said: str) -> None:
    assert str(unavailable("h:22", error)) == f"h:22: {said}: is it up, and reachable from the workers?"
