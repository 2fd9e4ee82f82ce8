"""Two sets of customer files, compared by what they mean."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_export.config.load import Loaded, load_customers
from data_export.review import Change, KeyChange, compare

Compared = Callable[[dict[str, str], dict[str, str]], list[Change]]
SITE, OTHER = "433a60f6-9756-473e-b1e9-9e89e24bb787", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
CLOUD = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2025-03-16
connector_type: cloud_storage
connector_config:
  storage_uri: gs://bucket/%s
  export_images: true
"""
SFTP = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2025-03-16
connector_type: sftp
connector_config:
  sftp_host: sftp.customer.example
  sftp_username: deepomatic
  sftp_private_key_path: /run/secrets/key
  sftp_private_key_passphrase: %s
  sftp_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T
  sftp_remote_path: /exports
  export_images: true
"""


def loaded(folder: Path, files: dict[str, str]) -> Loaded:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return load_customers(folder)


@pytest.fixture
def changes(tmp_path: Path) -> Compared:
    def compared(before: dict[str, str], after: dict[str, str]) -> list[Change]:
        return compare(loaded(tmp_path / "before", before), loaded(tmp_path / "after", after))

    return compared


def test_every_kind_of_change(changes: Compared) -> None:
    a, b, c, d, e = (CLOUD % name for name in "abcde")
    broken = "interval: dayly"
    found = changes(
        {"same": a, "edited": b, "gone": c, "breaks": d, "broken": broken, "mended": broken},
        {"same": a, "edited": b.replace("daily", "hourly"), "new": e, "breaks": broken, "broken": broken, "mended": c},
    )
    kinds = {change.name: change.kind for change in found}
    assert kinds == {
        "breaks": "broken",
        "broken": "broken",
        "edited": "changed",
        "gone": "removed",
        "mended": "mended",
        "new": "added",
    }
    assert list(kinds) == sorted(kinds)
    assert all(change.problems for change in found if change.kind == "broken")


def test_a_file_under_a_wrong_name_breaks_its_export_unless_there_is_a_right_one(changes: Compared) -> None:
    a, b = CLOUD % "a", CLOUD % "b"
    found = changes({"a": a, "b": b}, {"a": a, "A": a, "B": b})
    assert [(change.name, change.kind) for change in found] == [("A.yaml", "broken"), ("b", "broken")]


def test_what_means_the_same_is_no_change(changes: Compared) -> None:
    before = (CLOUD % "a").replace(f"[{SITE}]", f"[{SITE}, {OTHER}]")
    after = "# a comment\ntimezone: UTC\nenabled: true\nowner: null\n" + before.replace(
        f"[{SITE}, {OTHER}]", f"\n  - {OTHER}\n  - {SITE}"
    ).replace("gs://bucket/a", '"gs://bucket/a/"')
    assert changes({"acme": before}, {"acme": after}) == []


def test_keys_are_named_with_both_values(changes: Compared) -> None:
    before = CLOUD % "a"
    after = (
        before.replace("gs://bucket/a", "s3://bucket/b").replace("daily", "weekly") + "limits: {max_window_days: 31}\n"
    )
    (change,) = changes({"acme": before}, {"acme": after})
    assert change.keys == (
        KeyChange("interval", "daily", "weekly"),
        KeyChange("limits.max_window_days", None, 31),
        KeyChange("connector_config.storage_uri", "gs://bucket/a/", "s3://bucket/b/"),
    )


def test_a_changed_secret_is_told_and_not_shown(changes: Compared) -> None:
    (change,) = changes({"acme": SFTP % "canary-one"}, {"acme": SFTP % "canary-two"})
    (key,) = change.keys
    assert key.key == "connector_config.sftp_private_key_passphrase"
    assert "canary" not in repr(change)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gs://bucket/a", "gs://bucket/b", "new target: history is not moved"),
        ("daily", "weekly", "windows are cut anew"),
        ("interval: daily", "interval: daily\ntimezone: Europe/Paris", "windows are cut anew"),
        (f"[{SITE}]", f"[{SITE}, {OTHER}]", "1 more site, from the next window on"),
        (f"[{SITE}]", f"[{OTHER}]", "1 site fewer; delivered files stay"),
        ("2025-03-16", "2025-03-01", "windows from 2025-03-01 on may be backfilled"),
        ("2025-03-16", "2025-04-01", "windows before 2025-04-01 cannot be exported any more"),
        ("interval: daily", "interval: daily\nend_date: 2026-01-01", "windows end at 2026-01-01, exclusive"),
        ("interval: daily", "interval: once\nend_date: 2026-01-01", "runs by itself only once"),
        ("export_images: true", "export_images: false", "no more images; those delivered stay"),
        ("interval: daily", "interval: daily\nenabled: false", "nothing is scheduled any more"),
        (
            "interval: daily",
            "export_type: work-orders-states\ninterval: daily",
            "new files go to data/work-orders-states/",
        ),
        ("interval: daily", "compression: gzip\ninterval: daily", "new files end in .json.gz, the earlier ones stay"),
        ("interval: daily", "file_format: parquet\ninterval: daily", "a loader must take the .parquet only"),
        ("interval: daily", "manifest: true\ninterval: daily", "manifests come with the next windows"),
        ("interval: daily", "interval: daily\nowner: a@b.example", "holds from the next run on"),
    ],
)
def test_what_a_change_means(changes: Compared, old: str, new: str, words: str) -> None:
    before = CLOUD % "a"
    assert old in before
    (change,) = changes({"acme": before}, {"acme": before.replace(old, new)})
    assert words in " / ".join(change.consequences)


def test_images_and_schedule_switched_on_again(changes: Compared) -> None:
    on = CLOUD % "a"
    off = on.replace("export_images: true", "export_images: false") + "enabled: false\n"
    (change,) = changes({"acme": off}, {"acme": on})
    words = " / ".join(change.consequences)
    assert "images come with the next windows" in words
    assert "enabled again: windows that were left out meanwhile are a backfill" in words


def test_a_file_with_another_name_is_told_as_such(changes: Compared) -> None:
    gone, new = changes({"acme": CLOUD % "a"}, {"acme-eu": CLOUD % "a"})
    assert (gone.kind, new.kind) == ("removed", "added")
    assert new.consequences[-1].startswith("is acme under another name")


def test_the_platforms_own_connection_written_out_is_no_new_target(changes: Compared) -> None:
    plain = CLOUD.replace("gs://", "s3://") % "a"
    ids = {"same": "export_s3", "another": "another"}
    found = changes(dict.fromkeys(ids, plain), {name: f"{plain}  conn_id: {conn}\n" for name, conn in ids.items()})
    assert {each.name: any("new target" in words for words in each.consequences) for each in found} == {
        "same": False,
        "another": True,
    }
