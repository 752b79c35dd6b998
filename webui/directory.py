"""People log in: LDAP, with OpenLDAP and Active Directory.

What a person types never reaches a filter or a name unescaped, an empty password never reaches a
server at all (RFC 4513, 5.1.2: servers answer "success" to it), exactly one entry must match, and
nobody gets in whom `allow` doesn't let in.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ldap3 import ALL_ATTRIBUTES, BASE, NONE, SUBTREE, Connection, Server
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
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from state.errors import LxcGpuError, Remedy
from webui.config import DirectoryConfig
from webui.tls import VerifiedTls

LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""Logins that we ask a directory about; anything else is no login anywhere."""

LONGEST_PASSWORD = 1024
DEEPEST_GROUP = 10
MOST_GROUPS = 1000

_MEMBER_OF_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"
_NOT_THIS_PASSWORD = (
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPInvalidDnError,
    LDAPInappropriateAuthenticationResult,
    LDAPNoSuchObjectResult,
    LDAPConstraintViolationResult,
    LDAPUnwillingToPerformResult,
)


@dataclass(frozen=True)
class Person:
    """Who somebody is, as the directory says."""

    login: str
    """As the directory spells it, not as it was typed."""
    full_name: str
    directory_id: str | None
    mail: str


class WrongLoginError(LxcGpuError):
    """The name or the password is wrong; which one stays unsaid."""


class NotAllowedError(LxcGpuError):
    """The password was right, but this person may not use the servers."""


class DirectoryDownError(LxcGpuError):
    """The directory doesn't answer, or not to us: nothing was learnt about the password."""


@dataclass(frozen=True)
class _Entry:
    dn: str
    attributes: Mapping[str, list[bytes]]

    def text(self, attribute: str) -> str:
        values = self.attributes.get(attribute.lower()) or [b""]
        return values[0].decode("utf-8", "replace").strip()


class Directory:
    """The directory, as the configuration describes it. Any number of threads may use it."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config

    def authenticate(self, login: str, password: str) -> Person:
        """Who logs in with these. WrongLoginError, NotAllowedError or DirectoryDownError."""
        if not LOGIN.fullmatch(login) or not 0 < len(password) <= LONGEST_PASSWORD:
            raise _wrong("not sent: no possible login, or an empty or overlong password")
        with self._reached() as server:
            if self._config.bind_template:
                return self._by_template(server, login, password)
            return self._by_search(server, login, password)

    def lookup(self, login: str) -> Person | None:
        """Who has this login, asked by the service account; None if nobody (allowed) does."""
        if not LOGIN.fullmatch(login):
            return None
        with self._reached() as server, self._service(server) as service:
            entries = self._find(service, login)
            if len(entries) != 1 or not self._allowed(service, entries[0]):
                return None
            return self._person(entries[0])

    def _by_search(self, server: Server, login: str, password: str) -> Person:
        with self._service(server) as service:
            entries = self._find(service, login)
            if len(entries) != 1:
                raise _wrong(f"{len(entries)} entries match the login")
            with self._bound(server, entries[0].dn, password):
                pass
            return self._let_in(service, entries[0])

    def _by_template(self, server: Server, login: str, password: str) -> Person:
        template = self._config.bind_template
        escaped = escape_rdn(login) if "=" in template else login
        with self._bound(server, template.replace("{login}", escaped), password) as own:
            entries = self._find(own, login)
            if len(entries) != 1:
                raise _wrong(f"{len(entries)} entries match the login")
            return self._let_in(own, entries[0])

    def _let_in(self, connection: Connection, entry: _Entry) -> Person:
        if not self._allowed(connection, entry):
            raise NotAllowedError(
                "login-not-allowed",
                "Your password is right, but you are not among those who may use the GPU servers.",
                "Ask your sysadmin to let you in.",
                details=f"{entry.dn} is outside `allow` or `allow_groups`",
            )
        return self._person(entry)

    def _find(self, connection: Connection, login: str) -> list[_Entry]:
        wanted = f"({self._config.login_attribute}={escape_filter_chars(login)})"
        return self._search(connection, self._config.base, wanted, most=2)

    def _allowed(self, connection: Connection, entry: _Entry) -> bool:
        if not self._search(connection, entry.dn, self._config.allow, scope=BASE):
            return False
        if not self._config.allow_groups:
            return True
        if self._config.nested == "active-directory":
            groups = "".join(
                f"({_MEMBER_OF_CHAIN}={escape_filter_chars(dn)})"
                for dn in self._config.allow_groups
            )
            return bool(self._search(connection, entry.dn, f"(|{groups})", scope=BASE))
        return self._follow_groups(connection, entry)

    def _follow_groups(self, connection: Connection, entry: _Entry) -> bool:
        """Whether a group that lets people in is reached from `entry`, group by group."""
        goal = {_same_dn(dn) for dn in self._config.allow_groups}
        login = escape_filter_chars(entry.text(self._config.login_attribute))
        seen: set[str] = set()
        members, also = [entry.dn], f"(memberUid={login})"
        for _ in range(DEEPEST_GROUP):
            clauses = "".join(
                f"(member={dn})(uniqueMember={dn})" for dn in map(escape_filter_chars, members)
            )
            base = self._config.groups_base or self._config.base
            found = self._search(connection, base, f"(|{clauses}{also})", most=MOST_GROUPS)
            new = {_same_dn(group.dn): group.dn for group in found}
            if goal & new.keys():
                return True
            members, also = [dn for key, dn in new.items() if key not in seen], ""
            seen |= new.keys()
            if not members or len(seen) > MOST_GROUPS:
                return False
        return False

    def _search(
        self,
        connection: Connection,
        base: str,
        wanted: str,
        *,
        scope: Any = SUBTREE,
        most: int = 1,
    ) -> list[_Entry]:
        names = self._config
        try:
            connection.search(
                base,
                wanted,
                scope,
                attributes=[ALL_ATTRIBUTES, names.id_attribute],
                size_limit=0,
                time_limit=names.answer_seconds,
            )
        except LDAPNoSuchObjectResult:
            return []
        answers = connection.response or ()
        found = [each for each in answers if each["type"] == "searchResEntry"]
        return [
            _Entry(
                each["dn"],
                {k.lower(): list(v) for k, v in each["raw_attributes"].items()},
            )
            for each in found[:most]
        ]

    def _person(self, entry: _Entry) -> Person:
        names = self._config
        login = entry.text(names.login_attribute)
        return Person(
            login=login,
            full_name=_printable(entry.text(names.name_attribute)) or login,
            directory_id=_directory_id(entry.attributes.get(names.id_attribute.lower())),
            mail=_printable(entry.text(names.mail_attribute)),
        )

    @contextmanager
    def _reached(self) -> Iterator[Server]:
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
                raise _down(f"{url}: {error}") from error
            return
        raise _down("; ".join(problems))

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
    def _bound(self, server: Server, dn: str, password: str) -> Iterator[Connection]:
        with self._opened(server, dn, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                raise _wrong(f"{dn}: {error}") from error
            yield connection

    @contextmanager
    def _service(self, server: Server) -> Iterator[Connection]:
        """A connection that may search: the service account's, or an anonymous one."""
        dn, file = self._config.bind_dn, self._config.bind_password_file
        password = None
        if dn and file is not None:
            try:
                password = file.read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as error:
                raise _down(f"bind_password_file: {error}") from error
            if not password:
                raise _down(f"{file} is empty")
        with self._opened(server, dn or None, password) as connection:
            try:
                connection.bind(read_server_info=False)
            except _NOT_THIS_PASSWORD as error:
                raise _down(f"the service account {dn} was refused: {error}") from error
            yield connection


def _close(connection: Connection) -> None:
    try:
        connection.unbind()
    except (LDAPException, OSError):
        return


def _wrong(details: str) -> WrongLoginError:
    return WrongLoginError(
        "login-wrong",
        "This name and password don't belong together.",
        "Use the name and password of your laboratory account.",
        Remedy.RETRY,
        details,
    )


def _down(details: str) -> DirectoryDownError:
    return DirectoryDownError(
        "directory-down",
        "The directory that knows the passwords doesn't answer, so nobody can save right now.",
        "Nothing was changed. Try again in a few minutes; if it lasts, tell your sysadmin.",
        Remedy.WAIT,
        details,
    )


def _directory_id(values: list[bytes] | None) -> str | None:
    """entryUUID is text; objectGUID is 16 bytes, the first three fields little-endian."""
    if not values or not values[0]:
        return None
    value = values[0]
    try:
        text = value.decode("ascii")
        if len(value) != 16 and re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
            return text
    except UnicodeDecodeError:
        pass
    return str(uuid.UUID(bytes_le=value)) if len(value) == 16 else value.hex()[:64]


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c != ":").strip()[:200]


def _same_dn(dn: str) -> str:
    return re.sub(r"\s*([,=+])\s*", r"\1", dn).casefold()
