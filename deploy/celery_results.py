"""Makes the database and the login in which Celery's workers keep the results of tasks; safe to repeat.

Workers have this login. It can connect to its own database alone, so Airflow's tables, which hold connections and
users, are out of their reach. Needs Airflow's own login, which may create both, in
`AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`, and the new login's password in `CELERY_RESULTS_PASSWORD`.
"""

import os

import psycopg2
from psycopg2 import sql

NAME = "celery"


def main() -> None:
    """Sets the password anew, so that a changed one is in force after the next start."""
    connection = psycopg2.connect(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "", 1))
    connection.autocommit = True  # a database cannot be created within a transaction
    name, airflow = sql.Identifier(NAME), sql.Identifier(connection.info.dbname)
    password = sql.Literal(os.environ["CELERY_RESULTS_PASSWORD"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME])
        verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
        rights = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
        cursor.execute(sql.SQL("{} ROLE {} {} PASSWORD {}").format(verb, name, rights, password))
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME])
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        for database in (airflow, name, *map(sql.Identifier, ("postgres", "template1"))):
            cursor.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))


if __name__ == "__main__":
    main()
