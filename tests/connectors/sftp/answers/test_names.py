"""What a server may list: folders without an end, names that lead elsewhere, more than there is."""

import pytest

from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.packets import Reader, text, u32
from data_export.errors import TargetUnavailable
from tests.connectors.sftp.spoken import BREACH, EOF, FOLDER, Spoken, SpokenServer, names, status, target
from tests.connectors.sftp.unruly import SMALL


async def test_folders_that_have_no_end(
    server: SpokenServer, spoken: type[Spoken], caplog: pytest.LogCaptureFixture
) -> None:
    def readdir(self: Spoken, reader: Reader) -> bytes:
        handle = reader.text()
        answer = status(EOF) if handle in self.listed else names(b"up", mode=FOLDER)
        self.listed.add(handle)
        return answer

    spoken.readdir = readdir  # type: ignore[method-assign] # a link to a folder above, shown as a folder
    async with target(server) as destination:
        assert [found async for found in destination.list("folder/")] == []
    assert "deeper than any folder of ours" in caplog.text
    assert not spoken.open_handles


async def test_names_that_lead_elsewhere_are_nobody_s(server: SpokenServer, spoken: type[Spoken]) -> None:
    def readdir(self: Spoken, reader: Reader) -> bytes:
        answer = Spoken.readdir(self, reader)
        listed = (b"../a.png", b"/a.png", b"", b"\xff.png", b"ok.png")
        return answer if answer[0] == packets.STATUS else names(*listed)

    spoken.readdir = readdir  # type: ignore[method-assign] # the fault
    async with target(server) as destination:
        assert [found.key async for found in destination.list("folder/")] == ["folder/ok.png"]
        pages = [page async for page in destination.files_in("folder")]
    assert [found.key for page in pages for found in page] == ["folder/ok.png"]


async def test_more_names_than_there_are(server: SpokenServer, spoken: type[Spoken]) -> None:
    spoken.readdir = lambda _self, _reader: bytes((packets.NAME,)) + u32(2**32 - 1) + text(b"a")  # type: ignore[method-assign,assignment]
    async with target(server) as destination:
        with pytest.raises(TargetUnavailable, match=BREACH):
            [found async for found in destination.list("folder/")]
        await destination.create("a", SMALL)
    assert not spoken.open_handles
