"""What the service `init` runs at every start, with stand-ins for the programs that it calls."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.compose_file import compose, filled_env

#: Writes down its arguments and, where it makes a user, the answers to its questions; lists the users it is given.
AIRFLOW = """#!/bin/bash
echo "$@" >> "$CALLS"
case "$1 $2" in
  "users list") cat "$USERS" ;;
  "users create") cat >> "$CALLS" ;;
esac
"""
RENAMED = '[{"id": "1", "username": "anna", "email": "admin@platform.example", "roles": ["Admin"]}]'
OTHER = '[{"id": "2", "username": "bob", "email": "bob@platform.example", "roles": ["Admin"]}]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("airflow", AIRFLOW), ("python", "#!/bin/bash\n")):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)
    return tmp_path


def init(folder: Path) -> tuple[int, str]:
    """Its exit code, and what it called."""
    service = compose(filled_env())["services"]["init"]
    done = subprocess.run(
        service["command"],
        env=service["environment"]
        | {"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(folder / "calls"), "USERS": str(folder / "users")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return done.returncode, (folder / "calls").read_text()


def test_the_first_user_is_made_where_there_is_none(folder: Path) -> None:
    (folder / "users").write_text("[]\n")
    code, calls = init(folder)
    assert code == 0
    made = (
        "users create --role Admin --username admin --email admin@platform.example --firstname Data --lastname Exports"
    )
    lines = calls.splitlines()
    assert lines[:3] == ["db migrate", "users list --output json", made]
    assert len(lines) == 5
    assert lines[3] == lines[4]  # the password, which is asked for twice


@pytest.mark.parametrize("users", [RENAMED, OTHER])
def test_a_first_user_who_was_renamed_or_removed_stays_so(folder: Path, users: str) -> None:
    """Their e-mail address is taken, or their old password would be in force again."""
    (folder / "users").write_text(f"{users}\n")
    assert init(folder) == (0, "db migrate\nusers list --output json\n")


def test_users_that_cannot_be_listed_end_it(folder: Path) -> None:
    code, calls = init(folder)
    assert code != 0
    assert "users create" not in calls
