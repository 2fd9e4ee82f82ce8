"""Seconds to deliver one large file over SFTP, beside rclone and lftp.

    PYTHONPATH=plugins python -m benchmarks.sftp_file [--bytes 2147483648] [--rtt-ms 0] [--rounds 5] [--read-back]

Every contender sends the same local file, then again, when nothing has changed. We are given the file's digests, as by
the step before, and compare them with what is sent; again, we read the file at the target and compare, where the others
trust its size and time. With `--read-back` what arrived is read again the first time too: by us with
`verify: read-back`, by rclone with `rclone check --download`; the server offers no checksums.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.images import Server, Spent, Work, far_away, prepare, run
from data_export.content import Content, Digests
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer

_PIECE = 64 << 20


def ours(work: Work, file: Path, target: str, *, read_back: bool) -> list[str]:
    verify = "read-back" if read_back else "size"
    login = (work.port, work.server.username, work.key, work.server.host_key)
    digests = file.parent.with_suffix(".digests").read_text().split()
    return [sys.executable, "-m", "benchmarks.sftp_file", "--ours", *map(str, (file, *login, target, verify, *digests))]


def rclone(work: Work, file: Path, target: str, *, read_back: bool) -> list[str]:
    login = (
        f"--config= --sftp-host={work.server.host} --sftp-port={work.port} --sftp-user={work.server.username} "
        f"--sftp-key-file={work.key} --sftp-known-hosts-file={work.known_hosts} --sftp-shell-type=none "
        "--sftp-disable-hashcheck"
    )
    copy = f"rclone copy {file} :sftp:{target} {login}"
    return ["sh", "-ec", f"{copy}; rclone check --download {file.parent} :sftp:{target} {login}" if read_back else copy]


def lftp(work: Work, file: Path, target: str, **_: bool) -> list[str]:
    return [
        *("lftp", "-c"),
        f'set sftp:connect-program "ssh -a -x {work.ssh}"; set cmd:fail-exit yes; '
        f"open -u {work.server.username}, sftp://{work.server.host}:{work.port}; "
        f"mirror --reverse {file.parent} {target}",
    ]


CONTENDERS: dict[str, Callable[..., list[str]]] = {"this service": ours, "rclone": rclone, "lftp": lftp}


async def send(
    file: str, port: str, username: str, key: str, host_key: str, target: str, verify: str, sha256: str, crc32c: str
) -> None:
    """What the `deliver` task does."""
    from data_export.delivery.deliver import deliver
    from data_export.delivery.sftp.destination import SftpDestination, SftpLogin

    login = SftpLogin("127.0.0.1", username, host_key, int(port), private_key_path=key)
    content = Content(Path(file), Digests(Path(file).stat().st_size, sha256, crc32c=crc32c))
    async with SftpDestination(login, target, verify=verify) as destination:  # type: ignore[arg-type] # from ours
        print(await deliver(destination, lambda _: Path(file).name, content, "replace"))


def race(work: Work, file: Path, rounds: int, *, read_back: bool) -> None:
    times: dict[str, list[tuple[Spent, Spent]]] = {
        name: [] for name in CONTENDERS if not (read_back and name == "lftp")
    }
    for _ in range(rounds):
        for name, measured in times.items():
            folder = f"target-{name.replace(' ', '-')}"
            command = CONTENDERS[name](work, file, f"{work.server.base}{folder}", read_back=read_back)
            measured.append((run(command), run(command)))
            arrived = work.server.root / folder / file.name
            if arrived.stat().st_size != file.stat().st_size:
                sys.exit(f"{arrived} is not whole")
            arrived.unlink()
    print(f"{'':15}{'first s':>9}{'ratio':>7}{'CPU s':>7}{'MB':>6}{'MB/s':>8}{'again s':>9}{'CPU s':>7}")
    reference = 0.0
    for name, measured in times.items():
        first, again = (Spent(*map(median, zip(*side, strict=True))) for side in zip(*measured, strict=True))
        reference = reference or first.wall
        print(
            f"{name:15}{first.wall:9.2f}{first.wall / reference:7.2f}{first.cpu:7.2f}{first.memory:6.0f}"
            f"{file.stat().st_size / first.wall / 1e6:8.1f}{again.wall:9.2f}{again.cpu:7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=2 << 30)
    parser.add_argument("--rtt-ms", type=float, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read-back", action="store_true")
    options = parser.parse_args()
    kind: type[Server] = OpensshServer if OpensshServer.installed() else SftpServer
    with tempfile.TemporaryDirectory() as name, kind(Path(name) / "server") as server:
        print(
            f"{options.bytes:,} bytes, {kind.__name__}, {options.rtt_ms:g} ms round trip, medians of {options.rounds}"
        )
        with far_away(server.port, options.rtt_ms / 1000) as far:
            work = prepare(Path(name), server, far if options.rtt_ms else server.port, 1, _PIECE)
            piece = next(work.images.rglob("*.png")).read_bytes()
            file = Path(name, "one", "data.json")
            file.parent.mkdir()
            with file.open("wb") as out:
                for left in range(options.bytes, 0, -_PIECE):
                    out.write(piece[:left])
            digests = Content.of_file(file).digests
            file.parent.with_suffix(".digests").write_text(f"{digests.sha256} {digests.crc32c}")
            race(work, file, options.rounds, read_back=options.read_back)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(send(*sys.argv[2:]))
    else:
        main()
