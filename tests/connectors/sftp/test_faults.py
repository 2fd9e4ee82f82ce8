"""What an SFTP server can do wrong, done to the connector."""

import asyncio
import errno
import os
from pathlib import Path

import asyncssh
import pytest

from data_export.delivery.sftp import transfer
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from data_export.delivery.sftp.host_keys import fetch_host_keys
from data_export.delivery.sftp.leftovers import TEMPORARY_PREFIX
from data_export.errors import (
    AccessDenied,
    ConfigError,
    HostKeyMismatch,
    ObjectExists,
    OverwriteRefused,
    PermanentError,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
    VerificationFailed,
)
from demo.servers.sftp import FEW_ROUNDS, SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.logins import login_of
from tests.connectors.sftp.unruly import BIG, OLD, SMALL, Unruly, left_over, put_old, target
from tests.connectors.tcp_proxy import TcpProxy


class TestLogin:
    async def refusal(self, server: SftpServer, **changes: object) -> PermanentError:
        with pytest.raises(PermanentError) as refused:
            async with SftpDestination(login_of(server, **changes), "/"):
                pass
        assert "wr0ng-phrase" not in str(refused.value)
        assert server.passphrase not in str(refused.value)
        return refused.value

    async def test_another_key(self, server: SftpServer) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        error = await self.refusal(server, private_key=other)
        assert isinstance(error, AccessDenied)
        assert "refuses the key of user 'data-export': ask its administrator" in str(error)

    async def test_another_user(self, server: SftpServer) -> None:
        error = await self.refusal(server, username="root")
        assert isinstance(error, AccessDenied)
        assert "'root'" in str(error)

    @pytest.mark.parametrize("passphrase", ["wr0ng-phrase", None])
    async def test_another_passphrase(self, server: SftpServer, passphrase: str | None) -> None:
        error = await self.refusal(server, passphrase=passphrase)
        assert isinstance(error, AccessDenied)
        assert str(server.private_key_path) in str(error)
        assert "sftp_private_key_passphrase" in str(error)

    @pytest.mark.parametrize("passphrase", ["wr0ng-phrase", None])
    @pytest.mark.parametrize("form", ["pkcs1-pem", "pkcs8-pem", "openssh"])
    @pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256"])
    async def test_another_passphrase_of_any_format(
        self, server: SftpServer, kind: str, form: str, passphrase: str | None
    ) -> None:
        how = FEW_ROUNDS if form == "openssh" else {}
        key = asyncssh.generate_private_key(kind).export_private_key(form, passphrase="right", **how).decode()
        error = await self.refusal(server, private_key=key, private_key_path=None, passphrase=passphrase)
        assert isinstance(error, AccessDenied)
        assert ("does not open it" if passphrase else "needs a passphrase") in str(error)

    @pytest.mark.parametrize("path", ["/dev/zero", "/proc", "pipe", "large"])
    async def test_what_is_no_file_of_a_key_is_not_read(self, server: SftpServer, tmp_path: Path, path: str) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "large").write_bytes(bytes(1 << 20))
        error = await self.refusal(server, private_key_path=str(tmp_path / path))
        assert "is not a file that holds a private key" in str(error)

    async def test_no_key_file(self, server: SftpServer) -> None:
        error = await self.refusal(server, private_key_path="/nowhere/key")
        assert isinstance(error, ConfigError)
        assert "/nowhere/key: no such file on this worker" in str(error)

    async def test_no_key(self, server: SftpServer, tmp_path: Path) -> None:
        (tmp_path / "no-key").write_text("wr0ng-phrase, and not a key")
        error = await self.refusal(server, private_key_path=str(tmp_path / "no-key"))
        assert isinstance(error, ConfigError)
        assert "no-key is not a private key" in str(error)

    async def test_neither_key_nor_password(self, server: SftpServer) -> None:
        assert "neither private key nor password" in str(await self.refusal(server, private_key_path=None))

    async def test_host_key_that_is_none(self, server: SftpServer) -> None:
        assert isinstance(await self.refusal(server, host_key="127.0.0.1 ssh-ed25519 AAAA"), ConfigError)

    @pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
    async def test_another_host_key(self, server: SftpServer, algorithm: str) -> None:
        pinned = asyncssh.generate_private_key(algorithm)
        async with TcpProxy(server.port) as proxy:
            line = pinned.export_public_key().decode()
            error = await self.refusal(server, port=proxy.port, host_key=line)
            if algorithm == "ssh-ed25519":  # a server without a key of the pinned type may hang up before it is heard
                assert proxy.accepted == 1, "tried again"
        assert isinstance(error, HostKeyMismatch)
        assert pinned.get_fingerprint() in str(error)
        assert asyncssh.import_public_key(server.host_key).get_fingerprint() in str(error)
        assert server.host_key in str(error)

    async def test_one_of_several_host_keys(self, server: SftpServer) -> None:
        others = [
            asyncssh.generate_private_key(kind).export_public_key().decode()
            for kind in ("ssh-ed25519", "ecdsa-sha2-nistp384")
        ]
        for keys in ([*others, server.host_key], [server.host_key, *others]):
            async with SftpDestination(login_of(server, host_key="\n".join(keys)), "/") as destination:
                assert await destination.stat("nothing") is None
        error = await self.refusal(server, host_key="\n".join(others))
        assert isinstance(error, HostKeyMismatch)
        assert all(asyncssh.import_public_key(one).get_fingerprint() in str(error) for one in others)

    async def test_the_key_is_shown_for_pinning(self, server: SftpServer) -> None:
        ((line, fingerprint),) = await fetch_host_keys(server.host, server.port)
        assert line == server.host_key
        assert fingerprint == asyncssh.import_public_key(line).get_fingerprint()

    def test_secrets_are_not_in_the_repr(self) -> None:
        login = SftpLogin("h", "u", "k", private_key="s3cret", passphrase="s3cret", password="s3cret")
        assert "s3cret" not in repr(login)


class TestRefusals:
    async def refusal(self, server: SftpServer, **options: object) -> Exception:
        async with target(server, **options) as destination:
            with pytest.raises(Exception, match=DATA_KEY.partition("/")[0]) as refused:
                await destination.create(DATA_KEY, SMALL)
        assert not (server.root / "target" / DATA_KEY).exists()
        assert not left_over(server)
        return refused.value

    async def test_read_only_folder(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"write": asyncssh.SFTPPermissionDenied("no")}
        error = await self.refusal(server)
        assert isinstance(error, AccessDenied)
        assert "denies user 'data-export' access" in str(error)

    @pytest.mark.parametrize("refusal", [asyncssh.SFTPPermissionDenied("no"), asyncssh.SFTPFailure("no")])
    async def test_missing_folder_that_may_not_be_made(
        self, server: SftpServer, unruly: type[Unruly], refusal: Exception
    ) -> None:
        (server.root / "target").mkdir()
        unruly.refused = {"mkdir": refusal}
        error = await self.refusal(server)
        assert isinstance(error, AccessDenied)
        assert f"folder '/target/{DATA_KEY.partition('/')[0]}' of sftp://" in str(error)

    async def test_a_full_disk_is_not_taken_for_a_missing_right(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"mkdir": asyncssh.SFTPFailure("Failure")}
        unruly.full = True
        async with target(server) as destination:
            with pytest.raises(TargetFull, match="folder '/target'"):
                await destination.create(DATA_KEY, SMALL)

    async def test_file_in_the_place_of_a_folder(self, server: SftpServer) -> None:
        (server.root / "target").mkdir()
        (server.root / "target" / DATA_KEY.partition("/")[0]).touch()
        assert isinstance(await self.refusal(server), TargetRefused)

    async def test_name_refused(self, server: SftpServer, unruly: type[Unruly]) -> None:
        for refusal in (asyncssh.SFTPFailure("no"), asyncssh.SFTPBadMessage("no"), asyncssh.SFTPNoSuchFile("no")):
            unruly.refused = {"colon": refusal}
            error = await self.refusal(server)
            assert isinstance(error, TargetRefused), refusal
            assert "Windows servers refuse ':'" in str(error)

    async def test_rename_refused_and_direct_instead(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        denied = asyncssh.SFTPPermissionDenied("no")
        unruly.refused = {"rename": denied, "posix_rename": denied}
        error = await self.refusal(server)
        assert isinstance(error, TargetRefused)
        assert "`sftp_upload: direct`" in str(error)
        async with target(server, upload="direct") as destination:
            await destination.create(DATA_KEY, SMALL)
            assert place.read_bytes() == SMALL.source
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, BIG)
            assert place.read_bytes() == SMALL.source
            await destination.replace(DATA_KEY, BIG)
            assert place.read_bytes() == BIG.source
            unruly.refused = {"write": denied}
            with pytest.raises(OverwriteRefused):
                await destination.replace(DATA_KEY, SMALL)
        assert place.read_bytes() == BIG.source

    async def test_a_broken_direct_upload_leaves_no_part(self, server: SftpServer, unruly: type[Unruly]) -> None:
        unruly.refused = {"block": OSError(errno.ENOSPC, "No space left on device")}
        assert isinstance(await self.refusal(server, upload="direct"), TargetFull)

    async def test_rename_that_replaces_against_the_protocol(
        self, server: SftpServer, unruly: type[Unruly], place: Path
    ) -> None:
        put_old(place)
        unruly.rename = Unruly.posix_rename  # type: ignore[method-assign] # the fault
        async with target(server) as destination:
            with pytest.raises(ObjectExists):
                await destination.create(DATA_KEY, SMALL)
        assert place.read_bytes() == OLD
        assert not left_over(server)

    async def test_listing_refused_by_a_drop_box(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        put_old(place.with_name("other"))
        unruly.refused = {"scandir": asyncssh.SFTPPermissionDenied("no")}
        async with target(server) as destination:
            await destination.create(DATA_KEY, SMALL)
        assert place.read_bytes() == SMALL.source

    async def test_replacing_refused(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        put_old(place)
        unruly.refused = {"posix_rename": asyncssh.SFTPPermissionDenied("no")}
        async with target(server) as destination:
            with pytest.raises(OverwriteRefused, match="set if_exists to keep or revision"):
                await destination.replace(DATA_KEY, SMALL)
        assert place.read_bytes() == OLD
        assert not left_over(server)

    async def test_names_of_unfinished_files_are_refused(self, server: SftpServer) -> None:
        async with target(server) as destination:
            with pytest.raises(TargetRefused, match="kept for unfinished files"):
                await destination.create(f"a/{TEMPORARY_PREFIX}x", SMALL)


class TestDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["full disk", "quota"])
    async def test_full(self, server: SftpServer, unruly: type[Unruly], place: Path, code: int) -> None:
        unruly.refused = {"block": OSError(code, os.strerror(code))}
        async with target(server) as destination:
            with pytest.raises(TargetFull):
                await destination.create(DATA_KEY, BIG)
            assert not place.exists()
            assert not left_over(server)
            unruly.refused = {}
            await destination.create(DATA_KEY, BIG)

    async def test_a_server_that_says_only_failure_is_asked_for_its_room(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        unruly.refused = {"block": asyncssh.SFTPFailure("Failure")}
        async with target(server) as destination:
            with pytest.raises(TargetUnavailable, match="answers 'Failure'"):
                await destination.create(DATA_KEY, BIG)
            unruly.full = True
            with pytest.raises(TargetFull, match="make room"):
                await destination.create(DATA_KEY, BIG)

    async def test_a_file_system_that_does_not_tell_its_room_is_not_full(
        self, server: SftpServer, unruly: type[Unruly]
    ) -> None:
        unruly.refused, unruly.tells_room = {"block": asyncssh.SFTPFailure("Failure")}, False
        async with target(server) as destination:
            with pytest.raises(TargetUnavailable, match="answers 'Failure'"):
                await destination.create(DATA_KEY, BIG)

    async def test_a_file_cut_silently(
        self, server: SftpServer, unruly: type[Unruly], place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_LATE_SECONDS", (0.05,))
        unruly.lost_after = 1 << 20
        async with target(server) as destination:
            with pytest.raises(VerificationFailed, match=f"of {BIG.size} sent"):
                await destination.create(DATA_KEY, BIG)
            unruly.full = True
            with pytest.raises(TargetFull):
                await destination.replace(DATA_KEY, BIG)
        assert not place.exists()
        assert not left_over(server)

    async def test_damage_is_found_by_reading_back(self, server: SftpServer, unruly: type[Unruly], place: Path) -> None:
        unruly.flips_bits = True
        async with target(server, verify="read-back") as destination:
            with pytest.raises(VerificationFailed, match="not what was sent"):
                await destination.create(DATA_KEY, BIG)
            assert not place.exists()
            unruly.flips_bits = False
            await destination.create(DATA_KEY, BIG)


@pytest.mark.parametrize("error", [asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure])
async def test_a_limit_of_transfers_at_once_is_kept_to(
    server: SftpServer, unruly: type[Unruly], error: type[asyncssh.SFTPError]
) -> None:
    opened, refused = [0], [0]

    def open_few(self: Unruly, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if opened[0] == 3:
            refused[0] += 1
            raise error("maximum concurrent transfers exceeded")
        opened[0] += 1
        return Unruly.open(self, path, pflags, attrs)

    def close(self: Unruly, file_obj: object) -> None:
        opened[0] -= 1
        asyncssh.SFTPServer.close(self, file_obj)

    unruly.write_seconds = 0.002
    unruly.open, unruly.close = open_few, close  # type: ignore[method-assign,assignment] # the limit
    async with target(server) as destination:
        await asyncio.gather(*(destination.create(f"{number}.png", SMALL) for number in range(100)))
        seen = refused[0]
        await asyncio.gather(*(destination.create(f"{number}-2.png", SMALL) for number in range(30)))
    assert refused[0] - seen <= 4  # remembered; where four were never open at once, it has still to halve from there
    assert len(list((server.root / "target").iterdir())) == 130
