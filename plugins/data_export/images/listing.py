"""The list of images that a data file refers to."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self
from uuid import UUID

from data_export.errors import InvalidRecord
from data_export.layout import image_key

_ROWS = 1024
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image: its key at the source, its key at the target, and its number in the list, from 0."""

    source_key: str
    key: str
    number: int = 0

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


class ImageList:
    """A local Parquet file with columns `input_id` (uuid as text) and `file_extension` (text, may be null).

    Iterating reads 1,024 rows at a time, never the whole list. Many tasks of one event loop may share one iterator.
    """

    def __init__(self, path: Path, site_id: UUID, source_key: Callable[[str, str | None], str]) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)
        self._site_id = site_id
        self._source_key = source_key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[ListedImage]:
        """Every image, in the file's order.

        Raises:
            InvalidRecord: an id is not a uuid, or an extension could leave the image's folder.
        """
        number = count()
        for batch in self._file.iter_batches(_ROWS, columns=["input_id", "file_extension"]):
            for input_id, extension in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
                yield self._image(input_id, extension, next(number))

    def _image(self, input_id: str, extension: str | None, number: int) -> ListedImage:
        if not _UUID.fullmatch(input_id):
            raise InvalidRecord(f"list of images: input id {input_id!r} is not a uuid in lower case")
        try:
            key = image_key(self._site_id, input_id, extension)
            return ListedImage(self._source_key(input_id, extension), key, number)
        except ValueError as error:
            raise InvalidRecord(f"image of input {input_id}: {error}") from None
