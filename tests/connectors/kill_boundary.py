"""Kills a client at one of its writes: a rule for a `FaultProxy`, before the rules of the server."""

import os
import signal
from typing import Literal

from demo.servers.faults import Answer, Exchange, Forward, Rules

Moment = Literal["before", "after"]


async def as_it_is(request: Exchange, forward: Forward) -> Answer:
    """Rules of a server that lacks none."""
    return await forward(request)


class KillAtWrite:
    """Counts the requests that change something and, once armed, kills the client at one of them.

    `before`: the server never sees the request. `after`: the server has done it, and the client never learns that.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._victim: tuple[int, int, Moment] | None = None
        self.writes = 0

    def count(self) -> None:
        """Begins to count anew, and kills nobody."""
        self.writes, self._victim = 0, None

    def arm(self, pid: int, at: int, moment: Moment) -> None:
        """From here on, kills the process at its write number `at` (from 1)."""
        self.writes, self._victim = 0, (pid, at, moment)

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        if request.method in ("GET", "HEAD"):
            return await self._rules(request, forward)
        self.writes += 1
        victim = self._victim
        if victim is None or self.writes != victim[1]:
            return await self._rules(request, forward)
        if victim[2] == "after":
            await self._rules(request, forward)
        os.kill(victim[0], signal.SIGKILL)
        return Answer(503)  # to nobody
