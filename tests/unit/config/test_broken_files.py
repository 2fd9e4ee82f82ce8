"""Every way a customer file can be wrong: the line, the key and the fix that its message must hold."""

import pickle
from pathlib import Path

import pytest

from data_export.config.load import load_customer
from data_export.config.problems.problems import BrokenFile

SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
HEAD = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2025-03-16
"""
GS = "connector_type: cloud_storage\nconnector_config:\n  storage_uri: gs://bucket/x/\n  export_images: true\n"
SFTP = "connector_type: sftp\nconnector_config:\n  sftp_remote_path: /x\n  export_images: true\n"
EMAIL = "connector_type: email\nconnector_config:\n  emails: [a@customer.example]\n"
FULL = HEAD + GS

# what the file holds, then for each problem: line, key, words of problem and fix
CASES: dict[str, tuple[str, list[tuple[int | None, str | None, str]]]] = {
    "empty": ("", [(1, None, "is empty: begin with a copy of a file from include/examples")]),
    "only a comment": ("# nothing\n", [(1, None, "is empty")]),
    "null": ("---\n~\n", [(1, None, "is empty")]),
    "a list": ("- a\n- b\n", [(1, None, "is not a mapping: write lines of the form `key: value`")]),
    "a word": ("\n\nhello\n", [(3, None, "is not a mapping")]),
    "two documents": (FULL + "---\n" + FULL, [(8, None, "second document: put each export into a file of its own")]),
    "duplicate key": (FULL + "interval: weekly\n", [(8, "interval", "twice, first on line 2: remove one")]),
    "nested duplicate": (
        FULL + "  if_exists: keep\n  export_images: false\n",
        [(9, "connector_config.export_images", "line 7")],
    ),
    "tab": (
        HEAD + "connector_config:\n\tstorage_uri: x\n",
        [(5, None, "a tab where only spaces may be: indent with spaces")],
    ),
    "unquoted cron": (HEAD + "timezone: *5\n" + GS, [(4, "timezone", "takes for an alias: put the value in quotes")]),
    "unquoted cron of five": ("interval: */5 * * * *\n", [(1, None, "must stand in quotes, e.g. '*/5 * * * *'")]),
    "unquoted at": ("interval: @daily\n", [(1, None, "begins with @ must stand in quotes")]),
    "anchor": (FULL + "owner: &a a@b.example\n", [(8, "owner", "takes for an anchor: put the value in quotes")]),
    "tag": (
        FULL + "owner: !!python/object/apply:os.system [id]\n",
        [(8, "owner", "takes for a tag: put the value in quotes")],
    ),
    "open bracket": ("site_id: [a,\ninterval: daily\n", [(1, None, "a bracket opens here and is not closed")]),
    "open quote": ("\ninterval: 'daily\nowner: x\n", [(2, None, "a quotation mark opens here and is never closed")]),
    "colon in a value": ("a: 1\npassphrase: hunter2: x\n", [(2, None, "put a value that holds ': ' in quotes")]),
    "indentation": ("  a: 1\nb: 2\n", [(2, None, "begin the keys of one level in the same column")]),
    "bad escape": ('a: "\\q"\n', [(1, None, "unknown escape character")]),
    "deep": ("a: " + "[" * 20000, [(1, None, "nested too deep")]),
    "key that is a list": (FULL + "? [a]\n: b\n", [(8, None, "has a key that is no text")]),
    "unknown key": (FULL + "exporttype: x\n", [(8, "exporttype", "did you mean export_type?")]),
    "required key misspelt": (
        FULL.replace("interval", "intervall"),
        [(1, "interval", "is missing"), (2, "intervall", "did you mean interval?")],
    ),
    "two required keys misspelt": (
        FULL.replace("site_id", "site_ids").replace("start_date", "start-date"),
        [
            (1, "site_id", "is missing"),
            (1, "start_date", "is missing"),
            (1, "site_ids", "did you mean site_id?"),
            (3, "start-date", "did you mean start_date?"),
        ],
    ),
    "key misspelt and its value wrong": (
        FULL.replace("interval: daily", "Interval: dayly"),
        [(1, "interval", "is missing"), (2, "Interval", "did you mean interval?")],
    ),
    "key misspelt beside the right one": (FULL + "intervall: daily\n", [(8, "intervall", "did you mean interval?")]),
    "end of once misspelt": (
        FULL.replace("daily", "once") + "end_dat: 2025-04-01\n",
        [(1, "end_date", "is missing"), (8, "end_dat", "did you mean end_date?")],
    ),
    "connector type misspelt": (
        FULL.replace("connector_type", "conector_type"),
        [(1, "connector_type", "is missing: write"), (4, "conector_type", "did you mean connector_type?")],
    ),
    "connector config misspelt, and a key in it": (
        FULL.replace("connector_config", "connector_conf").replace("storage_uri", "storage_url"),
        [
            (1, "connector_config", "is missing"),
            (5, "connector_conf", "did you mean connector_config?"),
        ],
    ),
    "nested key misspelt": (
        FULL.replace("export_images", "export_image"),
        [
            (5, "connector_config.export_images", "is missing"),
            (7, "connector_config.export_image", "did you mean export_images?"),
        ],
    ),
    "password of a server": (
        HEAD + SFTP + "  conn_id: acme\n  sftp_password: x\n  Access-Key: y\n  client_secret: z\n",
        [
            (
                9 + k,
                f"connector_config.{key}",
                "put passwords and other secrets into an Airflow connection, named by conn_id",
            )
            for k, key in enumerate(("sftp_password", "Access-Key", "client_secret"))
        ],
    ),
    "passphrase misspelt": (
        HEAD + SFTP + "  conn_id: acme\n  sftp_passphrase: x\n",
        [(9, "connector_config.sftp_passphrase", "did you mean sftp_private_key_passphrase?")],
    ),
    "merge conflict": (
        FULL.replace("interval: daily\n", "<<<<<<< HEAD\ninterval: daily\n=======\ninterval: weekly\n>>>>>>> theirs\n"),
        [(2, None, "a merge conflict stands here: keep one version, and remove the lines <<<<<<<, =======")],
    ),
    "merge conflict in a list": (
        FULL.replace(f"[{SITE}]", f"[\n<<<<<<< HEAD\n{SITE},\n||||||| base\n=======\n>>>>>>> theirs\n]"),
        [(2, None, "a merge conflict stands here")],
    ),
    "half of a merge conflict": (FULL + "=======\r\nowner: a@b.example\n", [(8, None, "a merge conflict stands here")]),
    "other half of a merge conflict": (FULL + ">>>>>>> theirs\n", [(8, None, "a merge conflict stands here")]),
    "of four keys two misspelt": (
        HEAD + SFTP + "  sftp_host: a\n  sftp_user: b\n  sftp_private_key: /c\n",
        [
            (5, "connector_config.sftp_username", "is missing: write it, or name"),
            (5, "connector_config.sftp_private_key_path", "is missing: write it, or name"),
            (5, "connector_config.sftp_host_key", "is missing: write it, or name"),
            (9, "connector_config.sftp_user", "did you mean sftp_username?"),
            (10, "connector_config.sftp_private_key", "did you mean sftp_private_key_path?"),
        ],
    ),
    "unknown yaml 1.1 key": (FULL + "on: x\n", [(8, "on", "not a key that is known here")]),
    "misplaced down": (FULL + "  owner: x\n", [(8, "connector_config.owner", "belongs at the top level")]),
    "misplaced up": (
        FULL + "if_exist: keep\nstorage_uri: x\n",
        [(8, "if_exist", "remove it"), (9, "storage_uri", "under connector_config")],
    ),
    "misplaced up, of every connector": (
        HEAD + SFTP + "  conn_id: a\nif_exists: keep\n",
        [(9, "if_exists", "belongs under connector_config: move it there, indented")],
    ),
    "of another connector": (
        FULL + "  emails: []\n",
        [(8, "connector_config.emails", "is a key of connector_type email")],
    ),
    "missing keys": (
        GS,
        [(1, "site_id", "is missing: add it (sites"), (1, "interval", "once, hourly"), (1, "start_date", "is missing")],
    ),
    "missing nested key": (
        HEAD + GS.replace("  export_images: true\n", ""),
        [(5, "connector_config.export_images", "is missing: add it")],
    ),
    "empty value": (HEAD + "timezone:\n" + GS, [(4, "timezone", "is empty: give it a value, or remove it")]),
    "no list": (FULL.replace("[", "").replace("]", ""), [(1, "site_id", f"e.g. [{SITE}]")]),
    "no uuid": (
        f"site_id:\n  - {SITE}\n  - 433a\n" + FULL.partition("\n")[2],
        [(3, "site_id[1]", "'433a' is not a uuid")],
    ),
    "no uuid at all": ("site_id: [433a]\n" + FULL.partition("\n")[2], [(1, "site_id[0]", "'433a' is not a uuid")]),
    "site twice": (FULL.replace("]", f", {SITE.upper()}]"), [(1, "site_id", f"{SITE} twice")]),
    "no sites": (FULL.replace(SITE, ""), [(1, "site_id", "is an empty list: name at least one")]),
    "export type": (FULL + "export_type: work-order-state\n", [(8, "export_type", "did you mean work-orders-states?")]),
    "file format": (FULL + "file_format: csv\n", [(8, "file_format", "'csv' is not one of json")]),
    "interval": (FULL.replace("daily", "Daly"), [(2, "interval", "did you mean daily?")]),
    "cron preset": (FULL.replace("daily", "'@weekly'"), [(2, "interval", "did you mean weekly?")]),
    "cron of four": (FULL.replace("daily", "0 6 * *"), [(2, "interval", "five fields such as '0 6 * * 1'")]),
    "cron out of range": (
        FULL.replace("daily", "0 25 * * *"),
        [(2, "interval", "its hour '25' is not valid: write *, or 0-23")],
    ),
    "a password of a server": (
        HEAD + SFTP + "  sftp_pass: x\n  conn_id: a\n",
        [(8, "connector_config.sftp_pass", "put passwords and other secrets into an Airflow connection")],
    ),
    "a passphrase under another name": (
        HEAD + SFTP + "  passphrase: x\n  conn_id: a\n",
        [(8, "connector_config.passphrase", "did you mean sftp_private_key_passphrase?")],
    ),
    "a key of a cloud": (
        FULL + "  keyfile_dict: x\n",
        [(8, "connector_config.keyfile_dict", "put passwords and other secrets into an Airflow connection")],
    ),
    "cron minute": (
        FULL.replace("daily", "60 * * * *"),
        [(2, "interval", "its minute '60' is not valid: write")],
    ),
    "cron day": (FULL.replace("daily", "0 0 0 * *"), [(2, "interval", "its day of the month '0' is not valid")]),
    "cron month": (FULL.replace("daily", "0 0 1 foo *"), [(2, "interval", "its month 'foo' is not valid")]),
    "cron weekday": (FULL.replace("daily", "0 0 * * 1-9"), [(2, "interval", "its weekday '1-9' is not valid")]),
    "cron step": (FULL.replace("daily", "'*/0 * * * *'"), [(2, "interval", "its minute '*/0' is not valid")]),
    "cron's word": (FULL.replace("daily", "'@daily'"), [(2, "interval", "'@daily' is neither")]),
    "uuid alone": (
        FULL.replace("[", "").replace("]", ""),
        [(1, "site_id", "is not a list: write it in brackets, e.g. [4")],
    ),
    "no uuid, and alone": (
        "site_id: 433a60f6\n" + FULL.partition("\n")[2],
        [(1, "site_id", "e.g. [first, second]; and '433a60f6' is not a uuid: copy it whole")],
    ),
    "one of two that are no list": (
        FULL.replace("[", "").replace("]", ", 12", 1),
        [(1, "site_id", "e.g. [first, second]; and '12' is not a uuid: copy it whole")],
    ),
    "cron never": (FULL.replace("daily", "0 0 30 2 *"), [(2, "interval", "no such day ever comes")]),
    "cron at random": (FULL.replace("daily", "R R * * *"), [(2, "interval", "its minute 'R' is not valid")]),
    "sexagesimal": (FULL.replace("daily", "1:30"), [(2, "interval", "'1:30' is neither")]),
    "date": (
        FULL.replace("2025-03-16", "16.3.2025"),
        [(3, "start_date", "'16.3.2025' is not a date or date-time that exists: write e.g. 2025")],
    ),
    "date that is not": (FULL.replace("2025-03-16", "2025-02-30"), [(3, "start_date", "that exists")]),
    "date as a number": (FULL.replace("2025-03-16", "20250316"), [(3, "start_date", "write e.g. 2025-03-16")]),
    "fraction": (FULL.replace("2025-03-16", "2025-03-16T00:00:00.5"), [(3, "start_date", "write e.g. 2025-03-16")]),
    "year": (FULL.replace("2025-03-16", "0001-01-01"), [(3, "start_date", "years go from 1970")]),
    "end before start": (
        FULL + "end_date: 2025-03-16\n",
        [(8, "end_date", "is not after start_date 2025-03-16: write a later date")],
    ),
    "once without end": (FULL.replace("daily", "once"), [(1, "end_date", "is missing: interval once exports")]),
    "time zone": (FULL + "timezone: Paris\n", [(8, "timezone", "is not a time zone of the IANA database")]),
    "time zone's folder": (FULL + "timezone: Europe\n", [(8, "timezone", "not a time zone")]),
    "time zone elsewhere": (FULL + "timezone: ../../etc/passwd\n", [(8, "timezone", "not a time zone")]),
    "boolean": (FULL + "enabled: maybe\n", [(8, "enabled", "'maybe' is neither true nor false")]),
    "boolean of YAML 1.1": (FULL + "enabled: on\n", [(8, "enabled", "'on' is neither true nor false: write one of")]),
    "number of YAML 1.1": (
        FULL + "limits: {max_window_days: 4_0_0, max_active_runs: 010, settle_minutes: +5, late_after_hours: 1_0.5}\n",
        [
            (8, "limits.max_window_days", "'4_0_0' is not a whole number: write it in digits alone"),
            (8, "limits.max_active_runs", "'010' is not a whole number"),
            (8, "limits.settle_minutes", "'+5' is not a whole number"),
            (8, "limits.late_after_hours", "'1_0.5' is not a number: write it in digits"),
        ],
    ),
    "cron too long for a tag": (
        FULL.replace("daily", ",".join(map(str, range(0, 60, 2))) + " 6,7,8,9,10,11,12,13,14 * * 1,2,3,4,5"),
        [(2, "interval", "its 121 characters are more than 100: write ranges and steps, such as 0-58/2")],
    ),
    "limit of another name": (
        FULL + "limits:\n  max_days: 3\n",
        [(9, "limits.max_days", "did you mean max_window_days?): remove it, or use one of max_window_days, earliest")],
    ),
    "limits are numbers and days": (
        FULL + "limits:\n  max_window_days: 0\n  earliest: 2024-01-01T06:00\n  max_active_runs: many\n",
        [
            (9, "limits.max_window_days", "'0' is too small: write 1 or more"),
            (10, "limits.earliest", "has a time of day: write the date only"),
            (11, "limits.max_active_runs", "'many' is not a whole number"),
        ],
    ),
    "limits are no mapping": (FULL + "limits: 3\n", [(8, "limits", "'3' is not a mapping: write its keys on")]),
    "limit at the top level": (FULL + "settle_minutes: 3\n", [(8, "settle_minutes", "belongs under limits: move it")]),
    "no limit": (FULL + "limits:\n  owner: x\n", [(9, "limits.owner", "top level: move it out of limits")]),
    "limit that no window keeps": (
        FULL.replace("daily", "monthly") + "limits: {max_window_days: 30}\n",
        [(8, "limits", "max_window_days 30 is less than a window of interval monthly has (31 days)")],
    ),
    "limit that the one window breaks": (
        FULL.replace("daily", "once") + "end_date: 2025-04-16T06:00\nlimits: {max_window_days: 31}\n",
        [(9, "limits", "interval once has (32 days), so none could be exported: write 32 or more")],
    ),
    "owner": (FULL + "owner: bob\n", [(8, "owner", "'bob' is not an e-mail address")]),
    "connector type": (
        FULL.replace("cloud_storage", "cloud-storage"),
        [(4, "connector_type", "did you mean cloud_storage?")],
    ),
    **{
        f"connector type {called}": (
            FULL.replace("connector_type: cloud_storage", f"connector_type: {called}"),
            [(4, "connector_type", "(did you mean cloud_storage?)")],
        )
        for called in ("s3", "S3", "s3://", "gcs", "Azure Blob", "abfs", "bucket")
    },
    **{
        f"connector type {called}": (
            FULL.replace("connector_type: cloud_storage", f"connector_type: {called}"),
            [(4, "connector_type", f"{called!r} is another protocol than SFTP: write sftp if the server offers SFTP")],
        )
        for called in ("ftp", "FTPS")
    },
    "connector type smtp": (
        HEAD + "connector_type: smtp\nconnector_config: {emails: [bi@customer.example]}\n",
        [(4, "connector_type", "(did you mean email?)")],
    ),
    "connector type's list": (
        FULL.replace("cloud_storage", "[sftp]"),
        [(4, "connector_type", "is not one of email, cloud_storage, sftp")],
    ),
    "no connector type": (
        HEAD + GS.partition("\n")[2],
        [(1, "connector_type", "is missing: write connector_type: cloud_storage")],
    ),
    "no connector at all": (
        HEAD,
        [
            (1, "connector_type", "write one of email"),
        ],
    ),
    "unknown connector and more": (
        "interval: x\nconnector_type: webdav\nconnector_config: {}\n",
        [
            (1, "site_id", "is missing"),
            (1, "interval", "'x'"),
            (1, "start_date", "is missing"),
            (2, "connector_type", "'webdav' is not one of"),
        ],
    ),
    "config is no mapping": (
        HEAD + "connector_type: sftp\nconnector_config: x\n",
        [(5, "connector_config", "write its keys on the lines below")],
    ),
    "images by mail": (
        HEAD + EMAIL + "  export_images: true\n",
        [(7, "connector_config.export_images", "or use cloud_storage or sftp")],
    ),
    "mail address": (
        HEAD + EMAIL.replace("[", "['x\\n@y.example', "),
        [(6, "connector_config.emails[0]", "is not an e-mail address")],
    ),
    "mail address twice": (
        HEAD + EMAIL.replace("[", "[A@customer.example, "),
        [(6, "connector_config.emails", "twice: remove one")],
    ),
    "link for too long": (
        HEAD + EMAIL + "  link_ttl_hours: 169\n",
        [(7, "connector_config.link_ttl_hours", "'169' is too big: write 168 or less")],
    ),
    "link for a while": (
        HEAD + EMAIL + "  link_ttl_hours: 12h\n",
        [(7, "connector_config.link_ttl_hours", "'12h' is not a whole number")],
    ),
    "scheme": (
        FULL.replace("gs://", "https://"),
        [(6, "connector_config.storage_uri", "does not begin with gs:// or s3://")],
    ),
    "local": (
        FULL.replace("gs://bucket/", "file:///srv/"),
        [(6, "connector_config.storage_uri", "file:// is for demo and tests")],
    ),
    "conn_id that is a path": (
        FULL + "  conn_id: ../variables/x\n",
        [(8, "connector_config.conn_id", "is not the id of")],
    ),
    "conn_id that is a folder": (FULL + "  conn_id: '..'\n", [(8, "connector_config.conn_id", "is not the id of")]),
    "impersonate on s3": (
        FULL.replace("gs:", "s3:") + "  impersonate: x@y.example\n",
        [(8, "connector_config.impersonate", "works with gs:// only")],
    ),
    "key of KMS without it": (
        FULL.replace("gs:", "s3:") + "  sse: AES256\n  sse_kms_key_id: alias/a\n",
        [(9, "connector_config.sse_kms_key_id", "works with sse: aws:kms or aws:kms:dsse only: set one, or remove")],
    ),
    "sftp without server": (
        HEAD + SFTP,
        [
            (5, f"connector_config.{key}", "is missing: write it, or name an Airflow connection in conn_id")
            for key in ("sftp_host", "sftp_username", "sftp_private_key_path", "sftp_host_key")
        ],
    ),
    "sftp twice": (
        HEAD + SFTP + "  conn_id: a\n  sftp_host: b\n  sftp_port: 23\n",
        [
            (9, "connector_config.sftp_host", "combined with conn_id"),
            (10, "connector_config.sftp_port", "combined with conn_id"),
        ],
    ),
    "sftp port": (
        HEAD + SFTP + "  conn_id: a\n  sftp_port: 22:22\n",
        [(9, "connector_config.sftp_port", "'22:22' is not a whole number")],
    ),
    "direct and keep": (
        HEAD + SFTP + "  conn_id: a\n  sftp_upload: direct\n  if_exists: keep\n",
        [(9, "connector_config.sftp_upload", "direct works with if_exists: replace only, not keep")],
    ),
    "home folder": (
        HEAD + SFTP.replace("/x", "~/x") + "  conn_id: a\n",
        [(6, "connector_config.sftp_remote_path", "leave '~/' out")],
    ),
}


def problems_of(path: Path, text: str | bytes) -> BrokenFile:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BrokenFile) as caught:
        load_customer(path)
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_each_problem_has_line_key_and_fix(case: str, tmp_path: Path) -> None:
    text, expected = CASES[case]
    found = problems_of(tmp_path / "acme.yaml", text).problems
    assert [(problem.line, problem.key) for problem in found] == [(line, key) for line, key, _ in expected]
    for problem, (line, key, words) in zip(found, expected, strict=True):
        assert words in problem.message
        assert str(problem) == f"{tmp_path}/acme.yaml:{line}: " + (f"{key}: " if key else "") + problem.message


BYTES: dict[str, tuple[bytes, int | None, str]] = {
    "NUL": (b"a: 1\nb: \x00\n", 2, "control character U+0000"),
    "escape sequence": (b"a: 1\n\nb: \x1b[31m\n", 3, "control character U+001B"),
    "Latin-1": ("a: 1\nb: café\n".encode("latin-1"), 2, "is not UTF-8 text: save it as UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), 1, "is not UTF-8 text"),
    "too big": (b"a: " + b"x" * 65536, None, "is bigger than 64 KiB: split it into several exports"),
    "laughs": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 1, "anchor"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_settings(case: str, tmp_path: Path) -> None:
    data, line, words = BYTES[case]
    first = problems_of(tmp_path / "acme.yaml", data).problems[0]
    assert first.line == line
    assert words in first.message


@pytest.mark.parametrize(
    "name",
    ["Acme.yaml", "acme_x.yaml", "-a.yaml", "a.b.yaml", "é.yaml", "a" * 64 + ".yaml", "a.yml", "a.YAML", "a\nb.yaml"],
)
def test_a_file_name_that_cannot_name_an_export_comes_with_one_that_can(name: str, tmp_path: Path) -> None:
    message = str(problems_of(tmp_path / name, FULL))
    assert "rename it to " in message
    assert "\n" not in message
    proposal = message.rpartition("rename it to ")[2]
    (tmp_path / proposal).write_text(FULL)
    assert load_customer(tmp_path / proposal).scheme == "gs"


def test_messages_stay_short_and_on_one_line(tmp_path: Path) -> None:
    broken = problems_of(tmp_path / "acme.yaml", f"'{'k' * 5000}': 1\ninterval: '{'v' * 5000}'\n\"a\\nb\": 1\n")
    for problem in broken.problems:
        assert len(str(problem)) < 1500
        assert str(problem).isprintable()


def test_the_error_survives_a_process_boundary(tmp_path: Path) -> None:
    broken = problems_of(tmp_path / "acme.yaml", "")
    copy = pickle.loads(pickle.dumps(broken))
    assert copy.problems == broken.problems
    assert str(copy) == str(broken)
