"""Every request goes the way on which boto3 would send it, whichever library does."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from data_export.delivery.retry import Patience
from data_export.errors import TargetUnavailable
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.s3 import S3Server
from tests.connectors.s3.stores import Open, all_of

KINDS = {"HEAD", "PUT", "DELETE", "GET"}


async def test_by_the_proxy_of_the_connection(opened: Open, proxy: FaultProxy, server: S3Server) -> None:
    await all_of(opened(server.url, proxies={"http": proxy.url}))
    assert {request.method for request in proxy.seen} == KINDS
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


async def test_by_the_proxy_of_the_environment(
    opened: Open, proxy: FaultProxy, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    await all_of(opened(server.url))
    assert {request.method for request in proxy.seen} == KINDS
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


@pytest.mark.parametrize(("settings", "spared"), [({"proxies": {}}, ""), ({}, "127.0.0.1")])
async def test_by_no_proxy_where_connection_or_environment_says_so(
    opened: Open, server: S3Server, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], spared: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", spared)
    await all_of(opened(server.url, **settings))


async def test_the_users_netrc_is_nobodys_business(
    opened: Open, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await all_of(opened(server.url))


async def test_to_an_address_that_ends_in_a_slash(opened: Open, proxy: FaultProxy) -> None:
    await all_of(opened(f"{proxy.url}/"))
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


async def test_under_the_name_that_the_connection_gives(opened: Open, proxy: FaultProxy) -> None:
    await all_of(opened(proxy.url, user_agent_extra="Airflow/3 of-the-customer"))
    assert [one for one in proxy.seen if not one.headers["User-Agent"].endswith("of-the-customer")] == []


async def test_with_the_headers_and_cookies_of_a_talkative_gateway(opened: Open, server: S3Server) -> None:
    async def talk(request: Exchange, forward: Forward) -> Answer:
        assert "Cookie" not in request.headers
        answer = await forward(request)
        answer.headers.update({"Content-Security-Policy": "a" * 30_000, "Set-Cookie": "node=1; Path=/"})
        return answer

    with FaultProxy(server.url, talk) as proxy:
        await all_of(opened(proxy.url.replace("127.0.0.1", "localhost")))
        assert len(proxy.requests("HEAD", "/copy")) == 2, "no answer is taken for a broken connection"


@pytest.mark.parametrize("slow", [re.compile("HEAD .*image"), re.compile("PUT .*copy"), re.compile("GET .*copy")])
async def test_an_answer_may_take_as_long_as_the_connection_says(
    opened: Open, server: S3Server, slow: re.Pattern[str]
) -> None:
    async def wait(request: Exchange, forward: Forward) -> Answer:
        if slow.match(f"{request.method} {request.path}"):
            await asyncio.sleep(2)
        return await forward(request)

    with FaultProxy(server.url, wait) as proxy:
        await all_of(opened(proxy.url, patience=Patience(tries=1, answer=1), read_timeout=30))


@pytest.mark.parametrize(("method", "path"), [("HEAD", "image"), ("PUT", "copy"), ("GET", "copy")])
async def test_and_no_longer(opened: Open, proxy: FaultProxy, method: str, path: str) -> None:
    proxy.stall(method=method, path=path)
    with pytest.raises(TargetUnavailable, match="no proper answer from S3"):
        await asyncio.wait_for(all_of(opened(proxy.url, patience=Patience(tries=1), read_timeout=1)), 20)
