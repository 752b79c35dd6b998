"""Connections to the directory: the first server that answers, encrypted, bound as somebody."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ldap3 import NONE, Connection, Server
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPException,
    LDAPInappropriateAuthenticationResult,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDnError,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPSASLPrepError,
    LDAPUnwillingToPerformResult,
)
from ldap3.core.results import RESULT_SUCCESS

from state.certificates import believing
from state.errors import LxcGpuError, Remedy
from webui.config import DirectoryConfig
from webui.directory.account_status import POLICY, AccountRefusal, policy_refusal, refusal
from webui.directory.transport.limited_socket import ConversationLimits, LimitedSocket
from webui.directory.transport.server_order import ServerOrder
from webui.directory.transport.tls import VerifiedTls

Answer = TypeVar("Answer")

_NOT_THIS_PASSWORD = (
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPInvalidDnError,
    LDAPInappropriateAuthenticationResult,
    LDAPNoSuchObjectResult,
    LDAPConstraintViolationResult,
    LDAPSASLPrepError,  # characters that no password holds (RFC 4013): NUL, for one
)
_UNDECIDED = re.compile(r"\bdata (51f|54b|6ba)\b")
"""Active Directory says "invalid credentials" with these, too: it reached no controller that knows
the password (MS-ERREF, 2.2: no logon servers, no such domain, the RPC server is unavailable)."""
MOST_SAID = 4 * 1024 * 1024
"""Bytes that the directory may say at a login: an entry may hold a picture."""
MORE_FOR_EACH = 16 * 1024
"""... and for each person whom it is asked about together with others."""
_NOBODY = "nobody-asked-by-lxc-gpu"
"""A login that nobody has."""


class WrongLoginError(LxcGpuError):
    """The name or the password is wrong; which one stays unsaid."""


class NotAllowedError(LxcGpuError):
    """The password was right, but this person may not use the servers, or nothing at all now."""


class DirectoryDownError(LxcGpuError):
    """The directory doesn't answer, or not to us: nothing was learnt about the password."""


class _UnwillingError(Exception):
    """The server didn't want to look at the password.

    It may be one that begins or ends just now, or (389 Directory Server) the account may be
    closed. If it is what every server says, it is meant for the account.
    """


@dataclass(frozen=True)
class Reached:
    """A server that is asked, and what is left of the conversation with it."""

    server: Server
    allowance: ConversationLimits


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

    def bind(self, read_server_info: bool = True, controls: Any = None) -> bool:
        """As of ldap3, but what isn't success raises: a referral, for one, binds as nobody."""
        super().bind(read_server_info, controls)
        return self._success()

    def search(self, *args: Any, **options: Any) -> Any:
        """The same: half an answer (a limit in time or size, a referral) is none."""
        super().search(*args, **options)
        return self._success()

    def _success(self) -> bool:
        if self.result["result"] != RESULT_SUCCESS:
            said = f"{self.result['description']} {self.result['message']}".strip()
            raise LDAPException(f"the server says {said}")
        return True

    @property
    def socket(self) -> LimitedSocket | None:
        return self._socket

    @socket.setter
    def socket(self, made: Any) -> None:
        plain = isinstance(made, socket.socket)
        self._socket = LimitedSocket(made, self._allowance) if plain else made


class Connections:
    """How the configuration says to reach the directory."""

    def __init__(
        self, config: DirectoryConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._order = ServerOrder(config.servers, clock)

    def reached(self, question: Callable[[Reached], Answer], people: int = 1) -> Answer:
        """What `question` comes to with the first server that lets it end.

        A server that is silent, hangs up or says that it can't, at any step, is asked last for a
        while; the next one is asked the whole question. All of it has one limit in time, by how
        many `people` it is about, and each server gets its share of what is left. An LxcGpuError of
        `question` is an answer: no other server is asked, since a wrong password counts at each.
        DirectoryDownError if none answers.
        """
        step = float(self._config.connect_seconds + self._config.answer_seconds)
        size = MOST_SAID + MORE_FOR_EACH * people
        whole = ConversationLimits(step * (2 + max(1, people / 10)), size)
        problems: list[str] = []
        unwilling = 0
        servers, context = self._order.now(), self._believing()
        for asked, url in enumerate(servers):
            try:
                share = whole.seconds() / (len(servers) - asked)
            except TimeoutError as error:
                problems.append(f"{url}: not asked: {error}")
                break
            try:
                server = self._server(url, VerifiedTls(context))
                answer = question(Reached(server, ConversationLimits(share, size)))
            except _UnwillingError as error:
                unwilling += 1
                problems.append(f"{url}: {error}")
            except LxcGpuError:
                raise
            except Exception as error:  # whatever a server says, ldap3 may stumble over it
                self._order.failed(url)
                problems.append(f"{url}: {_in_words(error)}")
            else:
                self._order.answered(url)
                return answer
        raise (wrong if unwilling == len(servers) else down)("; ".join(problems))

    def greeted(self, url: str, context: ssl.SSLContext) -> VerifiedTls:
        """What came of a TLS handshake with the server `url`, and of nothing more.

        DirectoryDownError if there was none; one that ends in distrust counts.
        """
        tls = VerifiedTls(context)
        step = self._config.connect_seconds + self._config.answer_seconds
        try:
            with self.opened(Reached(self._server(url, tls), ConversationLimits(step, MOST_SAID))):
                return tls
        except Exception as error:
            if tls.refused is not None:
                return tls
            raise down(f"{url}: {_in_words(error)}") from error

    def _server(self, url: str, tls: VerifiedTls) -> Server:
        seconds = self._config.connect_seconds
        return Server(url, get_info=NONE, connect_timeout=seconds, tls=tls)

    def _believing(self) -> ssl.SSLContext:
        try:
            return believing(self._config.ca_file)
        except OSError as error:
            raise down(f"ca_file {self._config.ca_file}: {error}") from error

    @contextmanager
    def opened(
        self, to: Reached, user: str | None = None, password: str | None = None
    ) -> Iterator[Connection]:
        """A connection, encrypted where it should be, not bound yet: nobody's."""
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
        with self.opened(to, dn, password) as connection:
            try:
                connection.bind(read_server_info=False, controls=[(POLICY, False, None)])
            except LDAPUnwillingToPerformResult as error:
                raise _UnwillingError(f"{dn}: {error}") from error
            except _NOT_THIS_PASSWORD as error:
                if closed := refusal(str(error)) or policy_refusal(connection.result or {}):
                    raise _closed(dn, closed) from error
                if _UNDECIDED.search(str(error)):
                    raise
                raise wrong(f"{dn}: {error}") from error
            if closed := policy_refusal(connection.result):
                raise _closed(dn, closed)
            yield connection

    def refused(self, to: Reached, password: str) -> bool:
        """As `bound` with a wrong password, but nobody's: who waits can't tell the difference.

        Whether it was refused: a server that takes what nobody has takes anything.
        """
        template = self._config.bind_template or f"cn={{login}},{self._config.base}"
        try:
            with self.bound(to, template.replace("{login}", _NOBODY), password):
                return False
        except WrongLoginError:
            return True

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
        with self.opened(to, dn or None, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                if _UNDECIDED.search(str(error)):
                    raise
                raise down(f"the service account {dn} was refused: {error}") from error
            yield connection


def _close(connection: Connection) -> None:
    with suppress(Exception):
        connection.unbind()


def _in_words(error: Exception) -> str:
    """For the journal: an error that isn't about the network says nothing without its kind."""
    return str(error) if isinstance(error, LDAPException | OSError) else repr(error)


def wrong(details: str, perhaps: str = "") -> WrongLoginError:
    """The one message for a wrong name and a wrong password; `details` are for the journal.

    And for a person whose password isn't tried for a while, which isn't told. `perhaps` is what
    else to type.
    """
    return WrongLoginError(
        "login-wrong",
        "This name and password don't belong together.",
        f"Use the name and password of your laboratory account{perhaps}. If you did, wait a minute "
        "and try again.",
        Remedy.RETRY,
        details,
    )


def _closed(dn: str, closed: AccountRefusal) -> NotAllowedError:
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
