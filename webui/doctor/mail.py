"""Mail: whether the mail server lets us in, and which users have no address; a test letter."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from state.errors import LxcGpuError
from state.wire.findings import Area, Finding
from webui.config import MailConfig, WebhookConfig, is_mail_address
from webui.directory.ldap import Directory
from webui.directory.lookup import LookupResult
from webui.directory.transport.connections import DirectoryDownError
from webui.doctor.iam import Iam
from webui.outbox.letters import Letter, email
from webui.outbox.smtp import LetterRefusedError, MailDownError, talking

area, hook_area = Area("mail"), Area("webhook")
NO_MAIL = "No [mail] in web.toml: nobody gets mail, and no idle container is stopped."
_NAMED = 5
"""Users without an address who are named, at most."""


def mail(iam: Iam) -> Iterator[Finding]:
    """Log in to the mail server and out again; ask the directory for addresses. Nothing is sent."""
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
        yield area.ok(f"{config.host}:{config.at_port} lets us in{who}, {how}; nothing was sent")
    if not config.sysadmins:
        yield area.note(
            "No sysadmin gets alerts, for example when a server is silent.",
            'web.toml, [mail]: `sysadmins = ["..."]`',
        )
    yield from _addresses(iam)


def no_mail(stopping: Sequence[str]) -> Finding:
    """What it means that no mail is configured. `stopping` are servers that stop idle containers.

    Pure.
    """
    if not stopping:
        return area.ok(NO_MAIL)
    return area.wrong(
        f"{NO_MAIL} But `idle` in servers/{stopping[0]}.yaml says when to stop one.",
        "web.toml, [mail]: `host`, `from`; or remove `stop` from that file",
    )


def _servers_that_stop(iam: Iam) -> list[str]:
    try:
        servers = iam.state.servers.items()
    except LxcGpuError:  # another check reports it
        return []
    return [name for name, each in servers if each.idleness and each.idleness.stop]


def sent(iam: Iam) -> Iterator[Finding]:
    """Send a test letter to the address that was asked for."""
    config = iam.config.mail
    if config is None:
        yield area.wrong(NO_MAIL, "web.toml, [mail]: `host`, `from`")
        return
    if not is_mail_address(iam.mail):
        yield area.wrong(f"{iam.mail!r} isn't a plain address.", "Type one such as a@example.org.")
        return
    url, ident = iam.config.public_url, f"test.{secrets.token_hex(8)}"
    said = Letter("[lxc-gpu] A test", f"`lxc-gpu doctor --mail` on {url} sent this.\n")
    try:
        with talking(config) as conversation:
            letter = email(said, ident, time.time(), config.sender, iam.mail, url)
            conversation.deliver(letter.as_bytes(), iam.mail)
    except (MailDownError, LetterRefusedError) as error:
        yield area.wrong(error.message, _hint(config))
        return
    place = f"{config.host}:{config.at_port}"
    yield area.ok(f"{place} accepted a letter from {config.sender} to {iam.mail}")
    yield area.ok(f"in case it doesn't arrive: its Message-ID is {letter['Message-ID']}")


def _addresses(iam: Iam) -> Iterator[Finding]:
    if not iam.config.looks_up:
        yield area.note(
            "No user gets mail: without a service account, their addresses aren't known.",
            "web.toml, [directory]: `bind_dn` and `bind_password_file` of one that may search",
        )
        return
    try:
        found = Directory(iam.config.directory).look_up_all(iam.state.users)
    except DirectoryDownError:  # another check reports it
        return
    yield reachable(found, iam.config.directory.mail_attribute)


def reachable(found: Mapping[str, LookupResult], attribute: str) -> Finding:
    """How many users have an address. Pure."""
    without = sorted(n for n, each in found.items() if not is_mail_address(each.mail))
    if not found:
        return area.ok("there are no users yet")
    if not without:
        return area.ok(f"all {len(found)} users have an address in the directory ({attribute})")
    more = ", ..." if len(without) > _NAMED else ""
    return area.note(
        f"{len(without)} of {len(found)} users have no usable address in the directory "
        f"({attribute}): {', '.join(without[:_NAMED])}{more}",
        "They get no mail, and their idle containers aren't stopped. In web.toml, [directory]: "
        "`mail_attribute`",
    )


def _webhook(config: WebhookConfig) -> Finding:
    try:
        host = urlsplit(config.address()).hostname
    except (OSError, ValueError) as error:
        return hook_area.wrong(
            f"The webhook's address can't be used: {error}.", "web.toml, [webhook]: `url_file`"
        )
    return hook_area.ok(f"{host} gets the alerts for sysadmins; it was not tried")


def _hint(config: MailConfig) -> str:
    tls = {"starttls": f"-starttls smtp -connect {config.host}:{config.at_port}",
           "implicit": f"-connect {config.host}:{config.at_port}"}.get(config.tls)  # fmt: skip
    look = f"openssl s_client {tls}" if tls else f"nc {config.host} {config.at_port}"
    return f"web.toml, [mail]; to try it: {look}"
