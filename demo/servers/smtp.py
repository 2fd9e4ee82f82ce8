"""An SMTP server that keeps its mail as files."""

import asyncio
import email
import email.policy
import hmac
import ssl
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from demo.servers.loop_thread import LoopThread, stop_accepting


class SmtpServer:
    """Keeps each mail as `<folder>/<number>.eml`.

    With `login=(user, password)` it demands AUTH, and before it, unless `tls` is false, STARTTLS; `certificate` is then
    the file that a client must trust.
    Recipients in `refused` get a permanent refusal (550). A subclass may override the `handle_` methods to misbehave.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        listen: str = "127.0.0.1",
        login: tuple[str, str] | None = None,
        tls: bool = True,
        refused: Collection[str] = (),
    ) -> None:
        self.port = port
        self.folder = folder
        self._listen_on = listen
        self.refused = set(refused)
        self.certificate = folder / "tls" / "server.pem"
        self._login = login
        self._secure = login is not None and tls
        self._sessions: WeakSet[SMTP] = WeakSet()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    def messages(self) -> list[EmailMessage]:
        """Every mail kept, oldest first; `X-MailFrom` and `X-RcptTo` hold the envelope."""
        return [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in sorted(self.folder.glob("*.eml"))
        ]

    def __enter__(self) -> Self:
        self._thread = LoopThread("smtp-server")
        self._thread.run(self._listen())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.run(self._stop())
        self._thread.close()

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._login is not None and not session.authenticated:  # aiosmtpd's own option warns where TLS is off
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 5.1.1 no such mailbox here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        self.keep(envelope)
        return "250 OK"

    def keep(self, envelope: Envelope) -> None:
        """Writes the mail, complete or not at all: the demo polls the folder."""
        head = f"X-MailFrom: {envelope.mail_from}\r\nX-RcptTo: {', '.join(envelope.rcpt_tos)}\r\n"
        content = envelope.original_content or b""
        path = self.folder / f"{len(list(self.folder.glob('*.eml'))) + 1:06d}.eml"
        path.with_suffix(".part").write_bytes(head.encode() + content)
        path.with_suffix(".part").rename(path)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        context = self._tls() if self._secure else None

        def protocol() -> SMTP:
            session = SMTP(
                self,
                hostname="localhost",  # the default asks the resolver, which may be slow
                loop=loop,
                tls_context=context,
                require_starttls=context is not None,
                auth_require_tls=self._secure,
                authenticator=self._authenticate if self._login else None,
            )
            self._sessions.add(session)
            return session

        self._server = await loop.create_server(protocol, self._listen_on, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        await stop_accepting(self._server)
        for session in list(self._sessions):
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        assert self._login is not None
        user, password = (text.encode() for text in self._login)
        good = (
            isinstance(given, LoginPassword)
            and hmac.compare_digest(given.login, user)
            and hmac.compare_digest(given.password, password)
        )
        return AuthResult(success=good, handled=False)

    def _tls(self) -> ssl.SSLContext:
        if not self.certificate.exists():
            self.certificate.parent.mkdir(exist_ok=True)
            self.certificate.write_bytes(_self_signed())
            self.certificate.chmod(0o600)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context


def _self_signed() -> bytes:
    """Key and certificate for 127.0.0.1 and localhost, PEM, valid for ten years."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + certificate.public_bytes(serialization.Encoding.PEM)
