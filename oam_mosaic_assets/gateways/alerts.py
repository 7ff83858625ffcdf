"""The channels that send alerts: a webhook, Slack's webhook, e-mail.

Each sends one message, gives up after some seconds, follows no redirect, and never reveals its address, which
may itself be a secret: errors name the setting that holds it.
"""

from __future__ import annotations

import json
import logging
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from functools import partial
from http import HTTPStatus
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from oam_mosaic_assets.core.alerts import Message
from oam_mosaic_assets.errors import AlertNotSent

if TYPE_CHECKING:
    import requests

SECONDS: Final = 5.0
"""Timeout for connecting to an address, and for each read."""

CONVERSATION_SECONDS: Final = 15.0
"""Timeout for a whole exchange, however many addresses the server has and however slowly it answers: Dagster
ends a tick after a minute."""

ENDING_SECONDS: Final = 2.0
"""Time for an exchange to notice that it was cut off."""

Noting = Callable[[socket.socket], socket.socket]
"""Is given each connection as it is opened, and gives it back."""

_Outcome = TypeVar("_Outcome")

_PORTS: Final = {"smtp": 587, "smtps": 465}


class Webhook:
    """Posts JSON.

    Args:
        address: may contain user and password, for HTTP basic authentication.
        variable: the setting that holds the address.
        write: makes the JSON of a message.
    """

    def __init__(
        self, name: str, address: str, *, variable: str, write: Callable[[Message], Mapping[str, Any]]
    ) -> None:
        parts = urlsplit(address)
        self.name = name
        self._address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._credentials = _credentials(parts)
        self._variable = variable
        self._write = write

    def send(self, message: Message) -> str:
        import requests  # noqa: PLC0415  # slow to import, seldom needed

        try:
            answer = _in_time(partial(self._post, json.dumps(self._write(message))))
        except (requests.RequestException, OSError, ValueError) as error:
            trouble = type(error).__name__  # its text contains the address
        else:
            if HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
                return ""
            trouble = str(answer.status_code)
            if answer.is_redirect:
                trouble += ", a redirect, which is not followed"
        raise AlertNotSent(
            f"The address in {self._variable} did not accept the alert: {trouble}.",
            hint=f"Check {self._variable} and the service behind it; oam-mosaic test-alerts tries it.",
        )

    def _post(self, content: str, noting: Noting) -> requests.Response:
        from requests.auth import HTTPBasicAuth  # noqa: PLC0415

        known = self._credentials and HTTPBasicAuth(*map(str.encode, self._credentials))
        with _unlogged("urllib3.connection", "urllib3.connectionpool"), _session(noting) as session:
            session.auth = known or _as_it_is  # or requests would read ~/.netrc
            answer = session.post(
                self._address,
                data=content,
                headers={"Content-Type": "application/json"},
                timeout=SECONDS,
                allow_redirects=False,
                stream=True,
            )
            answer.close()
            return answer


class Email:
    """Sends e-mail by SMTP: TLS from the start for `smtps`, otherwise STARTTLS if the server offers it.

    A password is never sent over an unencrypted connection, and certificates are always verified.

    Args:
        address: `smtp://user:password@host:587` or `smtps://…`; user and password are optional.
        trust: the certificates to trust; None for the system's.
    """

    name = "e-mail"

    def __init__(
        self, address: str, *, sender: str, recipients: Sequence[str], trust: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(address)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._is_tls = parts.scheme == "smtps"
        self._credentials = _credentials(parts)
        self._sender = sender
        self._recipients = tuple(recipients)
        self._trust = trust

    def send(self, message: Message) -> str:
        try:
            refused = _in_time(partial(self._deliver, self._letter(message)))
        except smtplib.SMTPResponseException as error:
            trouble = f"{type(error).__name__} {error.smtp_code}"  # its text comes from the server
        except (smtplib.SMTPException, OSError, ValueError) as error:
            trouble = type(error).__name__
        else:
            return f"refused by the server: {', '.join(refused)}" if refused else ""
        raise AlertNotSent(
            f"The mail server in ALERT_SMTP_URL did not accept the alert: {trouble}.",
            hint="Check ALERT_SMTP_URL, ALERT_EMAIL_FROM, ALERT_EMAIL_TO; oam-mosaic test-alerts tries them.",
        )

    def _deliver(self, letter: EmailMessage, noting: Noting) -> Mapping[str, Any]:
        """Hand a letter to the server; returns the recipients that it refused."""
        with closing(self._connect(noting)) as server:
            self._introduce(server)
            refused = server.send_message(letter, self._sender, self._recipients)
            with suppress(smtplib.SMTPException, OSError):  # it was accepted, whatever happens now
                server.quit()
        return refused

    def _connect(self, noting: Noting) -> smtplib.SMTP:
        class Noted(smtplib.SMTP):
            def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
                return noting(super()._get_socket(host, port, timeout))  # type: ignore[misc]

        class NotedTLS(smtplib.SMTP_SSL, Noted):  # it is noted before the handshake
            pass

        if self._is_tls:
            return NotedTLS(self._host, self._port, timeout=SECONDS, context=self._context())
        return Noted(self._host, self._port, timeout=SECONDS)

    def _introduce(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if not self._is_tls and server.has_extn("starttls"):
            server.starttls(context=self._context())
        elif not self._is_tls and self._credentials:
            raise AlertNotSent(
                "The mail server in ALERT_SMTP_URL does not offer STARTTLS, so the password was not sent.",
                hint="Use smtps://, or a server that offers STARTTLS, or leave out user and password.",
            )
        if self._credentials:
            server.login(*self._credentials)

    def _context(self) -> ssl.SSLContext:
        return self._trust or ssl.create_default_context()

    def _letter(self, message: Message) -> EmailMessage:
        letter = EmailMessage(policy=SMTP)
        letter["Subject"] = f"OpenAerialMap mosaic: {message.title}"
        letter["From"] = self._sender
        letter["To"] = ", ".join(self._recipients)
        letter["Date"] = formatdate()
        letter["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.as_text(), cte="quoted-printable")
        return letter


def _credentials(address: SplitResult) -> tuple[str, str] | None:
    return (unquote(address.username), unquote(address.password or "")) if address.username else None


def _as_it_is(request: Any) -> Any:
    return request


def _in_time(exchange: Callable[[Noting], _Outcome]) -> _Outcome:
    """Make an exchange that is given up if it takes too long, whatever it is waiting for.

    Its connections are then shut down, also one that is opened later: reads and writes fail as if the server
    were gone. It is made in a thread, as nothing ends the search for a host's addresses, nor the attempts to
    connect to one after the other.

    Args:
        exchange: is given a function that notes each connection, before anything is read from it.

    Raises:
        TimeoutError: it is given up, and not even connected.
        Exception: what the exchange raises.
    """
    lines: list[socket.socket] = []
    is_over = Event()
    outcome: Future[_Outcome] = Future()

    def cut() -> None:
        is_over.set()
        for line in lines:
            with suppress(OSError):  # it is closed already
                line.shutdown(socket.SHUT_RDWR)

    def noting(line: socket.socket) -> socket.socket:
        lines.append(line.dup())  # TLS detaches the socket itself
        if is_over.is_set():  # while it was being opened
            cut()
        return line

    def make() -> None:
        try:
            outcome.set_result(exchange(noting))
        except Exception as error:  # noqa: BLE001  # it is raised where the exchange is waited for
            outcome.set_exception(error)
        finally:
            for line in lines:
                line.close()

    Thread(target=make, daemon=True).start()
    wait([outcome], CONVERSATION_SECONDS)
    if not outcome.done():
        cut()
        wait([outcome], ENDING_SECONDS)
    return outcome.result(timeout=0)


@contextmanager
def _session(noting: Noting) -> Iterator[requests.Session]:
    """A session that notes its connections; the timeout of requests applies to each read alone."""
    import requests  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Noted(HTTPAdapter):
        def get_connection_with_tls_context(self, *stated: Any, **named: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*stated, **named)

            class Connection(pool.ConnectionCls):  # type: ignore[misc]  # HTTP's or HTTPS's
                def _new_conn(self) -> socket.socket:
                    return noting(super()._new_conn())

            pool.ConnectionCls = Connection
            return pool

    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, Noted())
        yield session


@contextmanager
def _unlogged(*names: str) -> Iterator[None]:
    """Silence these loggers: they quote addresses, whatever the server answers."""

    def nothing(record: logging.LogRecord) -> bool:  # noqa: ARG001  # required by logging
        return False

    # a filter of its own: another channel's, which may be done sooner, goes with that
    logs = [logging.getLogger(name) for name in names]
    for log in logs:
        log.addFilter(nothing)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(nothing)
