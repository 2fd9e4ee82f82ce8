"""Blobs that are there and are not whole, folders that look like blobs, and answers that only look like Azure's."""

import re
from collections.abc import Callable
from itertools import cycle

import pytest
from azure.storage.blob import BlobServiceClient

from data_export.content import Content
from data_export.errors import ObjectRefused, TargetUnavailable, VerificationFailed
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.strict import PutsFromUrl
from tests.connectors.abfs.stores import store_at
from tests.connectors.contract import DATA_KEY, read_all

NAME = "folder/a.png"


class Changed:
    """Lets the answers to requests of a method be changed on their way."""

    def __init__(self, method: str, change: Callable[[Answer], None]) -> None:
        self._method, self._change = method, change

    async def __call__(self, request: Exchange, forward: Forward) -> Answer:
        answer = await PutsFromUrl()(request, forward)
        if request.method == self._method:
            self._change(answer)
        return answer


def copying(status: str) -> Callable[[Answer], None]:
    """As Azure says it of a blob that somebody has Copy Blob write: empty until that has ended well."""

    def change(answer: Answer) -> None:
        answer.headers["x-ms-copy-status"] = status
        answer.body = re.sub(rb"(?=</Properties>)", b"<CopyStatus>%s</CopyStatus>" % status.encode(), answer.body)

    return change


@pytest.mark.parametrize(
    ("status", "refusal"), [("pending", TargetUnavailable), ("failed", ObjectRefused), ("aborted", ObjectRefused)]
)
async def test_a_blob_that_somebody_still_copies_is_not_taken_for_an_image(
    server: AbfsServer, container: str, status: str, refusal: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(server.url, container) as store:
        await store.create(NAME, Content.of_bytes(b""))
    with FaultProxy(server.url, Changed("HEAD", copying(status))) as proxy:
        async with store_at(proxy.url, container) as source, store_at(proxy.url, container, "to/") as target:
            for look in (source.stat(NAME), target.copy_from(source, NAME, "a.png")):
                with pytest.raises(refusal, match=r"exports/folder/a\.png: somebody's copy to there"):
                    await look
    with FaultProxy(server.url, Changed("GET", copying(status))) as proxy:
        async with store_at(proxy.url, container) as source:
            assert [page async for page in source.files_in("folder")] == [[]]
    assert "exports/: blobs left out of a list, as a copy into each is unfinished or has failed: 1" in caplog.text
    assert "e.g. folder/a.png" in caplog.text
    with FaultProxy(server.url, Changed("GET", copying("success"))) as proxy:
        async with store_at(proxy.url, container) as source:
            assert [len(page) async for page in source.files_in("folder")] == [1]


@pytest.mark.parametrize("mark", ["hdi_isfolder", "Hdi_isfolder", "HDI_ISFOLDER"])
async def test_a_folder_is_no_object_however_its_mark_is_spelled(server: AbfsServer, container: str, mark: str) -> None:
    with BlobServiceClient(f"{server.url}/{ACCOUNT}", KEY) as service:
        service.get_blob_client(container, f"exports/{NAME}").upload_blob(b"", metadata={mark: "true"})
    async with store_at(server.url, container) as store:
        assert [one async for one in store.list("")] == []
        with pytest.raises(ObjectRefused, match="a folder has the name"):
            await store.stat(NAME)


async def test_a_page_of_somebody_elses_xml_is_no_empty_folder(server: AbfsServer, container: str) -> None:
    def page(answer: Answer) -> None:
        answer.body = b"<?xml version='1.0'?><html><body>please sign in</body></html>"

    with FaultProxy(server.url, Changed("GET", page)) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(TargetUnavailable, match="not one of Azure"):
                [one async for one in store.files_in("folder")]


@pytest.mark.parametrize("markers", [[b"again"], [b"one", b"two"]])
async def test_a_list_that_goes_in_a_circle_ends(server: AbfsServer, container: str, markers: list[bytes]) -> None:
    following = cycle(markers)

    def page(answer: Answer) -> None:
        answer.body = re.sub(rb"<NextMarker */>", b"<NextMarker>%s</NextMarker>" % next(following), answer.body)

    with FaultProxy(server.url, Changed("GET", page)) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(TargetUnavailable, match="same page of a list again"):
                [one async for one in store.list("")]


@pytest.mark.parametrize("size", [0, 1000])
async def test_an_answer_that_confirms_no_bytes_is_looked_into(server: AbfsServer, container: str, size: int) -> None:
    content = Content.of_bytes(b"x" * size)
    with FaultProxy(server.url) as proxy:
        proxy.answer(201, method="PUT", times=9)
        async with store_at(proxy.url, container) as store:
            with pytest.raises(VerificationFailed, match=r"where .* was sent"):
                await store.create(DATA_KEY, content)

    def without(answer: Answer) -> None:
        answer.headers.pop("Content-MD5", None)

    with FaultProxy(server.url, Changed("PUT", without)) as proxy:
        async with store_at(proxy.url, container) as store:
            await store.create(DATA_KEY, content)
            assert await read_all(store, DATA_KEY) == b"x" * size
