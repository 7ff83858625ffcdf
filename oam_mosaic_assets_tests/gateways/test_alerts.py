"""The alert channels, against real servers: what arrives, and what the error says if nothing does."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import time
import traceback
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pytest

from oam_mosaic_assets.cli import main
from oam_mosaic_assets.core.alerts import Message
from oam_mosaic_assets.errors import AlertNotSent
from oam_mosaic_assets.gateways.alerts import Email, Webhook
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import Answer, ScriptedApi, scripted_api
from oam_mosaic_assets_tests.servers.smtp import MailServer, running_smtp, self_signed

SECRET = "T0ps3cr3t"
SENDER, PEOPLE = "mosaic@example.org", ["ann@example.org", "ben@example.org"]
MESSAGE = Message(
    event="opened",
    key="build",
    since=datetime(2026, 1, 15, 3, tzinfo=UTC),
    text="Flood — “Überflutung”\n.\nBcc: all@example.org",
    advice="Mend it.",
)


@pytest.fixture
def web() -> Iterator[ScriptedApi]:
    with scripted_api(Answer({}), others={f"/{SECRET}": Answer("ok")}) as server:
        yield server


def webhook(address: str) -> Webhook:
    return Webhook("webhook", address, variable="ALERT_WEBHOOK_URL", write=Message.as_json)


def refusal(channel: Webhook | Email) -> str:
    """The error message of a channel that cannot send; it must not contain the secret."""
    with pytest.raises(AlertNotSent) as caught:
        channel.send(MESSAGE)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(channel)
    assert caught.value.hint
    return caught.value.message


def test_a_webhook_is_posted_the_message_as_json(web: ScriptedApi) -> None:
    assert webhook(f"{web.address}/{SECRET}").send(MESSAGE) == ""
    ((method, path, headers, body),) = web.asked
    assert (method, path) == ("POST", f"/{SECRET}")
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers
    assert json.loads(body) == MESSAGE.as_json()


def test_a_webhook_with_user_and_password_is_sent_them_in_a_header(web: ScriptedApi) -> None:
    webhook(web.address.replace("//", f"//me:p%40%E2%82%AC{SECRET}@") + f"/{SECRET}").send(MESSAGE)
    sent = web.asked[0][2]["Authorization"].removeprefix("Basic ")
    assert b64decode(sent).decode() == f"me:p@€{SECRET}"


@pytest.mark.parametrize("status", [301, 400, 404, 500])
def test_another_answer_than_yes_is_an_error_that_names_the_variable_only(
    status: int, web: ScriptedApi
) -> None:
    web.others[f"/{SECRET}"] = Answer(SECRET, status)
    assert f"in ALERT_WEBHOOK_URL did not accept the alert: {status}" in refusal(
        webhook(f"{web.address}/{SECRET}")
    )


def test_a_redirect_is_not_followed(web: ScriptedApi) -> None:
    web.others |= {
        f"/{SECRET}": Answer("", 307, headers={"Location": f"{web.address}/else"}),
        "/else": Answer("ok"),
    }
    assert "redirect" in refusal(webhook(f"{web.address}/{SECRET}"))
    assert [path for _, path, _, _ in web.asked] == [f"/{SECRET}"]


@pytest.mark.parametrize(
    "address",
    [f"http://127.0.0.1:1/{SECRET}", f"https://me:{SECRET}@127.0.0.1:1/", f"http://{SECRET}..invalid/"],
)
def test_an_address_that_does_not_answer_is_an_error_that_does_not_show_it(address: str) -> None:
    assert "ALERT_WEBHOOK_URL" in refusal(webhook(address))


def test_no_log_shows_the_address_whatever_the_server_answers(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as taken:
                taken.recv(65536)
                taken.sendall(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")

        Thread(target=answer, daemon=True).start()
        with caplog.at_level(logging.DEBUG):
            webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}").send(MESSAGE)
    assert SECRET not in caplog.text


def test_no_log_shows_the_address_of_one_when_another_is_done_sooner(
    web: ScriptedApi, caplog: pytest.LogCaptureFixture
) -> None:
    was_asked, may_answer = Event(), Event()
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level(logging.DEBUG):

        def answer() -> None:
            with server.accept()[0] as taken:
                taken.recv(65536)
                was_asked.set()
                assert may_answer.wait(4)
                taken.sendall(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")

        slow = webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}")
        threads = [Thread(target=answer), Thread(target=slow.send, args=[MESSAGE])]
        for thread in threads:
            thread.start()
        assert was_asked.wait(4)
        webhook(f"{web.address}/{SECRET}").send(MESSAGE)
        may_answer.set()
        for thread in threads:
            thread.join()
    assert SECRET not in caplog.text


def test_a_server_that_takes_too_long_is_not_waited_for(
    web: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.SECONDS", 0.2)
    web.others[f"/{SECRET}"] = Answer("ok", seconds=1)
    assert "ReadTimeout" in refusal(webhook(f"{web.address}/{SECRET}"))


@pytest.mark.parametrize("begin", [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nA: "], ids=["status", "headers"])
def test_a_server_that_drips_is_not_waited_for(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine has begun by then
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.CONVERSATION_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as taken, suppress(OSError):
                taken.recv(65536)
                taken.sendall(begin)
                while True:
                    time.sleep(0.1)
                    taken.sendall(b"x")

        Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        slow = webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}")
        if b"200" in begin:
            slow.send(MESSAGE)  # the status came in time: the alert was accepted
        else:
            assert "ALERT_WEBHOOK_URL did not accept the alert" in refusal(slow)
    assert time.monotonic() - began < 10


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a host with five addresses, none of which answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as queue:
        while True:  # until no more connections are let in
            line = queue.enter_context(socket.socket())
            line.settimeout(0.2)
            try:
                line.connect(server.getsockname())
            except TimeoutError:
                break
        found = socket.getaddrinfo(*server.getsockname(), type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found * 5)
        yield f"{SECRET}.example.org:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "smtp"])
def test_a_host_with_many_dead_addresses_is_not_waited_for(
    dead: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.CONVERSATION_SECONDS", 0.5)
    address = f"{scheme}://{dead}"
    slow = webhook(address) if scheme == "http" else Email(address, sender=SENDER, recipients=PEOPLE)
    began = time.monotonic()
    assert "did not accept the alert: TimeoutError" in refusal(slow)
    assert time.monotonic() - began < 4


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


def email(server: MailServer, *, scheme: str = "smtp", user: str = "", trust: Path | None = None) -> Email:
    context = ssl.create_default_context(cafile=trust) if trust else None
    address = f"{scheme}://{user}127.0.0.1:{server.port}"
    return Email(address, sender=SENDER, recipients=PEOPLE, trust=context)


def test_a_mail_server_that_answers_slowly_many_times_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.CONVERSATION_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as taken, taken.makefile("rwb", 0) as line, suppress(OSError):
                line.write(b"220 slow\r\n")
                while line.readline():
                    time.sleep(0.2)
                    line.write(b"250 yes\r\n")

        Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        slow = Email(f"smtp://127.0.0.1:{server.getsockname()[1]}", sender=SENDER, recipients=PEOPLE * 50)
        assert "ALERT_SMTP_URL did not accept the alert" in refusal(slow)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("begin", [b"", b"220-slow\r\n220-"], ids=["before TLS", "in the greeting"])
def test_a_mail_server_that_is_slow_to_greet_is_not_waited_for(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.CONVERSATION_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as taken, suppress(OSError):
                taken.sendall(begin or b"\x16\x03\x03\x40\x00")  # a record of TLS that takes its time
                while True:
                    time.sleep(0.1)
                    taken.sendall(b"x")

        Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        address = f"{'smtp' if begin else 'smtps'}://127.0.0.1:{server.getsockname()[1]}"
        slow = Email(address, sender=SENDER, recipients=PEOPLE)
        assert "ALERT_SMTP_URL did not accept the alert" in refusal(slow)
    assert time.monotonic() - began < 4


def test_a_letter_arrives_whole_and_its_text_makes_no_header() -> None:
    with running_smtp() as server:
        assert email(server).send(MESSAGE) == ""
    assert server.envelopes == [(SENDER, PEOPLE)]
    (letter,) = server.letters
    assert letter["Subject"] == "OpenAerialMap mosaic: The build failed"
    assert letter["From"] == SENDER
    assert letter["To"] == ", ".join(PEOPLE)
    assert letter["Bcc"] is None
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Message-ID"].endswith("@example.org>")
    assert letter.get_content().splitlines() == MESSAGE.as_text().splitlines()


def test_a_letter_that_was_taken_is_sent_whatever_the_server_says_afterwards() -> None:
    with running_smtp() as server:
        server.farewell = "421 I am tired"
        assert email(server).send(MESSAGE) == ""
    assert len(server.letters) == 1


def test_a_recipient_who_is_refused_is_named_and_the_others_get_theirs() -> None:
    with running_smtp() as server:
        server.refuses = {PEOPLE[0]}
        assert PEOPLE[0] in email(server).send(MESSAGE)
        assert server.envelopes == [(SENDER, PEOPLE[1:])]
        server.refuses = {*PEOPLE}
        assert "SMTPRecipientsRefused" in refusal(email(server))


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_password_is_sent_encrypted(scheme: str, certificate: tuple[Path, Path]) -> None:
    with running_smtp(certificate=certificate[0], is_tls=scheme == "smtps") as server:
        server.accounts = {"me@x": f"p:@/{SECRET}"}
        email(server, scheme=scheme, user=f"me%40x:p%3A%40%2F{SECRET}@", trust=certificate[1]).send(MESSAGE)
        assert len(server.letters) == 1
        assert not any(line.startswith(b"AUTH") for line in server.heard)
        wrong = email(server, scheme=scheme, user=f"me:{SECRET}@", trust=certificate[1])
        assert "SMTPAuthenticationError 535" in refusal(wrong)


def test_a_password_is_not_sent_where_anybody_could_read_it() -> None:
    with running_smtp() as server:
        server.accounts = {"me": SECRET}
        assert "does not offer STARTTLS" in refusal(email(server, user=f"me:{SECRET}@"))
        assert not any(line.startswith(b"AUTH") for line in server.heard)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_certificate_that_nobody_vouches_for_is_refused(
    scheme: str, certificate: tuple[Path, Path]
) -> None:
    with running_smtp(certificate=certificate[0], is_tls=scheme == "smtps") as server:
        assert "SSLCertVerificationError" in refusal(email(server, scheme=scheme, user=f"me:{SECRET}@"))
        assert server.letters == []


def test_a_mail_server_that_hangs_up_or_is_not_there_is_an_error() -> None:
    with running_smtp() as server:
        server.is_down = True
        assert "ALERT_SMTP_URL" in refusal(email(server))
    assert "ConnectionRefusedError" in refusal(email(server))


def test_the_command_says_of_each_channel_whether_it_took_the_message(
    web: ScriptedApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    web.others["/slack"] = Answer("ok")
    monkeypatch.setenv("ALERT_WEBHOOK_URL", f"{web.address}/{SECRET}")
    monkeypatch.setenv("ALERT_SLACK_URL", f"{web.address}/slack")
    monkeypatch.setenv("ALERT_EMAIL_FROM", SENDER)
    monkeypatch.setenv("ALERT_EMAIL_TO", ",".join(PEOPLE))
    with running_smtp() as server:
        monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        assert main(["test-alerts"]) == 0
        assert capsys.readouterr().out.split() == ["webhook", "sent", "Slack", "sent", "e-mail", "sent"]
        bodies = [json.loads(body) for _, _, _, body in web.asked]
        assert bodies[0]["event"] == "test"
        assert bodies[1]["text"].startswith("This is a test alert.")
        assert len(server.letters) == 1

        web.others[f"/{SECRET}"] = Answer("no", 403)
        assert main(["test-alerts"]) == 1
    told = capsys.readouterr().out
    assert SECRET not in told
    assert "webhook   failed. The address in ALERT_WEBHOOK_URL did not accept the alert: 403." in told
    assert "Slack     sent" in told


def test_the_command_says_that_nothing_is_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ALERT_WEBHOOK_URL", "ALERT_SLACK_URL", "ALERT_SMTP_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(["test-alerts"]) == 2
    assert "ALERT_WEBHOOK_URL" in capsys.readouterr().err
