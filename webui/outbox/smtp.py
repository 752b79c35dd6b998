"""One conversation with the mail server (RFC 5321), limited in time and size."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import IO, Any

from state.certificates import believing
from state.errors import LxcGpuError, Remedy
from state.words import printable
from webui.config import MailConfig

ANSWER = 15.0
"""Seconds that each answer may take."""
WHOLE = 60.0
"""Seconds that connecting and logging in may take together."""
LETTER_ANSWER, LETTER_WHOLE = 600.0, 1200.0
"""Seconds for each answer about a letter, and for each letter (RFC 5321, 4.5.3.2). A server that
scans letters or checks addresses is slow. If we hang up, it may already have accepted the letter,
and gets it again."""
MOST_SAID = 256 * 1024
"""Bytes that the server may send in one conversation."""


class MailDownError(LxcGpuError):
    """The mail server can't be used. No letter was judged."""


class LetterRefusedError(LxcGpuError):
    """The mail server refused one letter, or its address."""

    def __init__(self, status: int, details: str) -> None:
        self.for_good = status >= 500
        """Whether the refusal is permanent (RFC 5321, 4.2.1); the server may be mistaken."""
        super().__init__("mail-refused", f"The mail server refuses it: {details}.")


class Conversation:
    """A conversation that is encrypted and logged in, as configured."""

    def __init__(self, smtp: _Bounded, sender: str) -> None:
        self._smtp = smtp
        self._sender = sender

    def deliver(self, letter: bytes, to: str) -> None:
        """Hand the letter over. When this returns, the server has accepted it.

        LetterRefusedError if it is refused. MailDownError if the conversation broke off.
        """
        with _words_for(self._smtp.place), _within(LETTER_WHOLE, self._smtp):
            self._smtp.be_patient(LETTER_ANSWER)
            try:
                self._smtp.sendmail(self._sender, [to], letter)
            except smtplib.SMTPRecipientsRefused as error:
                status, said = error.recipients[to]
                raise _refused(self._smtp, status, said) from error
            except smtplib.SMTPDataError as error:
                raise _refused(self._smtp, error.smtp_code, error.smtp_error) from error


@contextmanager
def talking(config: MailConfig) -> Iterator[Conversation]:
    """A conversation for sending letters. MailDownError if there can't be one."""
    place = f"{config.host}:{config.at_port}"
    with _words_for(place):
        password = config.password_file.read_text("utf-8").strip() if config.password_file else ""
        context = None if config.tls == "none" else believing(config.ca_file)
        smtp = _Bounded(place, context if config.tls == "implicit" else None, config.host)
    try:
        with _words_for(place), _within(WHOLE, smtp):
            smtp.connect(config.host, config.at_port)
            smtp.ehlo_or_helo_if_needed()
            if config.tls == "starttls":
                smtp.starttls(context=context)
                smtp.ehlo()
            if config.user:
                smtp.login(config.user, password)
        yield Conversation(smtp, config.sender)
        with suppress(OSError, ValueError, smtplib.SMTPException), _within(ANSWER, smtp):
            smtp.be_patient(ANSWER)
            smtp.quit()
    finally:
        smtp.close()


class _Bounded(smtplib.SMTP):
    """An SMTP client that limits what it reads. With a context, it uses implicit TLS."""

    def __init__(self, place: str, context: ssl.SSLContext | None, host: str) -> None:
        self.place = place
        self._implicit = context
        self._said: IO[bytes] | None = None
        self._left = MOST_SAID
        super().__init__(timeout=ANSWER)
        self._host = host  # starttls() checks the certificate against it

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        if self._implicit is None:
            return plain
        try:
            encrypted: ssl.SSLSocket = self._implicit.wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False
            )
            self.sock = encrypted  # so that `hang_up` ends a handshake, too
            encrypted.do_handshake()
        except BaseException:
            plain.close()
            raise
        return encrypted

    @property
    def file(self) -> Any:
        """What smtplib reads the server's lines from."""
        return None if self._said is None else self

    @file.setter
    def file(self, made: IO[bytes] | None) -> None:
        self._said = made

    def readline(self, size: int) -> bytes:
        """The next line. ConnectionError if the server has sent too much."""
        assert self._said is not None  # noqa: S101
        line = self._said.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionAbortedError("it sends far too much")
        return line

    def be_patient(self, seconds: float) -> None:
        """Wait up to `seconds` for each answer from now on."""
        if self.sock is not None:
            self.sock.settimeout(seconds)

    def hang_up(self) -> None:
        """End whatever waits for the server."""
        with suppress(OSError, ValueError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def _within(seconds: float, smtp: _Bounded) -> Iterator[None]:
    """Hang up after `seconds`. A server that sends single bytes keeps within all other limits."""
    timer = Timer(seconds, smtp.hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _words_for(place: str) -> Iterator[None]:
    """Turn the errors of a conversation with `place` into MailDownError."""
    try:
        yield
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise MailDownError(
            "mail-down",
            f"The mail server {place} takes no letters: {why(error)}.",
            "`lxc-gpu doctor` on this machine tells more. Letters wait meanwhile.",
            Remedy.WAIT,
            f"{type(error).__name__}: {error}"[:500],
        ) from error


def why(error: Exception) -> str:
    """What the error of a conversation means, in words for a sysadmin."""
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"it doesn't offer what web.toml asks for ({_line(str(error))})"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses our user and password ({error.smtp_code} {_line(error.smtp_error)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it says {error.smtp_code} {_line(error.smtp_error)}"
    if isinstance(error, TimeoutError):
        return "it doesn't answer in time"
    if isinstance(error, OSError) and error.strerror:
        return _line(error.strerror)
    return _line(str(error)) or type(error).__name__


def _refused(smtp: _Bounded, status: int, said: bytes | str) -> LetterRefusedError:
    return LetterRefusedError(status, f"{smtp.place} says {status} {_line(said)}")


def _line(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return printable(text, " ")[:160].rstrip(". ")
