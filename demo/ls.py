"""`make ls`: where the files of every demo customer are, and how to look at them; with `make up` running or not."""

import json
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import boto3
import httpx
from botocore.config import Config

from data_export.config.load import load_customers
from data_export.config.models import CustomerExport
from data_export.delivery.registry import CloudStorageConfig
from data_export.delivery.sftp.config import SftpConfig
from data_export.errors import DataExportError
from demo.mailbox import link_of
from demo.servers.abfs import ACCOUNT, KEY

#: Below the state folder; the servers of Cloud Storage and SFTP keep every object as a file of its own.
GCS_FOLDER = Path("gcs") / ".cloudstorage"
SFTP_FOLDER = Path("sftp") / "files"


def show_files(state: Path) -> Iterator[str]:
    """Lines of text: of each target its address, its folder on this machine, and what is there, of images the number.

    Raises:
        DataExportError: nothing was delivered yet.
    """
    if not (state / "ports.json").exists():
        raise DataExportError(f"{state} holds nothing yet: run `make demo` or `make up` first")
    ports = json.loads((state / "ports.json").read_text())
    for name, export in load_customers().exports.items():
        yield from _target(state, ports, name, export)


def _target(state: Path, ports: dict[str, int], name: str, export: CustomerExport) -> Iterator[str]:
    config = export.connector_config
    if isinstance(config, SftpConfig):
        folder = state / SFTP_FOLDER / config.sftp_remote_path.strip("/")
        yield f"\n{name}: sftp://127.0.0.1:{ports['sftp']}{config.sftp_remote_path}"
        yield f"  on this machine: {folder}"
        yield from _tree(_names(folder))
    elif isinstance(config, CloudStorageConfig):
        yield f"\n{name}: {config.storage_uri}"
        yield from _bucket(state, ports, config)
    else:
        mails = sorted((state / "mail").glob("*.eml"))
        count = f"{len(mails)} mail{'s' * (len(mails) != 1)}"
        yield f"\n{name}: mails to {', '.join(config.recipients())}"
        yield f"  on this machine: {state / 'mail'}/*.eml, {count}; while `make up` runs, their links work:"
        for path in mails:
            mail = message_from_bytes(path.read_bytes(), policy=default)
            yield from (f"    {line}" for line in (mail["Subject"], link_of(mail)) if line)


def _bucket(state: Path, ports: dict[str, int], config: CloudStorageConfig) -> Iterator[str]:
    parts = urlsplit(config.storage_uri)
    within = f"{parts.netloc}{parts.path}"
    if config.kind == "gs":
        yield f"  on this machine: {state / GCS_FOLDER / within}"
        yield f"  over HTTP, while `make up` runs: http://127.0.0.1:{ports['gcs']}/storage/v1/b/{parts.netloc}/o"
        yield from _tree(_names(state / GCS_FOLDER / within))
        return
    if config.kind == "abfs":
        yield from _container(state, ports.get("abfs", 0), parts.netloc.partition("@")[0], parts.path.lstrip("/"))
        return
    url = f"http://127.0.0.1:{ports['s3']}"
    yield f"  on this machine, once `make up` or `make demo` has ended: {state / 's3' / within}"
    yield "  with the AWS command line, while `make up` runs:"
    yield f"    AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo aws --endpoint-url {url} s3 ls --recursive s3://{within}"
    names = _served(url, parts.netloc, parts.path.lstrip("/"))
    yield from _tree(_names(state / "s3" / within) if names is None else names)


def _container(state: Path, port: int, container: str, prefix: str) -> Iterator[str]:
    """Azurite keeps contents in a form of its own, and their names in a file that it writes every few seconds."""
    if not port:
        yield "  not delivered to: there is no azurite-blob on this machine (npm install -g azurite)"
        return
    at = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    yield "  with the Azure command line, while `make up` runs:"
    yield f"    az storage blob list -c {container} --prefix {prefix} --connection-string '{at}' -o table"
    kept = state / "abfs" / "__azurite_db_blob__.json"
    collections = json.loads(kept.read_text())["collections"] if kept.exists() else []
    blobs = [blob for one in collections if one["name"] == "$BLOBS_COLLECTION$" for blob in one["data"]]
    names = [blob["name"] for blob in blobs if blob["containerName"] == container and blob["isCommitted"]]
    yield from _tree(sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix)))


def _served(url: str, bucket: str, prefix: str) -> list[str] | None:
    """What the S3 server has; None where it does not run."""
    try:
        httpx.get(url, timeout=2, trust_env=False)
    except httpx.TransportError:
        return None
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", []))


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _tree(names: list[str]) -> Iterator[str]:
    """Every file, of images their number."""
    images = Counter(str(PurePosixPath(name).parent) for name in names if "/inputs/" in name)
    yield from (f"    {name}" for name in names if "/inputs/" not in name)
    yield from (f"    {folder}/: {number} images" for folder, number in images.items())
    if not names:
        yield "    nothing yet"
