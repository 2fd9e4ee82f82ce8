"""`file://`: a folder of this machine, for staging on one machine, demo and tests."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from data_export.delivery.base import Store
from data_export.delivery.connector import Connections, Scheme

#: Set by the embedded platform only: address of the server that serves a `file://` staging folder.
LOCAL_LINK_BASE_URL = "DATA_EXPORT_LOCAL_LINK_BASE_URL"


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    from data_export.delivery.local.store import LocalStore

    return LocalStore(Path(unquote(urlsplit(uri).path)), link_base_url=os.environ.get(LOCAL_LINK_BASE_URL))


SCHEME = Scheme("file", _open, has_buckets=False)
