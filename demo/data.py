"""Deterministic demo data: three sites, five days, the records' oddities, and a small real image for every input.

The same seed always gives the same rows and the same bytes, so that whatever is delivered can be foretold.
"""

import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

PARIS, LYON, LILLE = (
    UUID("433a60f6-9756-473e-b1e9-9e89e24bb787"),
    UUID("5d0c0be2-6f4e-4f0a-9c2e-2f6d1b7f3a10"),
    UUID("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"),
)
SITES = (PARIS, LYON, LILLE)
FIRST_DAY = datetime(2025, 3, 15, tzinfo=UTC)
DAYS = 5
ORDERS_PER_DAY = 24
EXAMPLE = Path(__file__).with_name("example.json")

_NAMES = (
    "FTTH",
    "Épissure n°7",
    "屋外キャビネット",
    "Überprüfung 🔧",
    'quote " and \\ backslash',
    "tab\tand\nline",
    "صندوق",
)
_TASKS = ("l4_civil_open", "l4_civil_close", "l4_civil_open_floor_closeup")
_VALUES: tuple[tuple[Any, str], ...] = (
    (True, "OK"),
    (False, "KO"),
    (0.0, "0.0"),
    (12, "12"),
    ("UNAVAILABLE", "UNAVAILABLE"),
    ("CMIB-G-X-4NOZAJ", "PON Reference: CMIB-G-X-4NOZAJ"),
    (None, ""),
)
_EXTENSIONS = (".png", ".png", ".png", ".PNG", None)

Row = tuple[Any, ...]


COLUMNS = {
    "work_order": ("id", "name", "site_id", "create_date", "update_date", "metadata", "progress_score"),
    "work_item": ("id", "work_order_id", "name", "position"),
    "input": ("id", "work_item_id", "create_date", "file_extension", "metadata"),
    "data_conformity": ("input_id", "check", "code", "level"),
    "job_conformity": (
        "input_id",
        "task_name",
        "analyzed_value",
        "corrected_value",
        "corrected_date",
        "message",
        "is_conformity_validated",
    ),
}


@dataclass(slots=True)
class DemoData:
    """Rows by table, in the order of the columns in `COLUMNS`, and the name of every input's image."""

    tables: dict[str, list[Row]] = field(default_factory=lambda: {table: [] for table in COLUMNS})
    images: list[str] = field(default_factory=list)
    missing_image: str = ""

    def add(self, table: str, *values: Any) -> None:
        self.tables[table].append(values)


def build() -> DemoData:
    """All rows and image names; nothing is read but the example record, nothing is written."""
    data, rng = DemoData(), random.Random(20250316)
    for site_id in SITES:
        for day in range(DAYS):
            if (site_id, day) == (PARIS, 2):
                first_of_day = len(data.images)
            for number in range(ORDERS_PER_DAY):
                _add_order(data, rng, site_id, FIRST_DAY + timedelta(days=day), number)
    # One image that never reached the store: the export must say so and deliver all the rest.
    data.missing_image = data.images[first_of_day]
    _add_example(data)
    return data


def image_bytes(name: str) -> bytes:
    """A 24 x 16 PNG, a different one for every name."""
    rng = random.Random(name)
    rows = b"".join(b"\x00" + rng.randbytes(24 * 3) for _ in range(16))
    header = struct.pack(">IIBBBBB", 24, 16, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def stored_images(data: DemoData) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every image in the image store: all but `missing_image`."""
    for name in data.images:
        if name != data.missing_image:
            yield name, image_bytes(name)


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _add_order(data: DemoData, rng: random.Random, site_id: UUID, day: datetime, number: int) -> None:
    # Number 0 is created at midnight exactly, the first instant of its window; every eighth is touched again a day
    # later, hence is in two windows; every eleventh is bare.
    created = day if number == 0 else day + timedelta(microseconds=rng.randrange(86_400_000_000))
    updated = created + (timedelta(days=1) if number % 8 == 7 else timedelta(seconds=1)) * rng.random()
    order_id, bare = _uuid(rng), number % 11 == 10
    data.add(
        "work_order",
        order_id,
        None if bare else f"{_NAMES[number % len(_NAMES)]} {number:03}",
        site_id,
        created,
        None if bare else updated,
        None if bare else json.dumps({"created_with": rng.choice(["mobile_app", "api"]), "lot": rng.randrange(99)}),
        None if number % 3 == 0 else round(rng.random(), 3),
    )
    for position in range(0 if bare else 1 + number % 3):
        item_id = _uuid(rng)
        data.add("work_item", item_id, order_id, _TASKS[position], position)
        for _ in range((number + position) % 3):
            _add_input(data, rng, site_id, item_id, created)


def _add_input(data: DemoData, rng: random.Random, site_id: UUID, item_id: UUID, created: datetime) -> None:
    input_id, extension = _uuid(rng), rng.choice(_EXTENSIONS)
    taken = created + timedelta(seconds=rng.randrange(300))
    metadata = json.dumps({"timestamp_ms": int(taken.timestamp() * 1000), "geo": [48.85, 2.35]})
    data.add("input", input_id, item_id, taken, extension, rng.choice([metadata, metadata, None]))
    data.images.append(f"{site_id}/{input_id}{extension or ''}")
    if rng.random() < 0.3:
        data.add("data_conformity", input_id, "blur", rng.randrange(1, 9), rng.choice(["error", "warning", None]))
    for task in rng.sample(["_ctx", "_type", "_size", "_geolocation"], rng.randrange(4)):
        value, message = rng.choice(_VALUES)
        corrected = rng.random() < 0.2
        data.add(
            "job_conformity",
            input_id,
            f"l4_civil{task}",
            json.dumps(value),
            json.dumps(not value) if corrected else None,
            taken + timedelta(hours=1) if corrected else None,
            message or None,
            rng.choice([True, False, None]),
        )


def _add_example(data: DemoData) -> None:
    """The record that the service's public page shows as its example."""
    order = json.loads(EXAMPLE.read_text())
    data.add(
        "work_order",
        UUID(order["id"]),
        order["name"],
        UUID(order["site_id"]),
        datetime.fromisoformat(order["create_date"]),
        datetime.fromisoformat(order["update_date"]),
        json.dumps(order["metadata"]),
        order["progress_score"],
    )
    for position, item in enumerate(order["work_items"]):
        data.add("work_item", UUID(item["id"]), UUID(order["id"]), item["name"], position)
        for entry in item["input"]:
            taken = datetime.fromtimestamp(entry["metadata"]["timestamp_ms"] / 1000, UTC)
            data.add("input", UUID(entry["id"]), UUID(item["id"]), taken, ".png", json.dumps(entry["metadata"]))
            data.images.append(f"{order['site_id']}/{entry['id']}.png")
            for job in entry["job_conformity"]:
                data.add(
                    "job_conformity",
                    UUID(entry["id"]),
                    job["task_name"],
                    *(
                        None if job[key] is None else json.dumps(job[key])
                        for key in ("analyzed_value", "corrected_value")
                    ),
                    job["corrected_date"],
                    job["message"],
                    job["is_conformity_validated"],
                )
