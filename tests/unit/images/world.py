"""What the tests of `copy_images` copy: some images in a source, a list that names them, an empty target."""

from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from data_export.images import CopyLimits, copy_images, source_key_of
from data_export.receipt import ImagesCopied
from tests.unit.memory_store import MemoryStore

SITE = UUID("433a60f6-9756-473e-b1e9-9e89e24bb787")
SOURCE_KEY = source_key_of("{site_id}/{input_id}{file_extension}", SITE)
QUICK = CopyLimits(backoff_seconds=0)


def input_id(n: int) -> str:
    return str(UUID(int=n))


def target_key(n: int) -> str:
    return f"{SITE}/inputs/{input_id(n)}.png"


def source_key(n: int) -> str:
    return SOURCE_KEY(input_id(n), ".png")


def write_list(path: Path, ids: list[str], extensions: list[str | None]) -> Path:
    pq.write_table(
        pa.table({"input_id": pa.array(ids, pa.string()), "file_extension": pa.array(extensions, pa.string())}), path
    )
    return path


class World:
    """Forty images in a source store, a list that names them, and an empty target."""

    def __init__(self, tmp_path: Path, source: MemoryStore, target: MemoryStore, count: int = 40) -> None:
        self.source, self.target, self.count = source, target, count
        for n in range(count):
            source.objects[source_key(n)] = b"%d " % n * (n + 1)
        self.list = write_list(tmp_path / "images.parquet", [input_id(n) for n in range(count)], [".png"] * count)

    @property
    def expected(self) -> dict[str, bytes]:
        return {target_key(n): b"%d " % n * (n + 1) for n in range(self.count)}

    async def copy(self, limits: CopyLimits = QUICK, **options: object) -> ImagesCopied:
        return await copy_images(
            options.pop("images", self.list),
            site_id=SITE,
            source=self.source,
            source_key=SOURCE_KEY,
            destination=self.target,
            limits=limits,
            **options,
        )
