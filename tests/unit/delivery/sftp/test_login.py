"""What a login costs: a key with a passphrase takes a second of CPU to open."""

from pathlib import Path

import asyncssh
import pytest

from data_export.delivery.sftp.login import SftpLogin, _client_keys
from demo.servers.sftp import FEW_ROUNDS


def test_a_key_is_opened_once_for_all_connections_and_again_when_its_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, imports = [], asyncssh.import_private_key
    monkeypatch.setattr(asyncssh, "import_private_key", lambda *given: (opened.append(given), imports(*given))[1])
    path = tmp_path / "key"
    login = SftpLogin("host", "user", "a host key", private_key_path=str(path), passphrase="a phrase")
    for _ in range(2):
        key = asyncssh.generate_private_key("ssh-ed25519")
        path.write_bytes(key.export_private_key("openssh", "a phrase", **FEW_ROUNDS))
        assert [found.public_data for _ in range(3) for found in _client_keys(login)] == [key.public_data] * 3
    assert len(opened) == 2
