"""Mail servers with rules of their own: what they refuse is named, and what another connection takes is sent."""

import contextlib
import smtplib
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest

from data_export.check.check import check_mail
from data_export.delivery.email.message import message
from data_export.delivery.email.send import send
from data_export.errors import AccessDenied, DataExportError, PermanentError, RecipientsRefused, TargetUnavailable

SENDER = "exports@platform.example"


class Scripted(socketserver.ThreadingTCPServer):
    """Answers each command by the function of its verb, given the argument and the connection's own memory."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.said: dict[str, Callable[[str, Counter[str]], str]] = {}
        self.greeting = "220 mail.example ESMTP"
        self.taken: list[str] = []
        self.connections = 0

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.server_address[1], timeout=5, local_hostname="worker_1")


class _Talk(socketserver.StreamRequestHandler):
    server: Scripted

    def handle(self) -> None:
        memory: Counter[str] = Counter()
        self.server.connections += 1
        self._say(self.server.greeting)
        recipient = ""
        while line := self.rfile.readline().decode().rstrip():
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            memory[verb] += 1
            usual = "354 go on" if verb == "DATA" else "250 OK"
            asked = self.server.said.get(verb)
            answer = asked(argument, memory) if asked else usual
            if answer == "close":
                return
            recipient = argument if verb == "RCPT" else recipient
            self._say(answer)
            if verb == "DATA" and answer.startswith("354"):
                while self.rfile.readline() != b".\r\n":
                    pass
                after = self.server.said.get("AFTER", lambda *_: "250 OK")(recipient, memory)
                if after == "close":
                    return
                if after.startswith("250"):
                    memory["MAILS"] += 1
                    self.server.taken.append(recipient.removeprefix("TO:<").rstrip(">"))
                self._say(after)
                answer = after
            if verb == "QUIT" or answer.startswith("421"):
                return

    def _say(self, answer: str) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(f"{answer}\r\n".encode())


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def mails(count: int) -> list[EmailMessage]:
    return [message("s", SENDER, f"user{n}@customer.example", f"id{n}", "text", "<p>text</p>") for n in range(count)]


def refused(server: Scripted, count: int = 1) -> DataExportError:
    with pytest.raises(DataExportError) as error:
        send(mails(count), server.connect)
    assert "user0" not in str(error.value)
    return error.value


def after_five(server: Scripted, answer: str) -> Callable[[str, Counter[str]], str]:
    return lambda _argument, memory: answer if memory["MAILS"] >= 5 else "250 OK"


class TestMailsOverOneConnection:
    @pytest.mark.parametrize("verb", ["MAIL", "RCPT", "NOOP", "DATA"])
    @pytest.mark.parametrize("answer", ["421 4.7.0 too many mails", "close"])
    def test_sixty_recipients_have_theirs(self, server: Scripted, verb: str, answer: str) -> None:
        usual = "354 go on" if verb == "DATA" else "250 OK"
        server.said[verb] = lambda _argument, memory: answer if memory["MAILS"] >= 5 else usual
        if answer == "close" and verb != "NOOP":
            server.said["NOOP"] = after_five(server, "close")
        sent: list[str] = []
        send(mails(60), server.connect, sent.append)
        assert server.taken == [f"user{n}@customer.example" for n in range(60)]
        assert len(sent) == 60
        assert server.connections == 12

    @pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "AFTER"])
    @pytest.mark.parametrize(
        "answer", ["452 4.5.3 too many messages", "451 4.7.0 limit", "550 5.7.0 too many in this session", "503 enough"]
    )
    def test_a_server_that_does_not_close(self, server: Scripted, step: str, answer: str) -> None:
        usual = "354 go on" if step == "DATA" else "250 OK"
        server.said[step] = lambda _argument, memory: answer if memory["MAILS"] >= 5 else usual
        send(mails(12), server.connect)
        assert len(server.taken) == 12
        assert server.connections == 3

    def test_for_a_wrong_address_no_connection_is_made(self, server: Scripted) -> None:
        server.said["RCPT"] = lambda to, _: "550 5.1.1 no such user" if "user1" in to else "250 OK"
        with pytest.raises(RecipientsRefused):
            send(mails(3), server.connect)
        assert server.connections == 1

    def test_an_answer_that_is_lost_is_not_sent_twice_and_others_go_on(self, server: Scripted) -> None:
        server.said["AFTER"] = lambda recipient, memory: "close" if "user3" in recipient else "250 OK"
        sent: list[str] = []
        with pytest.raises(TargetUnavailable, match="was lost while it took a mail"):
            send(mails(6), server.connect, sent.append)
        assert len(sent) == 5
        assert len(server.taken) == 5

    def test_a_server_that_takes_none_is_asked_once(self, server: Scripted) -> None:
        server.said["MAIL"] = lambda *_: "421 4.3.2 going down"
        assert isinstance(refused(server, 9), TargetUnavailable)
        assert server.connections == 1


class TestGreetings:
    def test_old_servers_know_helo_only(self, server: Scripted) -> None:
        server.said["EHLO"] = lambda *_: "501 5.5.4 what?"
        send(mails(2), server.connect)
        assert len(server.taken) == 2

    def test_a_name_that_is_none_gives_way_to_the_address(self, server: Scripted) -> None:
        def named(argument: str, _memory: Counter[str]) -> str:
            return "250 OK" if argument.startswith("[127.0.0.1]") else "501 5.5.2 invalid domain name"

        server.said["EHLO"] = server.said["HELO"] = named
        send(mails(2), server.connect)
        assert len(server.taken) == 2
        assert all(step.ok for step in check_mail(server.connect, SENDER, ["bob@customer.example"]))

    @pytest.mark.parametrize(("code", "kind"), [("550 5.7.1", PermanentError), ("450 4.7.1", TargetUnavailable)])
    def test_no_name_is_taken(self, server: Scripted, code: str, kind: type[Exception]) -> None:
        server.said["EHLO"] = server.said["HELO"] = lambda *_: f"{code} no"
        error = refused(server)
        assert isinstance(error, kind)
        assert f"does not take the name of this worker{' now' * (kind is TargetUnavailable)} ({code})" in str(error)

    @pytest.mark.parametrize(
        ("greeting", "kind"), [("554 5.7.1 go away", PermanentError), ("421 4.3.2 busy", TargetUnavailable)]
    )
    def test_no_connection_is_taken(self, server: Scripted, greeting: str, kind: type[Exception]) -> None:
        server.greeting = greeting
        error = refused(server)
        assert isinstance(error, kind)
        assert "takes no connection from this worker" in str(error)
        (failed,) = check_mail(server.connect, SENDER, ["bob@customer.example"])
        assert "takes no connection from this worker" in failed.detail


class TestRefusals:
    @pytest.mark.parametrize(
        ("verb", "answer", "kind", "words"),
        [
            ("MAIL", "552 5.3.4 message size exceeds limit", PermanentError, "larger than the mail server takes"),
            ("DATA", "552 5.3.4 too big", PermanentError, "larger than the mail server takes"),
            ("AFTER", "552 message exceeds fixed maximum message size", PermanentError, "have its limit raised"),
            ("AFTER", "554 5.7.1 looks like spam", PermanentError, "refuses the mail for u***@"),
            ("AFTER", "451 4.3.0 later", TargetUnavailable, "451 4.3.0"),
            ("MAIL", "530 5.7.0 must issue a STARTTLS command first", AccessDenied, "wants a login or TLS"),
            ("MAIL", "550 5.1.8 no such domain", PermanentError, "correct mail.from"),
            ("RCPT", "450 4.7.1 greylisted", TargetUnavailable, "does not take mail for u***@customer.example now"),
            ("RCPT", "550 5.1.1 nobody", RecipientsRefused, "correct `emails`"),
            ("RCPT", "554 5.7.1 relay access denied", RecipientsRefused, "let it relay"),
            ("RCPT", "552 5.2.2 over quota", RecipientsRefused, "mailbox is full"),
        ],
    )
    def test_is_said_by_its_cause(
        self, server: Scripted, verb: str, answer: str, kind: type[Exception], words: str
    ) -> None:
        server.said[verb] = lambda *_: answer
        error = refused(server)
        assert type(error).__mro__.index(kind) >= 0
        assert words in str(error)
        assert "greylisted" not in str(error)

    @pytest.mark.parametrize(
        ("answer", "kind", "words"),
        [
            ("535 5.7.8 bad", AccessDenied, "correct user and password"),
            ("534 5.7.9 application-specific password required", AccessDenied, "another kind of login"),
            ("538 5.7.11 encryption required", AccessDenied, "wants TLS first"),
            ("454 4.7.0 later", TargetUnavailable, "cannot check the login now"),
        ],
    )
    def test_of_a_login(self, server: Scripted, answer: str, kind: type[Exception], words: str) -> None:
        server.said["EHLO"] = lambda *_: "250-mail.example\r\n250 AUTH PLAIN"
        server.said["AUTH"] = lambda *_: answer

        def connect() -> smtplib.SMTP:
            client = server.connect()
            try:
                client.login("user", "s3cret")
            except BaseException:
                client.close()
                raise
            return client

        with pytest.raises(kind, match=words) as error:
            send(mails(1), connect)
        assert "s3cret" not in str(error.value)

    def test_a_name_outside_ascii(self, server: Scripted) -> None:
        mail = message("s", SENDER, "é@customer.example", "id", "text", "<p>text</p>")
        with pytest.raises(PermanentError, match=r"SMTPUTF8.*\*\*\*@customer.example"):
            send([mail, *mails(1)], server.connect)
        assert server.taken == ["user0@customer.example"]
