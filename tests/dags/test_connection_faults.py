"""A setting of a connection that cannot be used fails at once, names the connection and the fix, and repeats no secret.

What is asked for here needs no server: each fault is met before anything is sent.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from data_export.errors import ConfigError
from data_export_airflow.connections import clients as connections
from data_export_airflow.connections.clients import connection, store
from data_export_airflow.execution.checking import check_export
from tests.customers import GOOD
from tests.dags.bad_connection import CANARY, define, opened, refusal


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is missing or cannot be parsed (AirflowNotFoundException): add it with `airflow connections add bad"),
        (f"sftp://user:{CANARY}/more@127.0.0.1:22", "correct the environment variable AIRFLOW_CONN_BAD"),
        (f'{{"conn_type": "sftp", "password": "{CANARY}" "login": "x"}}', "correct the environment variable"),
        (f'{{"conn_type": "sftp", "pasword": "{CANARY}"}}', "a JSON object with known keys"),
        (f'{{"conn_type": "sftp", "port": "{CANARY}"}}', "the port is a number"),
        (
            json.dumps({"conn_type": "sftp", "extra": f"{{'host_key': '{CANARY}'"}),
            "an extra that is no JSON object",
        ),
        (json.dumps({"conn_type": "sftp", "extra": f'["{CANARY}"]'}), "an extra that is no JSON object"),
    ],
)
def test_a_malformed_connection_is_not_called_missing(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("AIRFLOW_CONN_BAD", value)
    refusal(lambda: connection("bad"), words)


def google_key(**changes: object) -> dict[str, object]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    whole = {"type": "service_account", "client_email": "p@p.example", "token_uri": "https://oauth2.invalid/token"}
    return whole | {"private_key": pem} | changes


class TestGoogle:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A machine without credentials of its own, on which none are looked for over the network."""
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    @pytest.mark.parametrize(
        "extra",
        [
            {"keyfile_dict": json.dumps(google_key(private_key=CANARY))},
            {"keyfile_dict": json.dumps(google_key(private_key=5))},
            {"keyfile_dict": json.dumps(google_key(client_email=CANARY) | {"token_uri": None, "private_key": "x"})},
            {"keyfile_dict": json.dumps({name: value for name, value in google_key().items() if name != "token_uri"})},
            {"keyfile_dict": f"{CANARY}{{"},
            {"keyfile_dict": "[1]"},
            {"keyfile_dict": 5},
            {"key_path": "/nowhere/key.json"},
            {"key_path": "/etc/passwd"},
            {},
        ],
    )
    def test_a_key_that_is_none_is_refused_whatever_asks_for_it(
        self, extra: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(monkeypatch, conn_type="google_cloud_platform", extra=extra)
        target: Any = store("gs://acme/", "bad")
        refusal(lambda: opened(target), "give it a service account's key")
        refusal(target.blocking_client, "give it a service account's key")
        refusal(target.account, "give it a service account's key")

    def test_line_ends_that_were_escaped_twice_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """What comes of pasting a key into a file or a secrets backend: the usual fault."""
        key = google_key()
        key["private_key"] = str(key["private_key"]).replace("\n", "\\n")
        (tmp_path / "key.json").write_text(json.dumps(key))
        define(monkeypatch, conn_type="google_cloud_platform", extra={"key_path": str(tmp_path / "key.json")})
        refusal(lambda: opened(store("gs://acme/", "bad")), r"in private_key line ends are \n, not \\n")


class TestS3:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"extra": {"region_name": "no such region"}}, "region_name"),
            ({"extra": {"endpoint_url": f"nonsense-{CANARY}"}}, "endpoint_url"),
            ({"extra": {"endpoint_url": "http://[::1"}}, "endpoint_url"),
            ({"extra": {"config_kwargs": {"nonsense": 1}}}, "config_kwargs"),
            ({"extra": {"config_kwargs": {"s3": {"addressing_style": "x"}}}}, "config_kwargs"),
            ({"extra": {"profile_name": "nobody"}, "login": None, "password": None}, "profile_name"),
            ({"extra": {"role_arn": "nonsense", "endpoint_url": "http://127.0.0.1:9"}}, "role"),
            ({"extra": {"role_arn": "arn:aws:iam::1:role/x", "assume_role_method": "x"}}, "role"),
            ({"login": None, "password": None}, "gives no AWS credentials"),
            ({"password": None}, "half a key"),
            ({"login": None}, "half a key"),
            ({"password": f"{CANARY}\n"}, "blanks around it"),
        ],
    )
    def test_settings_that_boto3_does_not_take_are_refused(
        self, changes: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(monkeypatch, **({"conn_type": "aws", "login": "key", "password": CANARY} | changes))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # a machine without a role
        refusal(lambda: opened(store("s3://acme/", "bad")), words)

    @pytest.mark.parametrize("verify", [False, "false", "False"])
    def test_verification_cannot_be_switched_off_by_a_word_either(
        self, verify: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(monkeypatch, conn_type="aws", login="key", password=CANARY, extra={"verify": verify})
        refusal(lambda: store("s3://acme/", "bad"), "has verify: false: certificates are always verified")

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (
                {"client_cert": "/tls/client.pem"},
                "has client_cert in config_kwargs, but objects are moved without a client certificate: remove it",
            ),
            ({"client_cert": ["/tls/client.pem", CANARY]}, "has client_cert in config_kwargs"),
            ({"proxies_config": {"proxy_ca_bundle": "/tls/proxy.pem"}}, "has proxies_config in config_kwargs, but"),
            ({"signature_version": "s3"}, "in config_kwargs, but objects are moved with version 4: remove it"),
        ],
    )
    def test_what_boto3_alone_would_heed_is_refused(
        self, settings: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(monkeypatch, conn_type="aws", login="key", password=CANARY, extra={"config_kwargs": settings})
        refusal(lambda: store("s3://acme/", "bad"), words)

    def test_an_address_that_is_none_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = {"endpoint_url": "http://127.0.0.1:99999", "region_name": "eu-west-1"}
        define(monkeypatch, conn_type="aws", login="key", password=CANARY, extra=extra)
        with pytest.raises(ConfigError, match=r"s3://acme/: no server at this address: correct endpoint_url"):
            opened(store("s3://acme/", "bad"))


def test_a_fault_that_nobody_thought_of_is_one_failed_step_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(CANARY)

    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    monkeypatch.setattr(connections, "BaseHook", SimpleNamespace(get_connection=broken))
    results = list(check_export("acme"))
    assert {result.step for result in results if not result.ok} >= {
        "source: connection",
        "images: connection",
        "target: connection",
    }
    failed = [result.detail for result in results if not result.ok and not result.step.startswith("pool")]
    assert all("fails with OSError in test_connection_faults.py, line " in detail for detail in failed)
    assert CANARY not in str(results)
