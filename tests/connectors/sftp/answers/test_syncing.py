"""A system tells each handle once of a failed sync: the next one that succeeds proves nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_export.delivery.sftp import transfer
from data_export.delivery.sftp.wire import blocks, packets
from data_export.delivery.sftp.wire.packets import Reader
from data_export.errors import TargetUnavailable
from tests.connectors.sftp.spoken import FAILURE, LONG, OK, Spoken, SpokenServer, status, target
from tests.connectors.sftp.unruly import SMALL


class TestSync:
    """A system tells each handle once of a failed sync: the next one that succeeds proves nothing."""

    @pytest.fixture
    def openssh(self, spoken: type[Spoken], tmp_path: Path, keys: Path) -> Iterator[SpokenServer]:
        def extended(self: Spoken, reader: Reader) -> bytes | None:
            if b"limits@" in reader.packet:
                return bytes((packets.EXTENDED_REPLY,)) + b"".join(n.to_bytes(8, "big") for n in (0, 0, 0, 100))
            return Spoken.extended(self, reader)

        spoken.offers = Spoken.offers | {b"limits@openssh.com": b"1"}
        spoken.extended = extended  # type: ignore[method-assign] # as OpenSSH does
        (tmp_path / "keys").symlink_to(keys / "keys")
        with SpokenServer(tmp_path, spoken, server_version="OpenSSH_9.9") as server:
            yield server

    @pytest.mark.parametrize("failing", [1, 2, 3])
    async def test_of_any_part_is_the_file_s(
        self, openssh: SpokenServer, spoken: type[Spoken], failing: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_BIG_BYTES", 1 << 10)
        monkeypatch.setattr(blocks, "_SYNC_BYTES", 64 << 10)
        synced = self.failing(spoken, {failing})
        async with target(openssh) as destination:
            with pytest.raises(TargetUnavailable, match="input/output error"):
                await destination.create("a", LONG)
            assert not spoken.files
            before = len(synced)
            await destination.create("a", LONG)
        assert before >= 3
        assert bytes(spoken.files[b"/target/a"]) == LONG.source

    async def test_of_one_file_does_not_end_it_for_all(self, server: SpokenServer, spoken: type[Spoken]) -> None:
        synced = self.failing(spoken, {2})
        async with target(server) as destination:
            await destination.create("a", SMALL)
            with pytest.raises(TargetUnavailable, match="input/output error"):
                await destination.create("b", SMALL)
            await destination.create("c", SMALL)
        assert len(synced) == 4
        assert list(spoken.files) == [b"/target/a", b"/target/c"]

    @staticmethod
    def failing(spoken: type[Spoken], which: set[int]) -> list[int]:
        synced, before = list[int](), spoken.extended

        def extended(self: Spoken, reader: Reader) -> bytes | None:
            if b"fsync@" not in reader.packet:
                return before(self, reader)
            synced.append(1)
            return status(FAILURE, "input/output error") if len(synced) in which else status(OK)

        spoken.extended = extended  # type: ignore[method-assign] # the fault
        return synced
