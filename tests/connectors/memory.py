"""Peak memory of one transfer, measured in a process of its own."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import asyncio, sys
from pathlib import Path
from tests.connectors.memory import transfer
from {module} import {factory}
asyncio.run(transfer({factory}(*sys.argv[2:]), Path(sys.argv[1])))
"""
# glibc keeps freed blocks for each thread, up to as much again, as threads happen to meet: measured is what we hold.
_NO_HOARDING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


async def transfer(destination, path):  # type: ignore[no-untyped-def]
    """Creates and reads an object of the file's bytes; writes by how many MiB the process grew meanwhile."""
    from data_export.content import Content

    async with destination:
        await destination.create("warm-up", Content.of_bytes(b"x" * 9_000_000))
        before = _peak_kib()
        content = Content.of_file(path)
        await destination.create("object", content)
        size = 0
        async for chunk in destination.read("object"):
            size += len(chunk)
        assert size == content.size
    sys.stdout.write(str((_peak_kib() - before) // 1024))


def _peak_kib() -> int:
    """Linux's own account; `ru_maxrss` would hold what the parent had at the fork."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


async def growth(path: Path, megabytes: int, module: str, factory: str, *arguments: str) -> int:
    """MiB by which a process grows that transfers a file of `megabytes` with what `factory(*arguments)` makes."""
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    script = _SCRIPT.format(module=module, factory=factory)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(path), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | _NO_HOARDING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
