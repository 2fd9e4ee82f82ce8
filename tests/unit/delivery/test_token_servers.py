"""A server of tokens or signatures that is silent, or has a bad moment, is tried again; a refusal is not."""

import asyncio
import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import ClientSecretCredential, CredentialUnavailableError
from google.auth.exceptions import OAuthError, RefreshError, TransportError

from data_export.delivery.abfs.account import _in_slices, _Threaded
from data_export.delivery.abfs.errors import asked, translated
from data_export.delivery.abfs.write import BODY_AT_ONCE
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
        (
            OAuthError("Error code invalid_grant: The token is expired", '{"error": "invalid_grant"}'),
            "token is expired",
        ),
        (
            OAuthError("Error code invalid_target", '{"error": "invalid_target", "error_description": "x"}'),
            "invalid_target",
        ),
    ],
)
def test_google_s_refusals_stay_and_have_its_words(error: Exception, said: str) -> None:
    problem = explain(error, "bucket", "gs://bucket/x")
    assert isinstance(problem, CredentialsRefused)
    assert said in str(problem)


def test_no_token_is_ever_quoted() -> None:
    """IAM Credentials answered 200, and the library could not read until when."""
    given = json.dumps({"accessToken": "ya29.SECRET", "expireTime": "2026-11-28T10:00:00.123Z"})
    for error in (RefreshError(_IMPERSONATING, given), RefreshError("no subject token", given)):
        assert "ya29" not in str(explain(error, "bucket", "gs://bucket/x"))


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


def test_a_token_that_does_not_come_is_waited_for_by_nobody() -> None:
    """Neither by who asked nor by the event loop's end; and one thread asks, however many tries there are."""

    class Slow:
        asked = 0

        def get_token(self, *_: str) -> None:
            Slow.asked += 1
            over.wait(60)

    credential: Any = _Threaded(Slow())  # type: ignore[arg-type]

    async def tries() -> None:
        for _ in range(3):
            with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
                await asked(0.1, "abfs://c@a/x", credential.get_token)

    over, began = threading.Event(), time.monotonic()
    asyncio.run(tries())
    assert time.monotonic() - began < 30
    over.set()
    assert Slow.asked == 1


async def test_a_token_is_asked_for_once_for_all_and_again_when_it_failed() -> None:
    class Once:
        answers: list[Any] = [OSError("no way"), "token"]  # noqa: RUF012

        def get_token(self, *_: str) -> Any:
            time.sleep(0.05)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    credential: Any = _Threaded(Once())  # type: ignore[arg-type]
    first = await asyncio.gather(*(credential.get_token("scope") for _ in range(4)), return_exceptions=True)
    assert {type(one) for one in first} == {OSError}
    assert await asyncio.gather(*(credential.get_token("scope") for _ in range(4))) == ["token"] * 4


async def test_a_body_can_be_sent_again_when_the_first_token_had_ended() -> None:
    body = bytes(range(256)) * (BODY_AT_ONCE // 100)
    request = SimpleNamespace(http_request=SimpleNamespace(data=body))
    _in_slices(request)
    for _ in range(2):
        assert b"".join([bytes(part) async for part in request.http_request.data]) == body
