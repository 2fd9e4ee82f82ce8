"""A secret of a customer file is shown nowhere, and a reference is told from a secret."""

from pathlib import Path
from time import thread_time

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from data_export.config.fields import MASK, SecretReference, quoted, quoted_address, reference_of
from data_export.config.load import load_customer, load_customers
from data_export.config.problems.problems import BrokenFile

FILE = """\
site_id: [433a60f6-9756-473e-b1e9-9e89e24bb787]
interval: daily
start_date: 2025-03-16
connector_type: sftp
connector_config:
  sftp_remote_path: /x
  export_images: true
"""
SERVER = f"""\
  sftp_host: sftp.customer.example
  sftp_username: us
  sftp_private_key_path: /key
  sftp_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{"A" * 44}
"""
SECRET = "hunter2-is-my-pass"


@pytest.mark.parametrize(
    "line",
    [
        f"  sftp_private_key_passphrase: [{SECRET}]",
        f"  sftp_private_key_passphrase: {{a: {SECRET}}}",
        f"  sftp_private_key_passphrase: env:{SECRET} x",
        f"  sftp_private_key_passphrase: {SECRET}: x",
        f"  sftp_private_key_passphrase: &{SECRET}",
        f"  sftp_private_key_passphrase: !{SECRET} x",
        f"  sftp_private_key_passphrase: '{SECRET}",
        f"  sftp_private_key_passphrase: {SECRET}\n  sftp_private_key_passphrase: {SECRET}",
        f"  sftp_private_key_passphrase: {SECRET}\x00",
        f"  sftp_private_key_passphrase: {SECRET}\n  sftp_port: 0",
        f"  sftp_private_key_pass: {SECRET}",
        f"  sftp_password: {SECRET}",
        f"  sftp_host: {SECRET}@host",
        f"  conn_id: sftp://user:{SECRET}@host",
        f"  sftp_private_key_path: |\n    -----BEGIN OPENSSH PRIVATE KEY-----\n    {SECRET}",
        f"  sftp_host_key: |\n    -----BEGIN OPENSSH PRIVATE KEY-----\n    {SECRET}",
        f"  conn_id: sftp://user:xx/{SECRET}@host/",
        f"  sftp_host: user:{SECRET}",
        f"  sftp_host: user:{SECRET}:22",
        f'  sftp_username: "user:{SECRET}\\n"',
        f"  sftp_private_key_path: b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHI/{SECRET}",
        f"  sftp_private_key_path: {SECRET}@/key",
        f"  sftp_port: sftp://user:xx/{SECRET}@host",
        f"  verify: https://host/?sig={SECRET}",
    ],
)
def test_no_message_holds_a_secret(line: str, tmp_path: Path) -> None:
    broken = broken_by(line, tmp_path)
    assert SECRET not in str(broken)
    assert SECRET not in repr(broken)
    assert broken.__cause__ is None


@pytest.mark.parametrize(
    "config",
    [
        f"storage_uri: s3://AKIA:xx/{SECRET}@bucket/x/",
        f"storage_uri: https://user:xx/{SECRET}@host/x/",
        f"storage_uri: https://account.blob.example/c?sig={SECRET}",
        f"storage_uri: gs://bucket/c?sig={SECRET}",
        f"sftp_remote_path: sftp://user:xx/{SECRET}@host//x",
        f"sftp_remote_path: sftp:user:{SECRET}//x",
        f"emails: ['smtp://user:xx/{SECRET}@host']",
        f"emails: ['user:{SECRET}@host']",
        f"emails: ['https://host/?sig={SECRET}']",
    ],
)
def test_no_message_holds_what_an_address_was_pasted_with(config: str, tmp_path: Path) -> None:
    tag = {"storage_uri": "cloud_storage", "emails": "email"}.get(config.partition(":")[0], "sftp")
    (tmp_path / "acme.yaml").write_text(
        FILE.partition("connector")[0] + f"connector_type: {tag}\nconnector_config:\n  {config}\n"
    )
    with pytest.raises(BrokenFile) as caught:
        load_customer(tmp_path / "acme.yaml")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sftp_host: sftp.example:22/x", "'sftp.example:22/x' is not a host name"),
        ("sftp_host: my server", "'my server' is not a host name"),
        ("conn_id: my connection", "'my connection' is not the id"),
        ("sftp_private_key_path: keys/Customer1/id_ed25519", "'keys/Customer1/id_ed25519' is not an absolute path"),
        ("if_exists: overwrite", "'overwrite' is not one of"),
    ],
)
def test_what_is_no_secret_is_shown(line: str, words: str, tmp_path: Path) -> None:
    assert words in str(broken_by(f"  {line}", tmp_path))


def test_a_wrong_mail_address_is_shown(tmp_path: Path) -> None:
    assert "'bi-team@customer' is not an e-mail address" in str(broken_by("owner: bi-team@customer", tmp_path))


@pytest.mark.parametrize("value", ["env:DATA_EXPORT_SECRET_A", "var:customer.acme-key", "env:DATA_EXPORT_SECRET_x.9"])
def test_a_reference_is_written_down_as_it_is(value: str) -> None:
    adapter: TypeAdapter[SecretStr] = TypeAdapter(SecretReference)
    secret = adapter.validate_python(value)
    assert reference_of(secret) == tuple(value.split(":"))
    assert adapter.dump_python(secret) == value


@pytest.mark.parametrize("value", [SECRET, "envNAME", "prefix env:NAME", MASK])
def test_a_secret_is_masked_wherever_it_is_written_down(value: str) -> None:
    adapter: TypeAdapter[SecretStr] = TypeAdapter(SecretReference)
    secret = adapter.validate_python(value)
    assert reference_of(secret) is None
    assert secret.get_secret_value() == value
    assert adapter.dump_json(secret) == f'"{MASK}"'.encode()
    assert value not in repr(secret) or value == MASK


@pytest.mark.parametrize("value", ["", "env:", "ENV:NAME", "var: NAME", "env:NAME ", "Env:1", "var:a b"])
def test_a_failed_reference_is_not_taken_for_a_secret(value: str) -> None:
    with pytest.raises(ValidationError, match="write env:NAME or var:NAME"):
        TypeAdapter(SecretReference).validate_python(value)


def test_a_secret_in_a_file_works_and_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(FILE + SERVER + f"  sftp_private_key_passphrase: {SECRET}\n")
    (tmp_path / "other.yaml").write_text(
        FILE
        + SERVER.replace("username: us", "username: we")
        + "  sftp_private_key_passphrase: env:DATA_EXPORT_SECRET_X\n"
    )
    loaded = load_customers(tmp_path)
    assert list(loaded.exports) == ["acme", "other"]
    (warning,) = loaded.problems
    assert not warning.is_error
    assert str(warning).startswith(
        f"{tmp_path}/acme.yaml:12: warning: connector_config.sftp_private_key_passphrase: is written in the file"
    )
    assert SECRET not in repr(loaded)
    assert SECRET not in loaded.exports["acme"].model_dump_json()


def broken_by(line: str, folder: Path) -> BrokenFile:
    (folder / "acme.yaml").write_text(FILE + line + "\n")
    with pytest.raises(BrokenFile) as caught:
        load_customer(folder / "acme.yaml")
    return caught.value


@pytest.mark.parametrize("name", ["AIRFLOW__CORE__FERNET_KEY", "X", "data_export_secret_x", "DATA_EXPORT_SIGNING_KEY"])
def test_a_customer_file_names_no_other_variable_of_a_worker(name: str) -> None:
    with pytest.raises(ValidationError, match=f"rename it on the workers, env:DATA_EXPORT_SECRET_{name}"):
        TypeAdapter(SecretReference).validate_python(f"env:{name}")


@pytest.mark.parametrize("seed", ["?", "?a", "://", "://?a", ":", "a@", "A1", "@"])
def test_a_message_takes_time_in_proportion_to_its_value(seed: str) -> None:
    def seconds(size: int) -> float:
        text, tries = seed * (size // len(seed)), []
        for _ in range(5):
            began = thread_time()
            quoted_address(text)
            quoted(text)
            tries.append(thread_time() - began)
        return min(tries)

    assert seconds(400_000) < 8 * seconds(100_000) + 0.002  # the square would be 16 times as much
