"""What a customer file says of comparing images reaches the copy."""

from pathlib import Path
from uuid import UUID

import pytest

from data_export import layout
from tests.pipeline.staged_run import SITE, StagedRuns, export_to
from tests.unit.memory_store import MemoryStore

IMAGE = str(UUID(int=1))


@pytest.mark.parametrize(("verify", "replaced"), [("size", False), ("read-back", True)])
def test_images_of_equal_size_are_read_back_where_the_customer_wants_that(
    tmp_path: Path, verify: str, replaced: bool
) -> None:
    target = MemoryStore(checksums=False)  # as an SFTP server
    runs = StagedRuns(tmp_path, target)
    runs.export = export_to("sftp", verify=verify)
    runs.image(IMAGE, b"new")
    target.objects[layout.image_key(SITE, IMAGE, ".png")] = b"old"
    (site,) = runs.whole(b'{"id":1}\n', [IMAGE]).sites
    assert site.images is not None
    assert site.images.copied == replaced
    assert target.objects[layout.image_key(SITE, IMAGE, ".png")] == (b"new" if replaced else b"old")
