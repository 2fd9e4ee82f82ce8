"""An S3 server for demo and tests."""

import logging
from pathlib import Path
from typing import Any, Self

import boto3
import httpx
from botocore.config import Config
from moto.server import ThreadedMotoServer


class S3Server:
    """Serves S3 while the `with` block lasts.

    Any access key is accepted; buckets are addressed by path. Objects live in this process: with `keeps` they are
    written to `<folder>/<bucket>/<key>` at the end, and read from there at the start.
    """

    def __init__(self, folder: Path, port: int = 0, *, listen: str = "127.0.0.1", keeps: bool = False) -> None:
        self.folder = folder
        self._keeps = keeps
        self.host = "127.0.0.1"
        self._server = ThreadedMotoServer(listen, port, verbose=False)

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else one line for every request
        self._server.start()
        if self._keeps:
            self._load()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._keeps:
                self._save()
        finally:
            self._server.stop()

    def _load(self) -> None:
        client = self._client()
        for bucket in (path for path in self.folder.glob("*") if path.is_dir()):
            client.create_bucket(Bucket=bucket.name)
            for path in (path for path in bucket.rglob("*") if path.is_file()):
                key = path.relative_to(bucket).as_posix()
                client.put_object(Bucket=bucket.name, Key=key, Body=path.read_bytes())
        client.close()

    def _save(self) -> None:
        client, kept = self._client(), set[Path]()
        for bucket in client.list_buckets()["Buckets"]:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
                for entry in page.get("Contents", []):
                    path = self.folder / bucket["Name"] / entry["Key"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(client.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read())
                    kept.add(path)
        for path in self.folder.rglob("*"):  # what was deleted meanwhile
            if path.is_file() and path not in kept:
                path.unlink()
        client.close()

    @property
    def port(self) -> int:
        return self._server.get_host_and_port()[1]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def create_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        client = self._client()
        client.create_bucket(Bucket=name)
        client.close()

    def clear(self) -> None:
        """Forgets all buckets, those of other servers of this process too."""
        httpx.post(f"{self.url}/moto-api/reset", trust_env=False).raise_for_status()

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
