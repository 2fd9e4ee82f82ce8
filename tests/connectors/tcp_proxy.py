"""A TCP proxy that drops, cuts and stalls connections."""

import asyncio
from typing import Self

from demo.servers.loop_thread import stop_accepting


class TcpProxy:
    """Stands in front of `127.0.0.1:<target>` (which may change) at `port`; an async context manager.

    drop: how many of the next connections are closed as soon as they come in.
    allowed: how many connections are served at once; more are closed as soon as they come in; None for any number.
    cut_after: bytes sent towards the server after which a connection is reset, once; None for never.
    serving, most: connections served now, and at most so far.
    pause: seconds between two chunks of at most 64 KiB, in each direction.
    holding: while true nothing is passed on in either direction, and nobody is told.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._served: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.drop = 0
        self.allowed: int | None = None
        self.serving = self.most = 0
        self.cut_after: int | None = None
        self.pause = 0.0
        self.holding = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.holding = False
        await stop_accepting(self._server)
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)
        self.cut()
        await asyncio.sleep(0)  # the transports close their sockets now

    def cut(self) -> None:
        """Resets every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        self.accepted += 1
        self._writers.add(writer)
        if self.drop or self.serving == self.allowed:
            self.drop = max(self.drop - 1, 0)
            writer.transport.abort()
            return
        self.serving += 1
        self.most = max(self.most, self.serving)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(far_writer)
        await asyncio.gather(
            self._pass_on(reader, far_writer, counted=True),
            self._pass_on(far_reader, writer, counted=False),
            return_exceptions=True,
        )
        self.serving -= 1

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        passed = 0
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self.pause)
                while self.holding:
                    await asyncio.sleep(0.01)
                passed += len(data)
                if counted and self.cut_after is not None and passed > self.cut_after:
                    self.cut_after = None
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()
