"""A mail server on the loopback that does as a test wants: real SMTP, by aiosmtpd."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from tests.integration.slapd import free_port

USER, PASSWORD = "iam", "mail secret"


class MailServer:
    """What came, and what the server answers."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.envelopes: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []
        self.answer_rcpt = self.answer_data = ""
        """Instead of yes."""
        self.slow: dict[str, float] = {}
        """Seconds after which a letter to somebody is answered."""
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens when a letter is accepted, before its sender hears that."""
        self.host, self.port = "localhost", 0

    async def handle_RCPT(  # noqa: N802 # its name
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer_rcpt:
            return self.answer_rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 # its name
        self, server: SMTP, session: Any, envelope: Envelope
    ) -> str:
        if self.answer_data:
            return self.answer_data
        await asyncio.sleep(max(self.slow.get(to, 0) for to in envelope.rcpt_tos))
        self.encrypted.append(session.ssl is not None)
        for to in envelope.rcpt_tos:
            assert isinstance(envelope.content, bytes)
            self.letters.append(message_from_bytes(envelope.content, policy=default))
            self.envelopes.append((envelope.mail_from or "", to))
        self.meanwhile()
        return "250 accepted"


@contextmanager
def mail_server(
    context: ssl.SSLContext | None = None, *, implicit: bool = False, logins: bool = False
) -> Iterator[MailServer]:
    """A running one; with a context it offers STARTTLS, or is encrypted at once."""
    mails = MailServer()

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=data == right, handled=False)

    options: dict[str, Any] = {}
    if context is not None and implicit:
        options["ssl_context"] = context
    elif context is not None:
        options |= {"tls_context": context, "require_starttls": True}
    if logins:
        options |= {"authenticator": check, "auth_required": True}
        options["auth_require_tls"] = context is not None and not implicit
    controller = Controller(mails, hostname="localhost", port=free_port(), **options)
    controller.start()
    try:
        mails.port = controller.port
        yield mails
    finally:
        controller.stop()
