"""A key for a customer's server: made once, for its owner alone, and its public half is all that is ever given."""

import errno
import os
import stat
from itertools import count
from pathlib import Path

import asyncssh
import pytest

from data_export.errors import ConfigError
from data_export.handover.key_pair import make_key_pair, public_half


def test_a_key_is_ed25519_and_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = make_key_pair(tmp_path / "keys", "acme")
    finally:
        os.umask(before)
    private = asyncssh.read_private_key(made.path)
    assert private.get_algorithm() == "ssh-ed25519"
    assert made.public == f"{private.export_public_key().decode().strip()}"
    assert made.public.endswith(" data-export-acme")
    assert (tmp_path / "keys" / "acme.pub").read_text() == f"{made.public}\n"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys" / "acme.pub").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("there", ["acme", "acme.pub"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_nothing_is_replaced(tmp_path: Path, there: str, kind: str) -> None:
    place = tmp_path / there
    place.write_text("kept") if kind == "file" else place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{there} is there already, and a key is never replaced"):
        make_key_pair(tmp_path, "acme")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    if kind == "file":
        assert place.read_text() == "kept"


@pytest.mark.parametrize("name", ["", "../acme", "acme/x", "-acme", "Acme", "acme.pub", "a" * 64, "acme\n", "acme_x"])
def test_a_name_is_that_of_an_export(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not the name of a key, which must be 1-63 characters"):
        make_key_pair(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_in_which_others_could_exchange_keys_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others, who could exchange keys: `chmod go-w"):
        make_key_pair(tmp_path, "acme")
    tmp_path.chmod(0o750)  # workers of the group may read
    make_key_pair(tmp_path, "acme")


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"no key can be written .*: name a folder that you may write to"):
        make_key_pair(tmp_path / "file", "acme")


def test_the_public_half_is_found_beside_the_key_or_in_a_folder(tmp_path: Path) -> None:
    keys, customers = tmp_path / "keys", tmp_path / "customers"
    customers.mkdir()
    made = make_key_pair(keys, "acme")
    given = f"{' '.join(made.public.split()[:2])} data-export"
    assert public_half(str(made.path), ()) == given
    assert public_half("/opt/airflow/keys/acme", ()) is None
    assert public_half("/opt/airflow/keys/acme", (customers, keys)) == given


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n-----END OPENSSH PRIVATE KEY-----\n",
        "ssh-ed25519 CANARY",
        "ssh-ed25519 " + "A" * 44 + "\nCANARY",
        "CANARY",
        "\udcff",
        "",
    ],
)
def test_a_file_that_holds_something_else_is_never_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "acme.pub").write_text(text, errors="surrogateescape")
    assert public_half(str(tmp_path / "acme"), ()) is None


def test_a_comment_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "acme.pub").write_text(f"ssh-ed25519 {'A' * 68} root@internal.platform.example\n")
    assert public_half(str(tmp_path / "acme"), ()) == f"ssh-ed25519 {'A' * 68} data-export"


@pytest.mark.parametrize("full", [1, 2], ids=["private", "public"])
def test_a_full_disk_leaves_no_half_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
    """It would be taken for a key that is there, and a key is never replaced."""
    times, sync = count(1), os.fsync

    def fsync(descriptor: int) -> None:
        if next(times) == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ConfigError, match="No space left on device"):
        make_key_pair(tmp_path, "acme")
    assert make_key_pair(tmp_path, "acme").public
