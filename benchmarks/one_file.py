"""Seconds to deliver one large file to each connector, beside the tools that people use for it.

    PYTHONPATH=plugins python -m benchmarks.one_file [--only sftp gs s3 abfs] [--bytes 2147483648] [--rtt-ms 0]
                                                    [--rounds 5] [--read-back]

Every contender sends the same local file to a folder of its own, then again, when nothing has changed; in each round
all of them in turn, at a server of that round's own, and the tables have the medians. We are a task of a worker, which
has imported its libraries before it forks. What arrived is compared in size. `--rtt-ms` puts a network of that round
trip before the server.

We are given the file's digests, as by the step before, and compare them with what is sent. To S3 and Azure rclone reads
the file once more beforehand for an MD5 of it; a second line is without. Over SFTP we then read the file at the target
and compare again, where the others trust its size and time; second lines are in the way that is quickest far away. With
`--read-back` what arrived over SFTP is read again the first time too: by us with `verify: read-back`, by rclone with
`rclone check --download`.

The SFTP server is OpenSSH where it is installed. Those of the clouds are emulators on the same processors: what
they use is in a line below each table, and where that is most of the seconds, CPU seconds say more.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks import images, images_cloud
from benchmarks.images import Server, far_away, open_server
from benchmarks.measure import Spent, as_task, print_table, rclone_program, run
from data_export.content import Content, Digests
from demo.servers.abfs import AbfsServer
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer

_PIECE = 64 << 20
_IN_THIS_PROCESS = (GcsServer, S3Server, SftpServer)
#: The command that sends the file to a folder of that name.
Command = Callable[[str], list[str]]


@dataclass(frozen=True)
class Place:
    """Where a file goes, and what has arrived there."""

    contenders: dict[str, Command]
    arrived: Callable[[str], list[int]]
    remove: Callable[[str], None]
    #: CPU seconds of the server so far.
    cpu: Callable[[], float]


def ours(kind: str, file: Path, **where: Any) -> list[str]:
    said = where | {"kind": kind, "file": str(file)} | json.loads(file.parent.with_suffix(".digests").read_text())
    return as_task("benchmarks.one_file", "--ours", json.dumps(said))


async def send(said: dict[str, Any]) -> None:
    """What the `deliver` task does."""
    from data_export.delivery.deliver import deliver
    from data_export.delivery.sftp.destination import SftpDestination, SftpLogin

    if said["kind"] == "sftp":
        login = SftpLogin("127.0.0.1", said["user"], said["host_key"], said["port"], private_key_path=said["key"])
        destination: Any = SftpDestination(login, said["target"], verify=said["verify"])
    else:
        destination = images_cloud.store_of(said["kind"], said["url"], said["target"])
    async with destination:
        file = Path(said["file"])
        content = Content(file, Digests(file.stat().st_size, said["sha256"], crc32c=said["crc32c"]))
        print(await deliver(destination, lambda _: file.name, content, "replace"))


def sftp_place(folder: Path, server: Server, port: int, file: Path, *, read_back: bool) -> Place:
    work = images.prepare(folder, server, port, 0, 0)

    def ours_to(target: str) -> list[str]:
        login = {"user": server.username, "host_key": server.host_key, "port": port, "key": str(work.key)}
        return ours("sftp", file, **login, target=server.base + target, verify="read-back" if read_back else "size")

    def rclone(*ways: str) -> Command:
        login = (f"--sftp-host={server.host}", f"--sftp-port={port}", f"--sftp-user={server.username}")
        keys = (f"--sftp-key-file={work.key}", f"--sftp-known-hosts-file={work.known_hosts}")
        common = ("--config=", *login, *keys, "--sftp-shell-type=none", "--sftp-disable-hashcheck", *ways)

        def command(target: str) -> list[str]:
            copy = [rclone_program(), "copy", str(file), f":sftp:{server.base}{target}", *common]
            again = [copy[0], "check", "--download", str(file.parent), *copy[3:]]
            return ["sh", "-ec", f"{' '.join(copy)}; {' '.join(again)}"] if read_back else copy

        return command

    def lftp(settings: str = "", options: str = "") -> Command:
        return lambda target: [
            *("lftp", "-c"),
            f'set sftp:connect-program "ssh -a -x {options} {work.ssh}"; set cmd:fail-exit yes; {settings}'
            f"open -u {server.username}, sftp://{server.host}:{port}; "
            f"mirror --reverse {file.parent} {server.base}{target}",
        ]

    ours_and_rclone = {"this service": ours_to, "rclone": rclone()}
    others = {
        "rclone, 255 KiB a packet": rclone("--sftp-chunk-size=255k"),
        "lftp": lftp(),
        "lftp, 128 packets": lftp("set sftp:max-packets-in-flight 128; ", "-c aes128-gcm@openssh.com"),
    }
    return Place(
        ours_and_rclone | ({} if read_back else others),
        lambda target: [path.stat().st_size for path in (server.root / target).rglob(file.name)],
        lambda target: shutil.rmtree(server.root / target, ignore_errors=True),
        lambda: cpu_of(server),
    )


def cloud_place(kind: str, server: Any, url: str, file: Path) -> Place:
    """Each folder is a bucket: what is left in one is no work for the server of the next."""

    def ours_to(bucket: str) -> list[str]:
        images_cloud.create_bucket(kind, server, bucket)
        return ours(kind, file, url=url, target=f"{bucket}/exports/")

    def rclone(*ways: str) -> Command:
        def command(bucket: str) -> list[str]:
            images_cloud.create_bucket(kind, server, bucket)
            copy = images_cloud.rclone(kind, url, bucket, file.parent, ways)
            copy[2] = str(file)
            return copy

        return command

    async def remove(bucket: str) -> None:
        async with images_cloud.store_of(kind, server.url, f"{bucket}/exports/") as store:
            for key in [stored.key async for stored in store.list("")]:
                await store.delete(key)

    no_md5 = {"s3": "--s3-disable-checksum", "abfs": "--azureblob-disable-checksum"}.get(kind)
    without = {"rclone, no MD5 of the file": rclone(no_md5)} if no_md5 else {}
    return Place(
        {"this service": ours_to, "rclone": rclone()} | without,
        lambda bucket: asyncio.run(images_cloud.sizes(kind, server.url, bucket)),
        lambda bucket: asyncio.run(remove(bucket)),
        lambda: cpu_of(server),
    )


def cpu_of(server: Any) -> float:
    """CPU seconds of this process, in which are emulators and the network, and of a server that has its own."""
    seconds = time.process_time()
    if not isinstance(server, _IN_THIS_PROCESS):
        time.sleep(0.3)  # until it has reaped those of its own that have ended
        ticks = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        seconds += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return seconds


@dataclass
class Race:
    """What each contender took, in every round."""

    times: dict[str, list[tuple[Spent, Spent]]] = field(default_factory=dict)
    server_cpu: dict[str, list[float]] = field(default_factory=dict)

    def run_round(self, place: Place, size: int, turn: int) -> None:
        names = deque(place.contenders)
        names.rotate(-turn)  # each round begins with another
        for number, name in enumerate(names):
            measured = self.times.setdefault(name, [])  # empty where it is not installed
            command, before = place.contenders[name](target := f"target-{number}"), place.cpu()
            if shutil.which(command[0]) is None:
                continue
            first = run(command)
            self.server_cpu.setdefault(name, []).append(place.cpu() - before)
            self._require(name, place.arrived(target), size)
            measured.append((first, run(command)))
            self._require(name, place.arrived(target), size)
            place.remove(target)

    @staticmethod
    def _require(name: str, arrived: list[int], size: int) -> None:
        if arrived != [size]:
            sys.exit(f"{name}: {arrived} bytes arrived of {size}")

    def show(self, size: int) -> None:
        print_table(self.times, size)
        used = (f"{name} {median(seconds):.1f}" for name, seconds in self.server_cpu.items())
        print(f"CPU seconds of the server, first time: {', '.join(used)}")


def write_file(folder: Path, size: int) -> Path:
    """The file, alone in a folder, with its digests beside that."""
    file, piece = folder / "one" / "data.json", Random(1).randbytes(min(size, _PIECE))
    file.parent.mkdir()
    with file.open("wb") as out:
        for left in range(size, 0, -_PIECE):
            out.write(piece[:left])
    digests = Content.of_file(file).digests
    file.parent.with_suffix(".digests").write_text(json.dumps({"sha256": digests.sha256, "crc32c": digests.crc32c}))
    return file


@contextmanager
def opened(kind: str, folder: Path, file: Path, rtt: float, *, read_back: bool) -> Iterator[tuple[str, Place]]:
    """The kind of the server, and the way to it."""
    if kind == "sftp":
        server: Any = open_server(folder / "server")
    else:
        server = images_cloud.server_of(kind, folder / "server")
    with server, far_away(server.port, rtt) as far:
        port = far if rtt else server.port
        if kind == "sftp":
            yield type(server).__name__, sftp_place(folder, server, port, file, read_back=read_back)
        else:
            url = server.url.replace(str(server.port), str(port))
            yield type(server).__name__, cloud_place(kind, server, url, file)


def main() -> None:
    kinds = ["sftp", *images_cloud.KINDS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--bytes", type=int, default=2 << 30)
    parser.add_argument("--rtt-ms", type=float, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read-back", action="store_true")
    options = parser.parse_args()
    os.environ.pop("AWS_CA_BUNDLE", None)  # with it rclone's S3 does not start
    with tempfile.TemporaryDirectory() as name:
        file = write_file(Path(name), options.bytes)
        for kind in options.only:
            if kind == "abfs" and not AbfsServer.installed():
                print("abfs: Azurite is not installed")
                continue
            race = Race()
            for turn in range(options.rounds):  # each with a server of its own: some hold all that they got in memory
                (folder := Path(name, f"{kind}-{turn}")).mkdir()
                with opened(kind, folder, file, options.rtt_ms / 1000, read_back=options.read_back) as (server, place):
                    race.run_round(place, options.bytes, turn)
                shutil.rmtree(folder)
            distance = f"{options.rtt_ms:g} ms round trip"
            print(f"{kind}: {options.bytes:,} bytes, {server}, {distance}, medians of {options.rounds}")
            race.show(options.bytes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(send(json.loads(sys.argv[2])))
    else:
        main()
