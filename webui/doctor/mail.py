"""Mail: whether the server takes us, and who can't be written to. `--mail ADDRESS` sends one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from state.errors import LxcGpuError
from state.wire.findings import Area, Finding
from webui.config import MailConfig, WebhookConfig, is_mail_address
from webui.directory.everybody import LookupResult
from webui.directory.ldap import Directory
from webui.directory.transport.connections import DirectoryDownError
from webui.doctor.iam import Iam
from webui.outbox.letters import Letter, email
from webui.outbox.smtp import LetterRefusedError, MailDownError, talking

area, hook_area = Area("mail"), Area("webhook")
NO_MAIL = "No [mail] in web.toml: nobody gets word by mail, and no idle container is stopped."
_NAMED = 5
"""Users whose names are said."""


def mail(iam: Iam) -> Iterator[Finding]:
    """Connect, encrypt, log in, and leave; ask the directory for addresses. Nothing is sent."""
    config = iam.config.mail
    if iam.config.webhook is not None:
        yield _webhook(iam.config.webhook)
    if config is None:
        yield no_mail(_servers_that_stop(iam))
        return
    if config.dangerously_unencrypted:
        yield area.note("Letters cross the network UNENCRYPTED, as configured.")
    try:
        with talking(config):
            pass
    except MailDownError as error:
        yield area.wrong(error.message, _hint(config))
    else:
        how = {"none": "unencrypted", "starttls": "by STARTTLS", "implicit": "by TLS"}[config.tls]
        who = f" as {config.user}" if config.user else ""
        yield area.ok(f"{config.host}:{config.at_port} takes us{who}, {how}; nothing was sent")
    if not config.sysadmins:
        yield area.note(
            "No sysadmin is told when a server is silent.",
            'web.toml, [mail]: `sysadmins = ["..."]`',
        )
    yield from _addresses(iam)


def no_mail(stopping: Sequence[str]) -> Finding:
    """What it means that there is no mail, by which servers would stop idle containers. Pure."""
    if not stopping:
        return area.ok(NO_MAIL)
    return area.wrong(
        f"{NO_MAIL} But `idle` of servers/{stopping[0]}.yaml says when to stop one.",
        "web.toml, [mail]: `host`, `from`; or leave `stop` out there",
    )


def _servers_that_stop(iam: Iam) -> list[str]:
    try:
        servers = iam.state.servers.items()
    except LxcGpuError:  # which another check says
        return []
    return [name for name, each in servers if each.idleness and each.idleness.stop]


def sent(iam: Iam) -> Iterator[Finding]:
    """Send a letter to the address that was asked for."""
    config = iam.config.mail
    if config is None:
        yield area.wrong(NO_MAIL, "web.toml, [mail]: `host`, `from`")
        return
    if not is_mail_address(iam.mail):
        yield area.wrong(f"{iam.mail!r} is no plain mail address.", "Such as alice@example.org.")
        return
    url, ident = iam.config.public_url, f"test.{secrets.token_hex(8)}"
    said = Letter("[lxc-gpu] A test", f"`lxc-gpu doctor --mail` of {url} sent this.\n")
    try:
        with talking(config) as conversation:
            letter = email(said, ident, time.time(), config.sender, iam.mail, url)
            conversation.deliver(letter.as_bytes(), iam.mail)
    except (MailDownError, LetterRefusedError) as error:
        yield area.wrong(error.message, _hint(config))
        return
    place = f"{config.host}:{config.at_port}"
    yield area.ok(f"{place} accepted a letter from {config.sender} to {iam.mail}")
    yield area.ok(f"its Message-ID is {letter['Message-ID']}, should it not arrive")


def _addresses(iam: Iam) -> Iterator[Finding]:
    if not iam.config.looks_up:
        yield area.note(
            "People are sent nothing: nobody but themselves can ask the directory for addresses.",
            "web.toml, [directory]: `bind_dn` and `bind_password_file` of one that may search",
        )
        return
    try:
        found = Directory(iam.config.directory).look_up_all(iam.state.users)
    except DirectoryDownError:  # which is another check's
        return
    yield reachable(found, iam.config.directory.mail_attribute)


def reachable(found: Mapping[str, LookupResult], attribute: str) -> Finding:
    """How many users can be written to. Pure."""
    without = sorted(n for n, each in found.items() if not is_mail_address(each.mail))
    if not found:
        return area.ok("nobody is a user yet")
    if not without:
        return area.ok(f"all {len(found)} users have an address in the directory ({attribute})")
    more = ", ..." if len(without) > _NAMED else ""
    return area.note(
        f"{len(without)} of {len(found)} users have no address in the directory that can be used "
        f"({attribute}): {', '.join(without[:_NAMED])}{more}",
        "They are told nothing, and their containers are not stopped for being idle. In web.toml, "
        "[directory]: `mail_attribute`",
    )


def _webhook(config: WebhookConfig) -> Finding:
    try:
        host = urlsplit(config.address()).hostname
    except (OSError, ValueError) as error:
        return hook_area.wrong(
            f"The webhook's address can't be used: {error}.", "web.toml, [webhook]: `url_file`"
        )
    return hook_area.ok(f"{host} is told what sysadmins are told; it was not tried")


def _hint(config: MailConfig) -> str:
    tls = {"starttls": f"-starttls smtp -connect {config.host}:{config.at_port}",
           "implicit": f"-connect {config.host}:{config.at_port}"}.get(config.tls)  # fmt: skip
    look = f"openssl s_client {tls}" if tls else f"nc {config.host} {config.at_port}"
    return f"web.toml, [mail]; to look yourself: {look}"
