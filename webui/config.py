"""/etc/lxc-gpu/web.toml: the configuration of the web page, read once at the start."""

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

DEFAULT_PATH = Path("/etc/lxc-gpu/web.toml")
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_MAIL_ADDRESS = re.compile(
    rf"(?=.{{1,64}}@.{{1,251}}\Z)(?!.*=\?){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*"
)
"""RFC 5321, 4.1.2: Dot-string@Domain. In a header `=?` begins words in code (RFC 2047), which mail
programs, and Python's email, read as something else."""
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
        raise ValueError(f"is no LDAP filter such as (objectClass=person): {error}") from None
    return text


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must look like 127.0.0.1:8080")
    return text


def is_mail_address(text: str) -> bool:
    """Whether mail is sent to `text`: the plain form of RFC 5321 (4.1.2), nothing quoted."""
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
        raise ValueError("must be an address without blanks and without a user's name")
    return text


def is_here(host: str) -> bool:
    """Whether a host's name or address means this very machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


LdapUrl = Annotated[str, AfterValidator(_ldap_url)]
LdapFilter = Annotated[str, AfterValidator(_ldap_filter)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
WholeSeconds = Annotated[int, Field(gt=0, le=120)]
Attribute = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]


class Section(BaseModel):
    """What all tables share: frozen, unknown fields are errors, input never in messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DirectoryConfig(Section):
    """[directory]: where people log in, and who of them may."""

    servers: Annotated[tuple[LdapUrl, ...], Field(min_length=1)]
    """Tried in this order."""
    base: Annotated[str, Field(min_length=1)]
    """Where people are searched, with everything below."""
    allow: LdapFilter
    """Who gets in. Mandatory: not everyone with a password in the directory."""
    allow_groups: tuple[str, ...] = ()
    """If any are given: only members of these groups (DNs), directly or by way of groups."""
    nested: Literal["active-directory", "follow"] = "follow"
    """How groups in groups are found: by the server's own rule, or group by group."""
    groups_base: str = ""
    """Where groups are searched; empty: `base`."""
    starttls: bool = True
    """For ldap:// addresses."""
    ca_file: Path | None = None
    """Whom to believe about the server's name; none: the system's list."""
    dangerously_unencrypted: bool = False
    """Passwords cross the network readable by anyone. Only for ldap:// on this very machine."""
    bind_dn: str = ""
    """The account that searches for people."""
    bind_password_file: Path | None = None
    bind_template: str = ""
    """Instead of searching first: what a person binds as, e.g. {login}@example.org."""
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
                f"{plain[0]} without starttls would send passwords readable over the network:"
                " set starttls = true, use ldaps://, or set dangerously_unencrypted = true"
            )
        return self


class HistoryConfig(Section):
    """[history]: what the monitor keeps of who used what."""

    path: Path | None = None
    """The database; none: `history.db` beside the clone."""
    keep_plots_days: Annotated[int, Field(ge=1, le=7)] = 2
    """How far plots go back; a day of a server takes 40,000 bytes of memory."""
    keep_use_days: Annotated[int, Field(ge=7, le=36_500)] = 730
    """How long it is kept who used how much, in whole weeks."""


class MailConfig(Section):
    """[mail]: the server that takes mail from us, and who gets word of the fleet."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: 587 with starttls, 465 with implicit, 25 with none."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: Path | None = None
    """Whom to believe about the server's name; none: the system's list."""
    dangerously_unencrypted: bool = False
    """Whether tls = "none" is right for a server on another machine."""
    user: str = ""
    password_file: Path | None = None
    sender: MailAddress = Field(alias="from")
    """From whom letters are; what can't be delivered comes back there."""
    sysadmins: tuple[MailAddress, ...] = ()
    """Who is told that a server is silent, and the like."""
    most_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 300
    most_per_person: Annotated[int, Field(ge=1, le=1000)] = 10
    """In an hour. What is more waits."""

    @model_validator(mode="after")
    def _way_out(self) -> MailConfig:
        if self.tls == "none" and not is_here(self.host) and not self.dangerously_unencrypted:
            raise ValueError(
                f'tls = "none" would send letters readable to {self.host}: use starttls or'
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
    """[webhook]: where sysadmins' chat program takes JSON with `text`."""

    url: WebhookUrl = ""
    """Mostly a secret: whoever knows it can write there."""
    url_file: Path | None = None
    """Instead: a file that holds it."""
    ca_file: Path | None = None
    dangerously_unencrypted: bool = False
    """Whether http:// is right for another machine."""

    @model_validator(mode="after")
    def _one_address(self) -> WebhookConfig:
        if bool(self.url) == (self.url_file is not None):
            raise ValueError("needs either url or url_file")
        if self.url:
            self._check(self.url)
        return self

    def address(self) -> str:
        """The address. ValueError or OSError if a file doesn't hold one."""
        if self.url_file is None:
            return self.url
        text = _webhook_url(self.url_file.read_text("utf-8").strip())
        self._check(text)
        return text

    def _check(self, text: str) -> None:
        parts = urlsplit(text)
        plain = parts.scheme == "http" and not is_here(str(parts.hostname))
        if plain and not self.dangerously_unencrypted:
            raise ValueError("http:// only to this machine, or with dangerously_unencrypted = true")


OTHERS = "others"
"""Who is in none of the groups."""


def _group_name(text: str) -> str:
    if text.casefold() == OTHERS or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be a short name that can be read, and not `{OTHERS}`")
    return text


def _dn(text: str) -> str:
    try:
        parse_dn(text)
    except LDAPExceptionError as error:
        raise ValueError(f"is no name such as cn=vision,ou=groups,dc=mylab: {error}") from None
    return text


GroupName = Annotated[str, Field(max_length=40, pattern="^[^;,|]+$"), AfterValidator(_group_name)]


class UsageConfig(Section):
    """[usage]: how past weeks are added up."""

    groups: Annotated[
        dict[GroupName, Annotated[str, AfterValidator(_dn)]], Field(max_length=50)
    ] = {}
    """Groups of the directory: what past weeks call them, and their DNs."""


class WebConfig(Section):
    """The whole file."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    """Where nginx answers without TLS. Without nginx, the page itself: on the loopback only."""
    public_url: Annotated[str, AfterValidator(web_url)]
    """How people reach this page: goes into the commands that they copy."""
    behind_proxy: bool = False
    """Whether a proxy of yours stands before our nginx, on another machine."""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    """Its addresses: what they say in X-Forwarded-For is believed. On this machine: not needed."""
    connections_per_address: Annotated[int, Field(ge=10, le=10_000)] = 100
    """How many requests one address may have under way; a whole campus may sit behind one."""
    repository: str
    """The state repository: a path or an address."""
    clone: Path
    """Where the page keeps its own copy of it."""
    signing_key: Path
    """Signs the commits that the page makes."""
    nudge_key: Path
    """Opens the `iam` account of each server, for a forced command."""
    fetch_seconds: Seconds = 5
    """How old the page's copy of the state may get while somebody looks."""
    refresh_minutes: Annotated[float, Field(gt=0, le=1440)] = 10
    """How often every server is asked again, those that were unreachable included."""
    directory_refresh_minutes: Annotated[float, Field(gt=0, le=10_080)] = 60
    """How often everybody is looked up in the directory: full names, and who is gone."""
    disable_vanished: bool = False
    """Whether people who are gone from the directory are disabled without being asked."""
    disable_after: Annotated[int, Field(ge=1, le=1000)] = 3
    """... after being gone in so many refreshes, one after the other."""
    disable_most: Annotated[int, Field(ge=1, le=100_000)] = 3
    """... and never while more than so many are gone at once: then the directory is suspected."""
    returning: Literal["ask", "allow"] = "ask"
    """Whether people whom a sysadmin disabled come back by saving a key, or have to ask."""
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
        """Where the monitor's history is kept."""
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
        """Whether only programs of this machine reach `listen`."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def looks_up(self) -> bool:
        """Whether somebody but the people themselves can ask the directory about them."""
        return bool(self.directory.bind_dn) or not self.directory.bind_template

    @property
    def refresh_interval(self) -> timedelta:
        """`refresh_minutes`, as a duration."""
        return timedelta(minutes=self.refresh_minutes)


class ConfigError(LxcGpuError):
    """The configuration can't be used; the message names the file and every wrong field."""


def read(path: Path = DEFAULT_PATH) -> WebConfig:
    """The configuration in `path`. ConfigError, with everything that is wrong, if it is unfit."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(
            "web-config-unreadable",
            f"{path} can't be read: {error.strerror}.",
            "`setup/web-server` writes one.",
        ) from error


def parse(text: str, name: str) -> WebConfig:
    """The configuration that `text` spells; `name` is what messages call it."""
    try:
        return WebConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("web-config-invalid", f"{name}: {error}") from error
    except ValidationError as error:
        problems = [_problem(name, e["loc"], e["msg"]) for e in error.errors()]
        raise ConfigError("web-config-invalid", "\n".join(problems)) from error


def _problem(name: str, place: tuple[int | str, ...], message: str) -> str:
    words = message.removeprefix("Value error, ")
    if words == "Field required":
        words = "is missing"
    if words == "Extra inputs are not permitted":
        words = "is not a setting of lxc-gpu; is it misspelled?"
    return f"{name}: {'.'.join(map(str, place)) or 'the file'}: {words}"
