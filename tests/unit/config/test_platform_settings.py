"""Settings of an installation: environment over file over defaults, and messages that say where the fault is."""

import errno
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import pytest

from data_export.config.platform import ROOT, customers_dir, load_platform, place_of, platform_file, state_dir
from data_export.config.reading import file_text
from data_export.errors import ConfigError

MINIMAL = """\
source: {images_uri: "gs://images/{site_id}/{input_id}{file_extension}"}
staging: {uri: "gs://staging/exports"}
mail: {from: exports@platform.example}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "platform.yaml"
    path.write_text(MINIMAL)
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(path))
    return path


def test_the_shipped_file_is_right_and_says_what_the_defaults_are(monkeypatch: pytest.MonkeyPatch) -> None:
    default = load_platform()
    monkeypatch.delenv("DATA_EXPORT_PLATFORM_FILE")
    assert platform_file() == ROOT / "include" / "platform.yaml"
    shipped = load_platform()
    assert (shipped.targets, shipped.limits) == (default.targets, default.limits)
    assert shipped.source.conn_id == default.source.conn_id == "export_source"
    assert shipped.staging.keep_failed_days == default.staging.keep_failed_days
    assert shipped.mail.link_ttl_hours == default.mail.link_ttl_hours
    assert not shipped.targets.allow_local


def test_values_are_read_with_their_types(file: Path) -> None:
    file.write_text(
        MINIMAL
        + "limits: {earliest: 2021-02-03, settle_minutes: 10, max_active_runs: 2}\ntargets: {allow_local: true}\n"
    )
    settings = load_platform()
    assert settings.staging.uri == "gs://staging/exports/"
    assert settings.mail.sender == "exports@platform.example"
    assert settings.limits.earliest == date(2021, 2, 3)
    assert (settings.limits.settle_minutes, settings.limits.max_active_runs) == (10, 2)
    assert settings.targets.allow_local


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("DATA_EXPORT_SOURCE__CONN_ID", "other", "source.conn_id", "other"),
        ("DATA_EXPORT_STAGING__URI", "file:///srv/staging", "staging.uri", "file:///srv/staging/"),
        ("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true", "targets.allow_local", True),
        ("DATA_EXPORT_MAIL__FROM", "x@y.example", "mail.sender", "x@y.example"),
        ("DATA_EXPORT_LIMITS__EARLIEST", "2022-01-01", "limits.earliest", date(2022, 1, 1)),
        ("DATA_EXPORT_LIMITS__MAX_WINDOW_DAYS", "31", "limits.max_window_days", 31),
        ("DATA_EXPORT_ALERTS__WATCH_SCHEDULE", "0 *  * * *", "alerts.watch_schedule", "0 * * * *"),
        (
            "DATA_EXPORT_ALERTS__EMAILS",
            '["a@b.example", "c@d.example"]',
            "alerts.emails",
            ("a@b.example", "c@d.example"),
        ),
    ],
)
def test_the_environment_comes_before_the_file(
    variable: str, value: str, path: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_platform()
    monkeypatch.setenv(variable, value)
    after = load_platform()
    section, key = path.split(".")
    assert getattr(getattr(after, section), key) == expected
    changed = after.model_dump(by_alias=False)
    changed[section][key] = getattr(getattr(before, section), key)
    assert changed == before.model_dump(by_alias=False)  # the section's other values are still the file's


def test_notifiers_are_not_imported_and_keep_their_arguments_to_themselves(file: Path) -> None:
    """A parse of thousands of DAGs reads these settings, and a webhook's address is a secret."""
    file.write_text(
        MINIMAL + "alerts:\n  notifiers:\n  - {class: no.such.Notifier, kwargs: {hook: s3cret, retries: 2}}\n"
    )
    (notifier,) = load_platform().alerts.notifiers
    assert notifier.class_path == "no.such.Notifier"
    assert notifier.kwargs["hook"] == "s3cret"
    assert notifier.on == ("failure", "late", "quarantine", "audit", "recovery")
    assert "s3cret" not in repr(load_platform())


def test_the_arguments_of_a_notifier_have_the_types_of_yaml_1_2(file: Path) -> None:
    """No model knows them, so they are not text: 'false' would be true to a notifier."""
    file.write_text(
        MINIMAL
        + """\
alerts:
  notifiers:
    - class: slack.SlackNotifier
      on: [failure, late]
      kwargs:
        unfurl_links: false
        timeout: 10
        ratio: 2.5
        thread: null
        nothing:
        channel: "10"
        level: 'true'
        answer: no
        at: 22:22
        day: 2025-03-16
        10: a key is text
        blocks:
          - type: rich_text
            elements:
              - type: rich_text_section
                elements: [{type: text, text: "{{ alert.text }}", style: {bold: true}}]
"""
    )
    (notifier,) = load_platform().alerts.notifiers
    blocks = notifier.kwargs.pop("blocks")
    assert notifier.kwargs == {
        "unfurl_links": False,
        "timeout": 10,
        "ratio": 2.5,
        "thread": None,
        "nothing": None,
        "channel": "10",
        "level": "true",
        "answer": "no",
        "at": "22:22",
        "day": "2025-03-16",
        "10": "a key is text",
    }
    text = {"type": "text", "text": "{{ alert.text }}", "style": {"bold": True}}
    assert blocks == [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [text]}]}]
    assert notifier.on == ("failure", "late")


@pytest.mark.parametrize(("depth", "taken"), [(25, True), (200, False), (20_000, False)])
def test_the_arguments_of_a_notifier_are_not_nested_without_end(file: Path, depth: int, taken: bool) -> None:
    nested = "[" * depth + "]" * depth
    file.write_text(MINIMAL + f"alerts:\n  notifiers:\n  - {{class: a.B, kwargs: {{blocks: {nested}}}}}\n")
    with nullcontext() if taken else pytest.raises(ConfigError, match=r"platform\.yaml:6: is nested too deep"):
        load_platform()


def test_the_variables_that_move_folders_are_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (customers_dir(), state_dir()) == (ROOT / "include" / "customers", ROOT / ".state")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("DATA_EXPORT_STATE_DIR", str(tmp_path / "b"))
    monkeypatch.setenv("DATA_EXPORT_LOCAL_LINK_BASE_URL", "http://localhost")
    assert (customers_dir(), state_dir()) == (tmp_path / "a", tmp_path / "b")
    assert load_platform().source.conn_id == "export_source"


def test_a_customers_secret_is_no_setting_however_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_SECRET_ACME__HOOK", "x")
    monkeypatch.setenv("DATA_EXPORT_SECRET__HOOK", "x")
    assert load_platform().source.conn_id == "export_source"


def test_the_file_has_room_for_thousands_of_customers(file: Path) -> None:
    principals = "".join(
        f"    acme_{n}: acme-{n}-data-export@platform-project.iam.gserviceaccount.com\n" for n in range(5000)
    )
    file.write_text(f"{MINIMAL}targets:\n  principals:\n{principals}")
    assert len(load_platform().targets.principals) == 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL + "limits: {}\nsource: {}\n", "platform.yaml:5: source: is there twice, first on line 1"),
        (MINIMAL + "limit: {}\n", "platform.yaml:4: limit: is not a key that is known here (did you mean limits?)"),
        (
            MINIMAL + "limits:\n  earlyest: x\n",
            "platform.yaml:5: limits.earlyest: is not a key that is known here (did",
        ),
        (
            MINIMAL + "limits:\n  max_window_days: 0\n",
            "platform.yaml:5: limits.max_window_days: '0' is too small: write 1",
        ),
        (MINIMAL + "limits: {earliest: 2020}\n", "platform.yaml:4: limits.earliest: '2020' is not a date"),
        (MINIMAL + "limits: {earliest: 2020-01-01T06:00}\n", "limits.earliest: '2020-01-01T06:00' has a time of day"),
        (MINIMAL + "alerts: {emails: x}\n", "platform.yaml:4: alerts.emails: 'x' is not a list"),
        (MINIMAL + "alerts:\n  emails:\n  - x\n", "platform.yaml:6: alerts.emails[0]: 'x' is not an e-mail address"),
        (
            MINIMAL + "alerts:\n  notifiers:\n  - {class: Slack}\n",
            "platform.yaml:6: alerts.notifiers[0].class: 'Slack' is not the path of a class: write e.g. airflow.",
        ),
        (
            MINIMAL + "alerts:\n  notifiers:\n  - class: a.B\n    on: [fail]\n",
            "platform.yaml:7: alerts.notifiers[0].on[0]: 'fail' is not one of failure, late, quarantine",
        ),
        (
            MINIMAL + "alerts:\n  notifiers:\n  - clas: a.B\n",
            "alerts.notifiers[0].clas: is not a key that is known here (did you mean class?)",
        ),
        (MINIMAL + "limits: {late_after_hours: soon}\n", "limits.late_after_hours: 'soon' is not a number"),
        (MINIMAL + "limits: {late_after_hours: 0}\n", "limits.late_after_hours: '0' is too small: write 0.001"),
        (MINIMAL + "limits: {late_after_hours: .inf}\n", "limits.late_after_hours: "),
        (MINIMAL + "targets: x\n", "platform.yaml:4: targets: 'x' is not a mapping"),
        (MINIMAL.replace("gs://images", "http://images"), "platform.yaml:1: source.images_uri: "),
        (MINIMAL.replace("{input_id}", ""), "must hold {input_id}"),
        (MINIMAL.replace("{site_id}", "{site}"), "may hold {site_id} and {file_extension}, nothing else"),
        (MINIMAL.replace("{site_id}", ".."), "'..' part"),
        (MINIMAL.replace("from", "sender_"), "platform.yaml:3: mail.from: is missing: add it (sender of the mails)"),
        ("", "platform.yaml:1: is empty"),
        ("a: [", "platform.yaml:1: a bracket opens here"),
    ],
)
def test_a_fault_names_file_line_key_and_fix(text: str, words: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_platform()
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert str(caught.value).isprintable()


def test_all_faults_are_told_at_once(file: Path) -> None:
    file.write_text(MINIMAL + "limits: {earliest: x, settle_minutes: x, nothing: x}\n")
    with pytest.raises(ConfigError) as caught:
        load_platform()
    assert str(caught.value).count("platform.yaml:4: limits.") == 3


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "DATA_EXPORT_LIMITS__EARLIEST",
            "x",
            "variable DATA_EXPORT_LIMITS__EARLIEST: limits.earliest: 'x' is not a date",
        ),
        ("DATA_EXPORT_SOURCE__TYPO", "x", "variable DATA_EXPORT_SOURCE__TYPO: source.typo: is not a key"),
        ("data_export_staging__uri", "x", "variable DATA_EXPORT_STAGING__URI: staging.uri: 'x' does not begin with"),
        ("DATA_EXPORT_ALERTS__EMAILS", "a@b.example", "write lists and whole sections in JSON"),
        (
            "DATA_EXPORT_ALERTS",
            '{"emails": ["x"], "watch_schedule": "* * * * *"}',
            "variable DATA_EXPORT_ALERTS: alerts.emails[0]: 'x' is not an e-mail address",
        ),
        ("DATA_EXPORT_ALERTS", '["x"]', "variable DATA_EXPORT_ALERTS: alerts: the value is not a mapping"),
        (
            "DATA_EXPORT_LIMIT__MAX_WINDOW_DAYS",
            "3",
            "DATA_EXPORT_LIMIT__MAX_WINDOW_DAYS: limit: is not a key that is known here (did you mean limits?)",
        ),
        ("data_export_x__y", "3", "variable DATA_EXPORT_X__Y: x: is not a key that is known here: remove it, or use"),
        ("DATA_EXPORT_ALERTS__EMAILS", '["x"]', "variable DATA_EXPORT_ALERTS__EMAILS: alerts.emails[0]: 'x' is not"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_platform()
    assert words in str(caught.value)


def test_a_missing_file_comes_with_its_fix(file: Path) -> None:
    file.unlink()
    with pytest.raises(
        ConfigError, match=r"no such file: copy include/platform\.yaml there, or set DATA_EXPORT_PLATFORM"
    ):
        load_platform()


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [("source:", "sorce:", 1), ("images_uri", "image_uri", 1), ("from:", "frm:", 3)],
)
def test_a_misspelt_key_is_told_once(file: Path, right: str, wrong: str, line: int) -> None:
    file.write_text(MINIMAL.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        load_platform()
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert f"did you mean {right.strip(':')}?" in str(caught.value)
    assert "is missing" not in str(caught.value)


def test_what_a_variable_of_the_section_leaves_to_the_file_is_told_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_LIMITS", '{"max_active_runs": 2}')
    file.write_text(MINIMAL + "limits: {max_window_days: 0}\n")
    with pytest.raises(ConfigError) as caught:
        load_platform()
    assert str(caught.value).startswith(f"{file}:4: limits.max_window_days: ")
    assert place_of("limits", "max_active_runs") == "environment variable DATA_EXPORT_LIMITS"
    assert place_of("limits", "max_window_days") == str(file)


def test_faults_of_variables_and_of_the_file_are_told_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_LIMIT__X", "1")
    file.write_text(MINIMAL + "limits: {max_window_days: 0}\n")
    with pytest.raises(ConfigError, match=r"DATA_EXPORT_LIMIT__X: .*; .*:4: limits.max_window_days"):
        load_platform()


def test_what_is_as_it_was_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file_text, "_SETTLED_NS", 0)
    first = load_platform()
    assert load_platform() is first
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", "gs://other/")
    assert load_platform().staging.uri == "gs://other/"
    monkeypatch.delenv("DATA_EXPORT_STAGING__URI")
    file.write_text(MINIMAL.replace("gs://staging", "gs://changed"))
    assert load_platform().staging.uri == "gs://changed/exports/"
    assert load_platform(staging={"uri": "gs://given/"}).staging.uri == "gs://given/"
    assert load_platform().staging.uri == "gs://changed/exports/"
    file.write_text("staging: 1\n")
    with pytest.raises(ConfigError):
        load_platform()
    other = tmp_path / "other.yaml"
    other.write_text(MINIMAL)
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(other))
    assert load_platform() == first


def test_a_file_that_may_still_change_unseen_is_read_again() -> None:
    assert load_platform() is not load_platform()


def test_a_disk_that_does_not_say_whether_the_file_is_there_may_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsaid(_path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "exists", unsaid)
    assert load_platform(staging={"uri": "gs://given/"}).staging.uri == "gs://given/"
