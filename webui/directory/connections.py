"""Connections to the directory: the first server that answers, encrypted, bound as somebody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ldap3 import NONE, Connection, Server
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPException,
    LDAPInappropriateAuthenticationResult,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDnError,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPOperationResult,
    LDAPSASLPrepError,
    LDAPUnwillingToPerformResult,
)

from state.errors import LxcGpuError, Remedy
from webui.config import DirectoryConfig
from webui.directory.allowance import Allowance, LimitedSocket
from webui.directory.standing import Refusal, refusal
from webui.directory.tls import VerifiedTls

_NOT_THIS_PASSWORD = (
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPInvalidDnError,
    LDAPInappropriateAuthenticationResult,
    LDAPNoSuchObjectResult,
    LDAPConstraintViolationResult,
    LDAPUnwillingToPerformResult,
    LDAPSASLPrepError,  # characters that no password holds (RFC 4013): NUL, for one
)
MOST_SAID = 4 * 1024 * 1024
"""Bytes that the directory may say at a login: an entry may hold a picture."""
MORE_FOR_EACH = 16 * 1024
"""... and for each person whom it is asked about together with others."""
_NOBODY = "cn=nobody-asked-by-lxc-gpu"
"""An entry that doesn't exist."""


class WrongLoginError(LxcGpuError):
    """The name or the password is wrong; which one stays unsaid."""


class NotAllowedError(LxcGpuError):
    """The password was right, but this person may not use the servers, or nothing at all now."""


class DirectoryDownError(LxcGpuError):
    """The directory doesn't answer, or not to us: nothing was learnt about the password."""


@dataclass(frozen=True)
class Reached:
    """A server that answers, and what is left of the conversation with it."""

    server: Server
    allowance: Allowance


class _Connection(Connection):
    """One whose socket is limited from the beginning: ldap3 sets it, and so does VerifiedTls."""

    def __init__(self, to: Reached, user: str | None, password: str | None, answer: int) -> None:
        self._allowance = to.allowance
        super().__init__(
            to.server,
            user,
            password,
            receive_timeout=answer,
            auto_referrals=False,
            read_only=True,
            raise_exceptions=True,
            check_names=False,
        )

    @property
    def socket(self) -> LimitedSocket | None:
        return self._socket

    @socket.setter
    def socket(self, made: Any) -> None:
        plain = isinstance(made, socket.socket)
        self._socket = LimitedSocket(made, self._allowance) if plain else made


class Connections:
    """How the configuration says to reach the directory."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config

    @contextmanager
    def reached(self, people: int = 1) -> Iterator[Reached]:
        """The first server that answers; what fails in the block is the directory's fault.

        The conversation has one limit in time and in bytes, by how many people it is about.
        """
        problems: list[str] = []
        step = self._config.connect_seconds + self._config.answer_seconds
        for url in self._config.servers:
            try:
                server = self._server(url)
                with self._opened(Reached(server, Allowance(step, MOST_SAID))):
                    pass
            except Exception as error:  # whatever a server says, ldap3 may stumble over it
                problems.append(f"{url}: {_in_words(error)}")
                continue
            try:
                seconds, size = step * (2 + max(1, people / 10)), MOST_SAID + MORE_FOR_EACH * people
                yield Reached(server, Allowance(seconds, size))
            except LxcGpuError:
                raise
            except Exception as error:
                raise down(f"{url}: {_in_words(error)}") from error
            return
        raise down("; ".join(problems))

    def _server(self, url: str) -> Server:
        return Server(
            url,
            get_info=NONE,
            connect_timeout=self._config.connect_seconds,
            tls=VerifiedTls(self._config.ca_file),
        )

    @contextmanager
    def _opened(
        self, to: Reached, user: str | None = None, password: str | None = None
    ) -> Iterator[Connection]:
        """A connection, encrypted where it should be, not bound yet."""
        connection = _Connection(to, user, password, self._config.answer_seconds)
        try:
            connection.open(read_server_info=False)
            if self._config.starttls and not to.server.ssl:
                connection.start_tls(read_server_info=False)
            yield connection
        finally:
            _close(connection)

    @contextmanager
    def bound(self, to: Reached, dn: str, password: str) -> Iterator[Connection]:
        """A connection of whoever `dn` is.

        WrongLoginError if the password isn't theirs, NotAllowedError if it is, but the account
        is closed.
        """
        with self._opened(to, dn, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                if closed := refusal(str(error)):
                    raise _closed(dn, closed) from error
                raise wrong(f"{dn}: {error}") from error
            yield connection

    def refused(self, to: Reached, password: str) -> None:
        """As `bound` with a wrong password, but nobody's: who waits can't tell the difference."""
        try:
            with self.bound(to, f"{_NOBODY},{self._config.base}", password):
                pass
        except (WrongLoginError, LDAPOperationResult):
            return

    @contextmanager
    def service(self, to: Reached) -> Iterator[Connection]:
        """A connection that may search: the service account's, or an anonymous one."""
        dn, file = self._config.bind_dn, self._config.bind_password_file
        password = None
        if dn and file is not None:
            try:
                password = file.read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as error:
                raise down(f"bind_password_file: {error}") from error
            if not password:
                raise down(f"{file} is empty")
        with self._opened(to, dn or None, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                raise down(f"the service account {dn} was refused: {error}") from error
            yield connection


def _close(connection: Connection) -> None:
    with suppress(Exception):
        connection.unbind()


def _in_words(error: Exception) -> str:
    """For the journal: an error that isn't about the network says nothing without its kind."""
    return str(error) if isinstance(error, LDAPException | OSError) else repr(error)


def wrong(details: str) -> WrongLoginError:
    """The one message for a wrong name and a wrong password; `details` are for the journal."""
    return WrongLoginError(
        "login-wrong",
        "This name and password don't belong together.",
        "Use the name and password of your laboratory account.",
        Remedy.RETRY,
        details,
    )


def _closed(dn: str, closed: Refusal) -> NotAllowedError:
    text = f"Your password is right, but {closed.text}"
    return NotAllowedError(closed.code, text, closed.hint, details=f"{dn}: {closed.why}")


def down(details: str) -> DirectoryDownError:
    """The message for a directory that doesn't answer; `details` are for the journal."""
    return DirectoryDownError(
        "directory-down",
        "The directory that knows the passwords doesn't answer, so nobody can save right now.",
        "Nothing was changed. Try again in a few minutes; if it lasts, tell your sysadmin.",
        Remedy.WAIT,
        details,
    )
