"""Connections to the directory: the first server that answers, encrypted, bound as somebody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ldap3 import NONE, Connection, Server
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPException,
    LDAPInappropriateAuthenticationResult,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDnError,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPUnwillingToPerformResult,
)

from state.errors import LxcGpuError, Remedy
from webui.config import DirectoryConfig
from webui.directory.tls import VerifiedTls

_NOT_THIS_PASSWORD = (
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPInvalidDnError,
    LDAPInappropriateAuthenticationResult,
    LDAPNoSuchObjectResult,
    LDAPConstraintViolationResult,
    LDAPUnwillingToPerformResult,
)


class WrongLoginError(LxcGpuError):
    """The name or the password is wrong; which one stays unsaid."""


class NotAllowedError(LxcGpuError):
    """The password was right, but this person may not use the servers."""


class DirectoryDownError(LxcGpuError):
    """The directory doesn't answer, or not to us: nothing was learnt about the password."""


class Connections:
    """How the configuration says to reach the directory."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config

    @contextmanager
    def reached(self) -> Iterator[Server]:
        """The first server that answers; what fails in the block is the directory's fault."""
        problems: list[str] = []
        for url in self._config.servers:
            try:
                server = self._server(url)
                with self._opened(server):
                    pass
            except (LDAPException, OSError) as error:
                problems.append(f"{url}: {error}")
                continue
            try:
                yield server
            except (LDAPException, OSError) as error:
                raise down(f"{url}: {error}") from error
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
        self, server: Server, user: str | None = None, password: str | None = None
    ) -> Iterator[Connection]:
        """A connection, encrypted where it should be, not bound yet."""
        connection = Connection(
            server,
            user,
            password,
            receive_timeout=self._config.answer_seconds,
            auto_referrals=False,
            read_only=True,
            raise_exceptions=True,
            check_names=False,
        )
        try:
            connection.open(read_server_info=False)
            if self._config.starttls and not server.ssl:
                connection.start_tls(read_server_info=False)
            yield connection
        finally:
            _close(connection)

    @contextmanager
    def bound(self, server: Server, dn: str, password: str) -> Iterator[Connection]:
        """A connection of whoever `dn` is. WrongLoginError if the password isn't theirs."""
        with self._opened(server, dn, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                raise wrong(f"{dn}: {error}") from error
            yield connection

    @contextmanager
    def service(self, server: Server) -> Iterator[Connection]:
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
        with self._opened(server, dn or None, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                raise down(f"the service account {dn} was refused: {error}") from error
            yield connection


def _close(connection: Connection) -> None:
    try:
        connection.unbind()
    except (LDAPException, OSError):
        return


def wrong(details: str) -> WrongLoginError:
    """The one message for a wrong name and a wrong password; `details` are for the journal."""
    return WrongLoginError(
        "login-wrong",
        "This name and password don't belong together.",
        "Use the name and password of your laboratory account.",
        Remedy.RETRY,
        details,
    )


def down(details: str) -> DirectoryDownError:
    """The message for a directory that doesn't answer; `details` are for the journal."""
    return DirectoryDownError(
        "directory-down",
        "The directory that knows the passwords doesn't answer, so nobody can save right now.",
        "Nothing was changed. Try again in a few minutes; if it lasts, tell your sysadmin.",
        Remedy.WAIT,
        details,
    )
