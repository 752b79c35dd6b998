"""Connections to the directory: to the first server that answers, encrypted and bound."""

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
    LDAPSASLPrepError,  # characters that can't be in a password (RFC 4013), such as NUL
)
_UNDECIDED = re.compile(r"\bdata (51f|54b|6ba)\b")
"""Active Directory says "invalid credentials" also if it reached no controller that knows the
password. These codes tell so (MS-ERREF 2.2: no logon servers, no such domain, no RPC server)."""
MOST_SAID = 4 * 1024 * 1024
"""Bytes that the directory may send for a login. An entry may contain a picture."""
MORE_FOR_EACH = 16 * 1024
"""Further bytes for each person, if several are asked about at once."""
_NOBODY = "nobody-asked-by-lxc-gpu"
"""A login that nobody has."""


class WrongLoginError(LxcGpuError):
    """The name or the password is wrong. The message doesn't say which."""


class NotAllowedError(LxcGpuError):
    """The password is right, but this person may not use the servers, or can't log in now."""


class DirectoryDownError(LxcGpuError):
    """The directory doesn't answer, or refuses to serve us. The password wasn't judged."""


class _UnwillingError(Exception):
    """The server refused to check the password.

    It may be starting or stopping, or (389 Directory Server) the account may be closed. If all
    servers refuse, the account is the reason.
    """


@dataclass(frozen=True)
class Reached:
    """A server to ask, and the limits of the conversation with it."""

    server: Server
    allowance: ConversationLimits


class _Connection(Connection):
    """A connection whose socket is limited whoever sets it: ldap3, or VerifiedTls."""

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
        """Bind as in ldap3, but raise unless it succeeds. A referral, for example, binds nobody."""
        super().bind(read_server_info, controls)
        return self._success()

    def search(self, *args: Any, **options: Any) -> Any:
        """Search as in ldap3, but raise for half an answer: a limit was reached, or a referral."""
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
    """Connects to the directory as the configuration says."""

    def __init__(
        self, config: DirectoryConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._order = ServerOrder(config.servers, clock)

    def reached(self, question: Callable[[Reached], Answer], people: int = 1) -> Answer:
        """The result of `question` from the first server with which it completes.

        If a server is silent, hangs up or says that it can't, the next one is asked the whole
        question, and the failed one is asked last for a while. All attempts share one time limit,
        which grows with the number of `people`. An LxcGpuError from `question` is an answer: no
        other server is asked, since a wrong password would count at each. DirectoryDownError if no
        server answers.
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
            except Exception as error:  # ldap3 may raise anything at a malformed answer
                self._order.failed(url)
                problems.append(f"{url}: {_in_words(error)}")
            else:
                self._order.answered(url)
                return answer
        raise (wrong if unwilling == len(servers) else down)("; ".join(problems))

    def greeted(self, url: str, context: ssl.SSLContext) -> VerifiedTls:
        """The outcome of a TLS handshake with the server `url`. Nothing else is sent.

        A handshake in which the certificate is refused is an outcome, too. DirectoryDownError if
        there was no handshake.
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
        """A connection that isn't bound yet, encrypted if the configuration says so."""
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
        """A connection bound as `dn`.

        WrongLoginError if the password is wrong. NotAllowedError if it is right, but the account is
        closed.
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
        """Bind with a login that doesn't exist: an unknown login takes as long as a known one.

        False if the server accepted it: then it accepts any login.
        """
        template = self._config.bind_template or f"cn={{login}},{self._config.base}"
        try:
            with self.bound(to, template.replace("{login}", _NOBODY), password):
                return False
        except WrongLoginError:
            return True

    @contextmanager
    def service(self, to: Reached) -> Iterator[Connection]:
        """A connection for searches: bound as the service account, or anonymous."""
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
    """The error for the journal. Outside of LDAP and the network, its type has to be said, too."""
    return str(error) if isinstance(error, LDAPException | OSError) else repr(error)


def wrong(details: str, perhaps: str = "") -> WrongLoginError:
    """The error for a wrong name and for a wrong password; `details` are for the journal.

    A person whose password isn't tried for a while gets the same message. `perhaps` continues the
    advice on what to type.
    """
    return WrongLoginError(
        "login-wrong",
        "The login or the password is wrong.",
        f"Use the login and password of your laboratory account{perhaps}. If you did, wait a"
        " minute and try again.",
        Remedy.RETRY,
        details,
    )


def _closed(dn: str, closed: AccountRefusal) -> NotAllowedError:
    text = f"Your password is right, but {closed.text}"
    return NotAllowedError(closed.code, text, closed.hint, details=f"{dn}: {closed.why}")


def down(details: str) -> DirectoryDownError:
    """The error for a directory that doesn't answer; `details` are for the journal."""
    return DirectoryDownError(
        "directory-down",
        "The directory that checks passwords doesn't answer, so nobody can save right now.",
        "Nothing was changed. Try again in a few minutes. If it lasts, tell your sysadmin.",
        Remedy.WAIT,
        details,
    )
