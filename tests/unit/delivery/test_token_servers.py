"""A server of tokens or signatures that is silent, or has a bad moment, is tried again; a refusal is not."""

import json
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import ClientSecretCredential, CredentialUnavailableError
from google.auth.exceptions import RefreshError, TransportError

from data_export.delivery.abfs.account import _Threaded
from data_export.delivery.abfs.errors import asked, translated
from data_export.delivery.abfs.write import BODY_AT_ONCE, Slices
from data_export.delivery.gcs import sign
from data_export.delivery.gcs.errors import explain
from data_export.delivery.gcs.sign import signed_link
from data_export.errors import AccessDenied, CredentialsRefused, PermanentError, TargetRefused, TransientError

_IMPERSONATING = "Unable to acquire impersonated credentials"


def refusal(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": "X"}})


@pytest.mark.parametrize(
    "error",
    [
        TransportError("the metadata server answers 503"),
        RefreshError(TransportError("Failed to retrieve http://metadata.google.internal")),
        RefreshError("server error", {}, retryable=True),
        RefreshError(_IMPERSONATING, refusal(503, "The service is unavailable")),
        RefreshError(_IMPERSONATING, refusal(429, "Quota exceeded")),
        RefreshError(_IMPERSONATING, "<html>502 Bad Gateway</html>"),
    ],
)
def test_google_s_bad_moments_pass(error: Exception) -> None:
    assert isinstance(explain(error, "bucket", "gs://bucket/x"), TransientError)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RefreshError("invalid_grant: Invalid JWT Signature.", {"error": "invalid_grant"}), "Invalid JWT Signature"),
        (RefreshError(_IMPERSONATING, refusal(403, "IAM Credentials API has not been used")), "API has not been used"),
        (RefreshError(_IMPERSONATING, refusal(404, "Unknown service account")), "Unknown service account"),
    ],
)
def test_google_s_refusals_stay_and_have_its_words(error: Exception, said: str) -> None:
    problem = explain(error, "bucket", "gs://bucket/x")
    assert isinstance(problem, CredentialsRefused)
    assert said in str(problem)


_IAM, _SIGNS = "Error calling the IAM signBytes API: ", "Error calling sign_bytes: "


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (TransportError(_IAM + "b'{\"error\": {\"code\": 503}}'"), TransientError),
        (TransportError("exhausted signBlob endpoint retries"), TransientError),
        (TransportError(_SIGNS + "{'error': {'code': 429, 'status': 'RESOURCE_EXHAUSTED'}}"), TransientError),
        (RefreshError(TransportError("no route")), TransientError),
        (TransportError(_IAM + "b'{\"error\": {\"code\": 403, \"status\": \"PERMISSION_DENIED\"}}'"), AccessDenied),
        (TransportError(_SIGNS + "{'error': {'code': 404, 'status': 'NOT_FOUND'}}"), AccessDenied),
        (RefreshError("invalid_grant"), AccessDenied),
    ],
)  # fmt: skip
def test_google_s_signer(error: Exception, becomes: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(**_: Any) -> str:
        raise error

    blob: Any = SimpleNamespace(bucket=SimpleNamespace(name="bucket"), name="x", generate_signed_url=generate)
    monkeypatch.setattr(sign, "_has_key", lambda _credentials: True)
    with pytest.raises(becomes):
        signed_link(blob, lambda: None, timedelta(hours=1), "x.json")


class _Silent:
    """What reaches Entra ID, and does not."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    open = close = __exit__

    def send(self, _request: Any, **_: Any) -> Any:
        raise self._error

    def sleep(self, _seconds: float) -> None: ...


def entra(error: Exception) -> Any:
    return _Threaded(ClientSecretCredential("tenant", "client", "secret", transport=_Silent(error)))


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (ServiceRequestError("Failed to resolve 'login.microsoftonline.com'"), TransientError),
        (ServiceResponseError("Connection reset by peer"), TransientError),
        (ServiceRequestError("timed out"), TransientError),
        (ServiceRequestError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), TargetRefused),
    ],
)
async def test_entra_id_out_of_reach_is_no_missing_identity(error: Exception, becomes: type[Exception]) -> None:
    with pytest.raises(becomes, match="Entra ID") as raised:
        await asked(5, "abfs://c@a/x", lambda: entra(error).get_token("https://storage.azure.com/.default"))
    assert "assign it" not in str(raised.value)


def test_entra_id_s_own_faults_pass_and_its_refusals_stay() -> None:
    busy = ClientAuthenticationError("Unexpected response from Microsoft Entra ID: 503")
    assert isinstance(translated(busy, "abfs://c@a/x"), TransientError)
    wrong = ClientAuthenticationError("AADSTS7000215: Invalid client secret provided")
    assert isinstance(translated(wrong, "abfs://c@a/x"), CredentialsRefused)
    nobody = CredentialUnavailableError("no response from the IMDS endpoint.")
    nobody.__cause__ = ServiceRequestError("timed out")
    assert isinstance(translated(nobody, "abfs://c@a/x"), PermanentError)


async def test_a_token_that_does_not_come_is_not_waited_for() -> None:
    class Slow:
        def get_token(self, *_: str) -> None:
            time.sleep(1)

    began = time.monotonic()
    with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
        await asked(0.1, "abfs://c@a/x", lambda: _Threaded(Slow()).get_token())  # type: ignore[arg-type]
    assert time.monotonic() - began < 0.9


async def test_a_body_can_be_sent_again_when_the_first_token_had_ended() -> None:
    body = Slices(memoryview(bytes(BODY_AT_ONCE * 2 + 5)))
    for _ in range(2):
        assert sum([len(part) async for part in body]) == BODY_AT_ONCE * 2 + 5
