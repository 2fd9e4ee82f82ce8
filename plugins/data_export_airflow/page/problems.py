"""The broken customer files, as the dag-processor last reported them.

The import error of `dags/config_errors.py` is read, not the files: it costs nothing at 5,000 files, agrees with what
Airflow runs, and is there where the API server has no customer files at all.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

from airflow.models.errors import ParseImportError
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export.config.fields import SUFFIXES, name_meant
from data_export.config.models import dag_id

SOURCE_FILE = "config_errors.py"
_LINE = re.compile(r"(?P<path>.+?\.ya?ml|[^:]+)(?::(?P<line>\d+))?: (?P<message>.+)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of the report; `dag_id` is None where it is about the folder."""

    file: str
    line: int | None
    message: str
    dag_id: str | None


def problems(session: Session) -> list[Problem]:
    """Every problem, in order of files."""
    texts = session.scalars(
        select(ParseImportError.stacktrace).where(ParseImportError.filename.endswith(SOURCE_FILE, autoescape=True))
    )
    return [problem for text in texts for problem in parse(text or "")]


def parse(report: str) -> list[Problem]:
    """The lines `file:line: key: problem and fix` that follow the report's heading."""
    found = (_LINE.fullmatch(line) for line in report.splitlines()[1:])
    return [_problem(match["path"], match["line"], match["message"]) for match in found if match]


def _problem(path: str, line: str | None, message: str) -> Problem:
    file = PurePath(path)
    name = name_meant(file) if file.suffix.lower() in SUFFIXES else None
    return Problem(file.name, int(line) if line else None, message, dag_id(name) if name else None)
