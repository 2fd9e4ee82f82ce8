"""What holds a connection, a secret or a credential does not answer: that is not the same as not having it."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend
from botocore.exceptions import ClientError
from pydantic import SecretStr

from data_export.config.models import EXPORT
from data_export.config.platform import load_platform
from data_export.errors import ConfigError, CredentialsUnavailable, DataExportError
from data_export_airflow.connections.clients import AirflowConnections, connection, destination, store
from tests.dags.bad_connection import CANARY, define, opened


class Backend(BaseSecretsBackend):
    """A secrets backend of this fault."""

    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault

    def _get(self) -> None:
        if self.fault:
            raise self.fault

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        return self._get()

    def get_variable(self, key: str, team_name: str | None = None) -> Any:
        return self._get()


class InternalServerError(Exception):
    """Named as hvac's; it derives from nothing but Exception either."""


class Forbidden(Exception):
    """As hvac's."""


def aws(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetParameter")


def faults(monkeypatch: pytest.MonkeyPatch, *backends: Any) -> list[DataExportError]:
    """What comes of a connection and of a Variable that these backends are asked for."""
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [*backends])
    found = []
    for ask in (lambda: connection("bad"), lambda: AirflowConnections("acme").secret("key", SecretStr("var:bad"))):
        with pytest.raises(DataExportError) as caught:
            ask()
        assert CANARY not in str(caught.value)
        found.append(caught.value)
    return found


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionRefusedError(CANARY),
        TimeoutError(CANARY),
        InternalServerError(CANARY),
        aws("ThrottlingException", 400),
        aws("InternalFailure", 500),
    ],
)
@pytest.mark.parametrize("later", [0, 1])
def test_an_outage_of_a_secrets_backend_is_tried_again(
    fault: Exception, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [Backend(fault), Backend(None)]
    for error in faults(monkeypatch, *(order[::-1] if later else order)):
        assert isinstance(error, CredentialsUnavailable)
        assert "Backend does not answer" in str(error)


@pytest.mark.parametrize("fault", [PermissionError(CANARY), Forbidden(CANARY), aws("AccessDeniedException", 400)])
def test_a_backend_that_refuses_is_not_tried_again(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in faults(monkeypatch, Backend(fault)):
        assert isinstance(error, ConfigError)
        assert "grant the workers the right to read it" in str(error)


@pytest.mark.parametrize("fault", [None, ValueError(CANARY)])
def test_what_is_missing_or_malformed_is_permanent(fault: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [type(error) for error in faults(monkeypatch, Backend(fault))] == [ConfigError, ConfigError]


class TestWorker:
    """On a worker Airflow asks its API server, whose faults its own backend swallows."""

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (ErrorType.CONNECTION_NOT_FOUND, ConfigError),
            (ErrorType.VARIABLE_NOT_FOUND, ConfigError),
            (ErrorType.API_SERVER_ERROR, CredentialsUnavailable),
            (ErrorType.GENERIC_ERROR, CredentialsUnavailable),
            (ErrorType.PERMISSION_DENIED, ConfigError),
            (EOFError(), CredentialsUnavailable),
        ],
    )
    def test_the_api_server_s_answer_decides(
        self, answer: Any, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Comms:
            def send(self, _: object) -> Any:
                if isinstance(answer, Exception):
                    raise answer
                return ErrorResponse(error=answer)

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
        assert {type(error) for error in faults(monkeypatch, ExecutionAPISecretsBackend())} == {expected}


class TestMetadataServer:
    """A machine's own credentials come from a server of its cloud, which may be slow."""

    @pytest.fixture(autouse=True)
    def asleep(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("NO_GCE_CHECK", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    def test_google_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
        monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
        define(monkeypatch, conn_type="google_cloud_platform")
        place: Any = store("gs://acme/", "bad")
        with pytest.raises(CredentialsUnavailable, match="Airflow connection 'bad'"):
            place.blocking_client()

    @pytest.mark.parametrize("name", ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    def test_amazon_s(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from data_export.delivery.s3 import config

        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setattr(config, "in_a_cloud", lambda: True)
        define(monkeypatch, conn_type="aws")
        with pytest.raises(CredentialsUnavailable, match="Airflow connection 'bad'"):
            opened(store("s3://acme/", "bad"))


class TestLiteralPassphrase:
    """A plan holds none, so the run asks the customer file; somebody may have edited it meanwhile."""

    FILE: ClassVar[dict[str, Any]] = {
        "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787"],
        "interval": "daily",
        "start_date": "2025-03-16",
        "connector_type": "sftp",
    }
    KEY: ClassVar[dict[str, Any]] = {
        "export_images": False,
        "sftp_host": "sftp.acme.example",
        "sftp_username": "acme",
        "sftp_host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBKmDUYdhbUUG9vTjPLPwTbYPn2AtXoAhVrMMGCZV9xu",
        "sftp_private_key_path": "/keys/first",
        "sftp_private_key_passphrase": CANARY,
        "sftp_remote_path": "exports",
    }

    @pytest.mark.parametrize(
        ("edit", "opens"),
        [
            ({}, True),
            ({"sftp_private_key_passphrase": "env:DATA_EXPORT_SECRET_ACME"}, True),
            ({"sftp_private_key_passphrase": None}, False),
            ({"sftp_private_key_path": "/keys/second", "sftp_private_key_passphrase": "another"}, False),
        ],
    )
    def test_an_edit_never_lends_another_key_s(
        self, edit: dict[str, Any], opens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
        monkeypatch.setenv("DATA_EXPORT_SECRET_ACME", CANARY)
        first = EXPORT.validate_python(self.FILE | {"connector_config": self.KEY})
        frozen = EXPORT.validate_python(first.model_dump(mode="json"))
        config = {key: value for key, value in (self.KEY | edit).items() if value is not None}
        (tmp_path / "acme.yaml").write_text(json.dumps(self.FILE | {"connector_config": config}))
        if opens:
            assert destination("acme", frozen, load_platform())
            return
        with pytest.raises(ConfigError, match="no longer one for /keys/first: put it back, or clear") as caught:
            destination("acme", frozen, load_platform())
        assert CANARY not in str(caught.value)
