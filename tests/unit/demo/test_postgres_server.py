"""The embedded PostgreSQL: it keeps its data, and its folder has one master."""

from pathlib import Path

import psycopg
import pytest

from demo.servers.postgres import PostgresServer


def test_the_data_folder_serves_again(tmp_path: Path) -> None:
    for rows in (1, 2):
        with PostgresServer(tmp_path, durable=False) as server:
            with psycopg.connect(server.create_database("kept")) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
                connection.execute("INSERT INTO t VALUES (1)")
                assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows,)
            with pytest.raises(RuntimeError, match="another process"):
                PostgresServer(tmp_path).__enter__()
    assert not (tmp_path / "data" / "postmaster.pid").exists()
