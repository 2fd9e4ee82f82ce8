"""The audit finds every deletion, truncation and change at real servers of every kind, and nothing else."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination
from data_export.errors import TransientError
from data_export.images import source_key_of
from data_export.pipeline.audit import Audited, AuditRules, audit
from data_export.pipeline.audit_images import ImagesOf
from data_export.pipeline.expected import Delivered, Delivery, expected
from demo.servers.abfs import AbfsServer
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from tests.connectors.abfs.stores import store_at
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import s3_store
from tests.connectors.sftp.logins import login_of

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
DATA, RECEIPTS = f"{SITE}/data/work-orders-timeline", f"{SITE}/receipts/work-orders-timeline"
IMAGES = [str(UUID(int=number)) for number in range(1, 4)]
LINE = (
    f'{{"id":"{UUID(int=9)}","name":"{{\\"id\\":\\"","site_id":"{SITE}","create_date":null,"metadata":{{"id": "x"}},'
    '"work_items":[{"id":"w","name":null,"input":['
    + ",".join(f'{{"id":"{name}","create_date":null,"file_extension":".png","metadata":null}}' for name in IMAGES)
    + "]}]}\n"
).encode()
NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)  # than whatever the tests write
EVERYTHING = AuditRules(full=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable[[str], Destination]]]:
    folder = tmp_path_factory.mktemp("servers")
    with GcsServer(folder / "gcs") as gcs, S3Server(folder / "s3") as s3, SftpServer(folder / "sftp") as sftp:
        gcs.create_bucket("bucket")
        s3.create_bucket("bucket")
        found: dict[str, Callable[[str], Destination]] = {
            "gs": lambda name: gcs_store(gcs.url, f"gs://bucket/{name}/"),
            "s3": lambda name: s3_store(s3.url, f"s3://bucket/{name}/"),
            "sftp": lambda name: SftpDestination(login_of(sftp), name),
            "file": lambda name: LocalStore(folder / name),
        }
        if not AbfsServer.installed():
            yield found
            return
        with AbfsServer(folder / "azurite") as abfs:
            abfs.create_bucket("bucket")
            yield found | {"abfs": lambda name: store_at(abfs.url, "bucket", f"{name}/")}


@pytest.fixture(params=["gs", "s3", "sftp", "abfs", "file"])
def target(request: pytest.FixtureRequest, places: dict[str, Callable[[str], Destination]]) -> Destination:
    if request.param not in places:
        pytest.skip("no azurite-blob on this machine: npm install -g azurite, or set AZURITE, to run these")
    return places[request.param](uuid4().hex)


def name_of(day: int, suffix: str = ".json") -> str:
    return f"2025-03-{day:02}_00:00:00_2025-03-{day + 1:02}_00:00:00{suffix}"


#: What runs left, by key: data files of every packing, a revision, receipts, a list, a manifest.
OBJECTS = {
    f"{DATA}/{name_of(1)}": LINE,
    f"{DATA}/{name_of(2, '.json.gz')}": gzip.compress(LINE, mtime=0),
    f"{DATA}/{name_of(3, '.parquet')}": b"PAR1 as the target sees it PAR1",
    f"{DATA}/{name_of(4)}": LINE,
    f"{DATA}/{name_of(4, '.r2.json')}": LINE * 2,
    f"{DATA}/{name_of(5)}": b"",
    f"{DATA}/{name_of(6, '.json.zst')}": b"zstd, as bytes",
    f"{RECEIPTS}/{name_of(1)}": b'{"export":"acme"}\n',
    f"{RECEIPTS}/{name_of(1, '.missing-images.txt')}": b"a.png\nb.png\n",
    f"manifests/work-orders-timeline/{name_of(1)}": b'{"manifest_version":1}\n',
}
PICTURES = {f"{SITE}/inputs/{name}.png": f"image {name}".encode() for name in IMAGES}


def receipts(uri: str, at: datetime) -> list[Delivery]:
    """One for each object, the newest first; a data file's has its images."""
    made = []
    for key, data in OBJECTS.items():
        day = int(key.rpartition("/")[2][8:10])
        sums = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        images = {"copied": 3} if "inputs" not in key and ".json" in key and day in (1, 2, 4) else None
        site = {
            "site_id": str(SITE),
            "uri": uri + key,
            "outcome": "created",
            "work_orders": 1,
            "images": images,
            **sums,
        }
        is_data = "/data/" in key
        receipt: dict[str, Any] = {
            "window": {"start": f"2025-03-{day:02}T00:00:00+00:00", "end": f"2025-03-{day + 1:02}T00:00:00+00:00"},
            "delivered_at": at.isoformat(),
            "target": uri,
            "connector": "gs",
            "sites": [site | sums] if is_data else [],
            "documents": [] if is_data else [{"uri": uri + key, **sums}],
        }
        made.append(Delivery(receipt, "data_export__acme", f"run {day}"))
    return made[::-1]


class Place:
    """A target to which everything was delivered, and the platform's images."""

    def __init__(self, target: Destination, folder: Path) -> None:
        self.target = target
        self.source = LocalStore(folder / "images")
        self.images = ImagesOf(self.source, lambda _site: source_key_of("{input_id}{file_extension}", SITE))
        self.write(OBJECTS | PICTURES)
        asyncio.run(self._pictures())

    async def _pictures(self) -> None:
        for key, data in PICTURES.items():
            await self.source.create(key.rpartition("/")[2], Content.of_bytes(data))

    def write(self, objects: dict[str, bytes | None]) -> None:
        async def run() -> None:
            async with self.target:
                for key, data in objects.items():
                    if data is None:
                        await self.target.delete(key)
                    else:
                        await self.target.replace(key, Content.of_bytes(data))

        asyncio.run(run())

    def audit(self, rules: AuditRules = EVERYTHING, at: datetime = LATER) -> Audited:
        delivered = expected(receipts(self.target.uri, at), 1_000)
        return audit(self.target, delivered, rules, self.images, LATER)

    def found(self, rules: AuditRules = EVERYTHING, at: datetime = LATER) -> dict[str, str]:
        return {one.uri.removeprefix(self.target.uri): one.found for _, one in self.audit(rules, at).findings}


@pytest.fixture
def place(target: Destination, tmp_path: Path) -> Place:
    return Place(target, tmp_path)


def damaged(data: bytes) -> dict[str, bytes | None]:
    """By what the audit calls it, what is there instead; an empty file cannot be cut, nor changed in place."""
    kinds: dict[str, bytes | None] = {"missing": None, "other size": data[:-1] if data else b"x"}
    return kinds | ({"other content": data[:-1] + bytes([data[-1] ^ 1])} if data else {})


def test_a_clean_target_has_no_findings(place: Place) -> None:
    seen = place.audit()
    assert (seen.objects, seen.read, seen.images, seen.left) == (len(OBJECTS), len(OBJECTS), 15, 0)
    assert seen.findings == []
    quick = place.audit(AuditRules(sample=0))
    assert (quick.objects, quick.read, quick.findings) == (len(OBJECTS), 0, [])
    assert place.found(AuditRules(sample=0), NOW - timedelta(hours=1)) == {}  # each was written since, so it is read


@pytest.mark.parametrize("what", ["missing", "other size", "other content"])
@pytest.mark.parametrize("first", [0, 1])
def test_each_damage_to_each_kind_of_object_is_found_and_nothing_else(place: Place, what: str, first: int) -> None:
    """Of every second object; a default audit finds what was written since its delivery, a full one everything."""
    chosen = {key: damaged(data) for key, data in [*(OBJECTS | PICTURES).items()][first::2]}
    chosen = {key: kinds for key, kinds in chosen.items() if what in kinds}
    place.write({key: kinds[what] for key, kinds in chosen.items()})
    assert place.found() == dict.fromkeys(chosen, what)
    quick = place.found(AuditRules(sample=0), NOW - timedelta(hours=1))
    assert quick == dict.fromkeys(chosen.keys() - PICTURES.keys(), what)


def test_the_sample_is_of_data_files_and_their_images(place: Place) -> None:
    place.write(dict.fromkeys(PICTURES))
    assert place.found(AuditRules(sample=0)) == {}
    assert place.found(AuditRules(sample=100)) == dict.fromkeys(PICTURES, "missing")


def test_a_server_that_is_gone_is_no_missing_file(tmp_path: Path) -> None:
    with SftpServer(tmp_path) as server:
        login = login_of(server)
    target = SftpDestination(login, "x")
    with pytest.raises(TransientError):
        audit(target, expected(receipts(target.uri, NOW), 1_000), EVERYTHING, None, NOW)


def test_an_empty_target_has_everything_missing(target: Destination) -> None:
    delivered = expected(receipts(target.uri, NOW), 1_000)
    seen = audit(target, delivered, EVERYTHING, None, NOW)
    assert seen.counts == {"missing": len(OBJECTS)}
    assert isinstance(delivered, Delivered)
