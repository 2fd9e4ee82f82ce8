"""An S3 server for demo and tests."""

import logging
from pathlib import Path
from typing import Self

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer


class S3Server:
    """Serves S3 while the `with` block lasts; its objects live in this process and end with it.

    Any access key is accepted; buckets are addressed by path. `folder` is taken for symmetry with the other servers:
    moto keeps nothing on disk.
    """

    def __init__(self, folder: Path, port: int = 0, *, listen: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self._server = ThreadedMotoServer(listen, port, verbose=False)

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else one line for every request
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        return self._server.get_host_and_port()[1]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def create_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=name)
        client.close()
