"""The web page's configuration: /etc/lxc-gpu/web.toml, read once at the start."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import parse_filter
from ldap3.utils.dn import parse_dn
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)

from state.errors import LxcGpuError
from state.model.fields import web_url
from state.reading.wording import broken_rules

DEFAULT_PATH = Path("/etc/lxc-gpu/web.toml")
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_MAIL_ADDRESS = re.compile(
    rf"(?=.{{1,64}}@.{{1,251}}\Z)(?!.*=\?){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*"
)
"""Dot-string@Domain of RFC 5321, 4.1.2. `=?` is excluded: in a header, it begins an encoded word
(RFC 2047)."""
_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


def _ldap_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
        raise ValueError("must look like ldaps://ldap.example.org or ldap://ldap.example.org:389")
    if parts.path not in ("", "/") or parts.query:
        raise ValueError("must end after the host and port; the base goes into `base`")
    return text


def _ldap_filter(text: str) -> str:
    try:
        parse_filter(text, None, False, None, None, None)  # type: ignore[no-untyped-call]
    except (LDAPExceptionError, IndexError, AttributeError) as error:
        raise ValueError(f"isn't an LDAP filter such as (objectClass=person): {error}") from None
    return text


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must look like 127.0.0.1:8080")
    return text


def is_mail_address(text: str) -> bool:
    """Whether `text` is an address that mail is sent to: RFC 5321, 4.1.2, without quotes."""
    return _MAIL_ADDRESS.fullmatch(text) is not None


def _mail_address(text: str) -> str:
    if not is_mail_address(text):
        raise ValueError("must look like gpu@example.org")
    return text


def _webhook_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii():
        raise ValueError("must look like https://chat.example.org/hooks/...")
    if not text.isprintable() or " " in text or parts.username is not None:
        raise ValueError("must be an address without blanks and without a user name")
    return text


def is_here(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


LdapUrl = Annotated[str, AfterValidator(_ldap_url)]
LdapFilter = Annotated[str, AfterValidator(_ldap_filter)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
WholeSeconds = Annotated[int, Field(gt=0, le=120)]
Attribute = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]


class Section(BaseModel):
    """A table of the file. It is frozen, unknown settings are errors, messages contain no input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DirectoryConfig(Section):
    """[directory]: the directory that checks logins, and who is let in."""

    servers: Annotated[tuple[LdapUrl, ...], Field(min_length=1)]
    """They are tried in this order."""
    base: Annotated[str, Field(min_length=1)]
    """People are searched at and below this entry."""
    allow: LdapFilter
    """The filter for people who are let in. Mandatory: everyone in the directory is too many."""
    allow_groups: tuple[str, ...] = ()
    """If set, only members of these groups (DNs), directly or through other groups."""
    nested: Literal["active-directory", "follow"] = "follow"
    """How groups in groups are found: by Active Directory's own rule, or group by group."""
    groups_base: str = ""
    """Groups are searched at and below this entry; empty: `base`."""
    starttls: bool = True
    """For ldap:// addresses."""
    ca_file: Path | None = None
    """Certificates of the authorities that are believed; None: the system's list."""
    dangerously_unencrypted: bool = False
    """Whether passwords may cross the network unencrypted. Only for ldap:// on this machine."""
    bind_dn: str = ""
    """The account that searches for people."""
    bind_password_file: Path | None = None
    bind_template: str = ""
    """The name that a person binds with, e.g. {login}@example.org, instead of a search first."""
    login_attribute: Attribute = "uid"
    name_attribute: Attribute = "cn"
    id_attribute: Attribute = "entryUUID"
    mail_attribute: Attribute = "mail"
    connect_seconds: WholeSeconds = 4
    answer_seconds: WholeSeconds = 8

    @model_validator(mode="after")
    def _way_in(self) -> DirectoryConfig:
        if self.bind_template and "{login}" not in self.bind_template:
            raise ValueError("bind_template must hold {login}")
        if self.bind_dn and self.bind_password_file is None:
            raise ValueError("bind_dn needs bind_password_file")
        plain = [u for u in self.servers if u.startswith("ldap://")]
        if plain and not self.starttls and not self.dangerously_unencrypted:
            raise ValueError(
                f"{plain[0]} without starttls would send passwords unencrypted over the network:"
                " set starttls = true, use ldaps://, or set dangerously_unencrypted = true"
            )
        return self


class HistoryConfig(Section):
    """[history]: how long the monitor keeps what was used."""

    path: Path | None = None
    """The database; None: `history.db` in the clone's folder."""
    keep_plots_days: Annotated[int, Field(ge=1, le=7)] = 2
    """Days that plots go back. A server's day takes 40,000 bytes of memory."""
    keep_use_days: Annotated[int, Field(ge=7, le=36_500)] = 730
    """Days for which it is kept who used how much; whole weeks are kept."""


class MailConfig(Section):
    """[mail]: the server that takes our mail, and which sysadmins get alerts."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: 587 with starttls, 465 with implicit, 25 with none."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: Path | None = None
    """Certificates of the authorities that are believed; None: the system's list."""
    dangerously_unencrypted: bool = False
    """Whether tls = "none" is allowed for a server on another machine."""
    user: str = ""
    password_file: Path | None = None
    sender: MailAddress = Field(alias="from")
    """The sender's address. Letters that can't be delivered come back to it."""
    sysadmins: tuple[MailAddress, ...] = ()
    """The addresses that get alerts."""
    most_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 300
    most_per_person: Annotated[int, Field(ge=1, le=1000)] = 10
    """In an hour. Further letters wait."""

    @model_validator(mode="after")
    def _way_out(self) -> MailConfig:
        if self.tls == "none" and not is_here(self.host) and not self.dangerously_unencrypted:
            raise ValueError(
                f'tls = "none" would send letters unencrypted to {self.host}: use starttls or'
                " implicit, or set dangerously_unencrypted = true"
            )
        if self.user and self.password_file is None:
            raise ValueError("user needs password_file")
        return self

    @property
    def at_port(self) -> int:
        """The port to connect to."""
        return self.port or _PORTS[self.tls]


class WebhookConfig(Section):
    """[webhook]: the address at which a chat program takes alerts, as JSON with `text`."""

    url: WebhookUrl = ""
    """Usually a secret: anybody who knows it can write there."""
    url_file: Path | None = None
    """A file that contains the address, instead of `url`."""
    ca_file: Path | None = None
    dangerously_unencrypted: bool = False
    """Whether http:// is allowed for another machine."""

    @model_validator(mode="after")
    def _one_address(self) -> WebhookConfig:
        if bool(self.url) == (self.url_file is not None):
            raise ValueError("needs either url or url_file, not both")
        if self.url:
            self._check(self.url)
        return self

    def address(self) -> str:
        """The address. ValueError or OSError if `url_file` doesn't contain one."""
        if self.url_file is None:
            return self.url
        text = _webhook_url(self.url_file.read_text("utf-8").strip())
        self._check(text)
        return text

    def _check(self, text: str) -> None:
        parts = urlsplit(text)
        plain = parts.scheme == "http" and not is_here(str(parts.hostname))
        if plain and not self.dangerously_unencrypted:
            raise ValueError("needs https://, or dangerously_unencrypted = true")


OTHERS = "others"
"""The name for people who are in none of the groups."""


def _group_name(text: str) -> str:
    if text.casefold() == OTHERS or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be a short, printable name other than `{OTHERS}`")
    return text


def _dn(text: str) -> str:
    try:
        parse_dn(text)
    except LDAPExceptionError as error:
        raise ValueError(f"isn't a DN such as cn=vision,ou=groups,dc=mylab: {error}") from None
    return text


GroupName = Annotated[str, Field(max_length=40, pattern="^[^;,|]+$"), AfterValidator(_group_name)]


class UsageConfig(Section):
    """[usage]: how past weeks are added up."""

    groups: Annotated[
        dict[GroupName, Annotated[str, AfterValidator(_dn)]], Field(max_length=50)
    ] = {}
    """Groups of the directory: their DNs by the names that pages show."""


class WebConfig(Section):
    """The whole file."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    """Where nginx answers without TLS; without nginx, where the page does (only on the
    loopback)."""
    public_url: Annotated[str, AfterValidator(web_url)]
    """The address at which people reach this page. It is part of the commands that they copy."""
    behind_proxy: bool = False
    """Whether a proxy on another machine is in front of our nginx."""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    """That proxy's addresses. Their X-Forwarded-For is believed. One on this machine needs none."""
    connections_per_address: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Simultaneous requests of one address, at most. A whole campus may share one."""
    repository: str
    """The state repository: a path or an address."""
    clone: Path
    """The folder of the page's own clone."""
    signing_key: Path
    """The private key that signs the page's commits."""
    nudge_key: Path
    """The private key for the account `iam` of each server, which runs a forced command."""
    fetch_seconds: Seconds = 5
    """The greatest age of the state that a page shows."""
    refresh_minutes: Annotated[float, Field(gt=0, le=1440)] = 10
    """Minutes between two nudges of all servers, even unreachable ones."""
    directory_refresh_minutes: Annotated[float, Field(gt=0, le=10_080)] = 60
    """Minutes between two refreshes, which look all users up in the directory."""
    disable_vanished: bool = False
    """Whether users who are gone from the directory are disabled automatically."""
    disable_after: Annotated[int, Field(ge=1, le=1000)] = 3
    """They are disabled after this many refreshes in a row without them."""
    disable_most: Annotated[int, Field(ge=1, le=100_000)] = 3
    """Nobody is disabled while more users than this are gone: the directory may be broken."""
    returning: Literal["ask", "allow"] = "ask"
    """Whether users whom a sysadmin disabled come back by saving a key, or have to ask."""
    organisation: Annotated[str, Field(max_length=80)] = ""
    """Your laboratory's name, for the top of each page."""
    directory: DirectoryConfig
    history: HistoryConfig = HistoryConfig()
    usage: UsageConfig = UsageConfig()
    mail: MailConfig | None = None
    """None: the page sends no mail."""
    webhook: WebhookConfig | None = None

    @model_validator(mode="after")
    def _somebody_asks(self) -> WebConfig:
        if self.usage.groups and not self.looks_up:
            raise ValueError("[usage] groups need a service account: [directory] bind_dn")
        return self

    @property
    def history_path(self) -> Path:
        """The database of the monitor's history."""
        return self.history.path or self.clone.with_name("history.db")

    @property
    def outbox_path(self) -> Path:
        """The folder in which letters are kept."""
        return self.clone.with_name("outbox")

    @property
    def host(self) -> str:
        """The address to listen on."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach `listen`."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def looks_up(self) -> bool:
        """Whether the page can search the directory for people who aren't logging in."""
        return bool(self.directory.bind_dn) or not self.directory.bind_template

    @property
    def refresh_interval(self) -> timedelta:
        """`refresh_minutes` as a duration."""
        return timedelta(minutes=self.refresh_minutes)


class ConfigError(LxcGpuError):
    """The configuration can't be used. The message names the file and every wrong setting."""


def read(path: Path = DEFAULT_PATH) -> WebConfig:
    """The configuration in the file `path`. ConfigError, with all its faults, if it is invalid."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(
            "web-config-unreadable",
            f"{path} can't be read: {error.strerror}.",
            "`setup/web-server` writes this file.",
        ) from error


def parse(text: str, name: str) -> WebConfig:
    """The configuration in `text`, which messages call `name`."""
    try:
        return WebConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("web-config-invalid", f"{name}: {error}") from error
    except ValidationError as error:
        problems = [f"{name}: {each.message}" for each in broken_rules(name, WebConfig, error)]
        raise ConfigError("web-config-invalid", "\n".join(problems)) from error
