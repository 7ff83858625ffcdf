"""A mail server on the loopback interface that keeps what it receives: EHLO, STARTTLS, AUTH PLAIN, DATA."""

from __future__ import annotations

import ssl
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import ClassVar


@dataclass(slots=True)
class MailServer:
    """How the server behaves, and what it has received.

    Attributes:
        accounts: users and their passwords; where there are any, MAIL without AUTH is refused.
        refuses: recipients that it rejects.
        is_down: it hangs up on every client at once.
        farewell: its answer to QUIT, and to any command it does not know.
        letters: the messages it accepted, parsed.
        envelopes: sender and recipients of each message, from MAIL FROM and RCPT TO.
        heard: every command received unencrypted, in upper case.
    """

    accounts: dict[str, str] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    is_down: bool = False
    farewell: str = "221 bye"
    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost: a file with its key, and one without."""
    key, public = folder / "certificate.pem", folder / "public.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(public)),
        ],
        capture_output=True,
        check=True,
    )
    key.write_bytes(key.read_bytes() + public.read_bytes())
    return key, public


@contextmanager
def running_smtp(*, certificate: Path | None = None, is_tls: bool = False) -> Iterator[MailServer]:
    """Run a mail server until the block ends.

    Args:
        certificate: a file with a certificate and its key; the server then offers STARTTLS.
        is_tls: speak TLS from the start instead; needs a certificate.
    """
    kept = MailServer()

    class Handler(_Conversation):
        server_state = kept
        starts_encrypted = is_tls
        context = None if certificate is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    if Handler.context is not None and certificate is not None:
        Handler.context.load_cert_chain(certificate)
    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        kept.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


class _Conversation(StreamRequestHandler):
    """One connection."""

    server_state: ClassVar[MailServer]
    context: ClassVar[ssl.SSLContext | None]
    starts_encrypted: ClassVar[bool]
    user = ""
    sender = ""
    is_encrypted = False

    def handle(self) -> None:
        self.recipients: list[str] = []
        try:
            self._talk()
        except (OSError, ValueError):  # the client has hung up
            return
        finally:
            if self.is_encrypted:  # the server knows only the underlying socket
                self.connection.close()

    def _talk(self) -> None:
        if self.server_state.is_down:
            return
        if self.starts_encrypted:
            self._encrypt()
        self._say("220 mail.test")
        while line := self.rfile.readline():
            if not self.is_encrypted:
                self.server_state.heard.append(line.upper())
            command, _, argument = line.decode().strip().partition(" ")
            getattr(self, f"_{command.lower()}", self._quit)(argument)

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    def _encrypt(self) -> None:
        assert self.context is not None
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.is_encrypted = True

    def _ehlo(self, _: str) -> None:
        offers = [] if self.context is None or self.is_encrypted else ["250-STARTTLS"]
        self._say("250-mail.test", *offers, "250 AUTH PLAIN")

    def _starttls(self, _: str) -> None:
        self._say("220 go on")
        self._encrypt()

    def _auth(self, argument: str) -> None:
        _, self.user, password = b64decode(argument.split()[1]).decode().split("\0")
        right = self.server_state.accounts.get(self.user) == password
        self._say("235 welcome" if right else f"535 not you, {self.user} with {password}")

    def _mail(self, argument: str) -> None:
        self.sender, self.recipients = _mailbox(argument), []
        self._say("250 fine" if self.user or not self.server_state.accounts else "530 who are you?")

    def _rcpt(self, argument: str) -> None:
        if _mailbox(argument) in self.server_state.refuses:
            self._say("550 nobody here")
            return
        self.recipients.append(_mailbox(argument))
        self._say("250 fine")

    def _data(self, _: str) -> None:
        self._say("354 go on")
        content = b""
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            content += line.removeprefix(b".")
        self.server_state.letters.append(message_from_bytes(content, policy=policy.default))
        self.server_state.envelopes.append((self.sender, self.recipients))
        self._say("250 taken")

    def _quit(self, _: str) -> None:
        self._say(self.server_state.farewell)


def _mailbox(argument: str) -> str:
    return argument[argument.index("<") + 1 : argument.index(">")]
