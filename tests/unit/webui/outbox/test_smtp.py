"""The conversation with the mail server: real SMTP, and whatever else may answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from tests.integration.certificates import authority, issue
from tests.unit.webui.outbox import hostile, smtp_server
from tests.unit.webui.outbox.fleet import NOW
from tests.unit.webui.outbox.smtp_server import mail_server
from webui.config import MailConfig
from webui.outbox import smtp
from webui.outbox.letters import Letter, email
from webui.outbox.smtp import LetterRefusedError, MailDownError, talking

TO = "ann@mylab.com"
LETTER = email(
    Letter("Your disk", "Für alle.\n.\nEnd\n"), "a.1", NOW, "gpu@mylab.com", TO, "http://iam"
)


def config(port: int, **more: object) -> MailConfig:
    fields = {"host": "localhost", "port": port, "from": "gpu@mylab.com", "tls": "none"}
    return MailConfig.model_validate(fields | more)


def send(config: MailConfig) -> None:
    with talking(config) as conversation:
        conversation.deliver(LETTER.as_bytes(), TO)


@pytest.fixture
def encrypted(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    lab = authority()
    made = issue(tmp_path / "mail", lab)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context, lab.save(tmp_path / "ca.pem")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_letter_goes_encrypted_and_whole(
    encrypted: tuple[SSLContext, Path], tmp_path: Path, tls: str
) -> None:
    context, ca = encrypted
    secret = tmp_path / "password"
    secret.write_text(f"{smtp_server.PASSWORD}\n")
    login = {"user": smtp_server.USER, "password_file": secret} if tls == "starttls" else {}
    with mail_server(context, implicit=tls == "implicit", logins=bool(login)) as server:
        send(config(server.port, tls=tls, ca_file=ca, **login))
        (letter,) = server.letters
        assert letter.get_content().replace("\r\n", "\n") == "Für alle.\n.\nEnd\n"
        assert letter["Message-ID"] == LETTER["Message-ID"]
        assert server.envelopes == [("gpu@mylab.com", TO)]
        if tls == "starttls":
            secret.write_text("wrong")
            with pytest.raises(MailDownError, match="refuses our user and password"):
                send(config(server.port, tls=tls, ca_file=ca, **login))


def test_who_is_not_vouched_for_gets_nothing(encrypted: tuple[SSLContext, Path]) -> None:
    context, ca = encrypted
    with mail_server(context) as server:
        for tls in ("starttls", "implicit"):
            with pytest.raises(MailDownError):
                send(config(server.port, tls=tls))
        with pytest.raises(MailDownError):  # another name than in the certificate
            send(config(server.port, tls="starttls", ca_file=ca, host="127.0.0.2"))
        assert server.letters == []


def test_without_starttls_nothing_goes_readable() -> None:
    with mail_server() as server:
        with pytest.raises(MailDownError, match="doesn't offer"):
            send(config(server.port, tls="starttls"))
        assert server.letters == []


@pytest.mark.parametrize(
    ("answers", "for_good"),
    [({"answer_rcpt": "550 no such user"}, True), ({"answer_rcpt": "451 greylisted"}, False),
     ({"answer_data": "452 disk full"}, False), ({"answer_data": "554 spam"}, True)]
)  # fmt: skip
def test_a_letter_that_is_refused_is_refused_alone(answers: dict[str, str], for_good: bool) -> None:
    with mail_server() as server:
        vars(server).update(answers)
        with talking(config(server.port)) as conversation:
            with pytest.raises(LetterRefusedError) as refused:
                conversation.deliver(LETTER.as_bytes(), TO)
            assert refused.value.for_good == for_good
            server.answer_rcpt = server.answer_data = ""
            conversation.deliver(LETTER.as_bytes(), TO)
        assert len(server.letters) == 1


@pytest.mark.parametrize(
    "answer",
    [lambda c: None, lambda c: c.recv(1), lambda c: c.sendall(b"554 go away\r\n"),
     lambda c: c.sendall(b"\xff\xfe\x00\r\n"), lambda c: c.sendall(b"220 hi\r\n421 bye\r\n"),
     lambda c: hostile.for_ever(c, b"220-more\r\n" * 1000),
     lambda c: hostile.for_ever(c, b"x" * 10000),
     lambda c: hostile.for_ever(c, b"2", 0.02)]
)  # fmt: skip
def test_whatever_answers_instead_ends_soon(
    answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "ANSWER", 0.3)
    monkeypatch.setattr(smtp, "WHOLE", 0.6)
    with hostile.listening(answer) as port, pytest.raises(MailDownError) as error:
        send(config(port))
    assert f"localhost:{port}" in error.value.message
    assert error.value.message.isprintable()


def test_a_server_may_look_into_a_letter_longer_than_it_may_greet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "ANSWER", 1)
    monkeypatch.setattr(smtp, "WHOLE", 1.5)
    with mail_server() as server:
        server.slow[TO] = 2
        send(config(server.port))
        assert len(server.letters) == 1


@pytest.mark.parametrize("bound", ["LETTER_ANSWER", "LETTER_WHOLE"])
def test_a_server_that_takes_a_letter_for_ever_is_hung_up_on(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, bound, 0.5)
    with mail_server() as server:
        server.slow[TO] = 3600
        with pytest.raises(MailDownError):
            send(config(server.port))


def test_a_password_file_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(MailDownError, match="No such file"):
        send(config(1, user="iam", password_file=tmp_path / "none"))
