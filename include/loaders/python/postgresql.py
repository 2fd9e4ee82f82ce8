"""Loads new and changed data files below a folder into PostgreSQL: `python postgresql.py DSN FOLDER`. Safe to repeat.

Needs psycopg and the tables of `postgresql/create.sql`. Each file is one transaction.
"""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from delivered import DataFile, data_files, lines

# No control character is ever in a line of JSON, so none of them needs an escape.
_COPY = (
    r"COPY delivered_line FROM STDIN WITH (FORMAT csv, DELIMITER E'\t', QUOTE E'\x01', ESCAPE E'\x01', ENCODING 'UTF8')"
)


def load(connection: psycopg.Connection, files: Iterable[DataFile]) -> int:
    """Loads the files whose size or time is not that of the file loaded before; says how many."""
    loaded = 0
    for file in files:
        seen = file.path.stat()
        state = seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT bytes, modified_at FROM delivered_file WHERE file = %s", [str(file.path)])
            if cursor.fetchone() == state:
                continue
            # One loader at a time: the lines of two files must not meet.
            cursor.execute("LOCK TABLE delivered_line IN ACCESS EXCLUSIVE MODE")
            cursor.execute("TRUNCATE delivered_line")
            with cursor.copy(_COPY) as copy:
                for line in lines(file):
                    copy.write(line + "\n")
            cursor.execute("SELECT load_delivered(%s, %s, %s)", [str(file.path), *state])
            loaded += 1
    return loaded


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python postgresql.py DSN FOLDER")
    try:
        files = data_files(Path(sys.argv[2]))
    except FileNotFoundError as error:
        sys.exit(str(error))
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        print(f"{load(connection, files)} files loaded")
