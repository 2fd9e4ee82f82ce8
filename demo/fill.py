"""Puts the demo data where a platform keeps it: records in PostgreSQL, images in its bucket."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql

from demo.data import COLUMNS, DemoData, stored_images

SCHEMA = Path(__file__).with_name("schema.sql")


def fill_source(dsn: str, data: DemoData, reader: str, password: str) -> None:
    """Makes the tables, their rows and a role that may only read them, where they are not there yet."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('work_order')").fetchone() != (None,):
            return
        connection.execute(SCHEMA.read_bytes())
        for table, columns in COLUMNS.items():
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in data.tables[table]:
                    copy.write_row(row)
        role = sql.Identifier(reader)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")


def fill_images(url: str, bucket: str, data: DemoData) -> None:
    """Stores every image that is not yet in the Cloud Storage bucket."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        there = bucket_objects(client, bucket)

        def store(image: tuple[str, bytes]) -> None:
            name, content = image
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
            client.post(path, content=content, headers={"Content-Type": "image/png"}).raise_for_status()

        missing = [image for image in stored_images(data) if image[0] not in there]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store, missing))  # so that what fails is raised


def bucket_objects(client: httpx.Client, bucket: str) -> set[str]:
    """Names of all objects of a Cloud Storage bucket."""
    names: set[str] = set()
    page: dict[str, str] = {}
    while True:
        answer = client.get(f"/storage/v1/b/{bucket}/o", params=page).raise_for_status().json()
        names |= {item["name"] for item in answer.get("items", [])}
        if "nextPageToken" not in answer:
            return names
        page = {"pageToken": answer["nextPageToken"]}
