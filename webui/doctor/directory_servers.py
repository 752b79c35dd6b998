"""The directory: checks each of its servers the way the page uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from state.wire.findings import Area, Finding, Level
from webui.config import DirectoryConfig
from webui.directory.account_status import refusal
from webui.directory.searches import Searches
from webui.directory.transport.connections import (
    Connections,
    DirectoryDownError,
    Reached,
    WrongLoginError,
)
from webui.doctor import certificates
from webui.doctor.iam import Iam

area = Area("ldap")


def directory_servers(iam: Iam) -> Iterator[Finding]:
    """Whether each server answers, is encrypted, lets us bind, and has `base` and the groups."""
    config = iam.config.directory
    if config.dangerously_unencrypted:
        yield area.note("Passwords go to the directory UNENCRYPTED, as configured.")
    if config.bind_template:
        yield area.note(
            "People bind by a template (bind_template): a login may mean two people, and only the "
            "directory can say who was bound.",
            "A service account is better: web.toml, [directory]: `bind_dn`, `bind_password_file`",
        )
    listed = list(certificates.authorities(config))
    yield from listed
    if any(finding.level is Level.WRONG for finding in listed):
        return
    groups = iam.config.usage.groups
    with ThreadPoolExecutor(len(config.servers)) as pool:
        for findings in pool.map(lambda url: list(_server(config, url, groups)), config.servers):
            yield from findings


def _server(config: DirectoryConfig, url: str, groups: Mapping[str, str]) -> Iterator[Finding]:
    one = Connections(config.model_copy(update={"servers": (url,)}))
    try:
        certificate = list(certificates.judged(one, config, url))
        yield from certificate
        if any(finding.level is Level.WRONG for finding in certificate):
            return
        if config.bind_template:
            yield from _by_template(one, config, url)
        if config.bind_dn or not config.bind_template:
            yield from _by_service(one, config, url, groups)
    except (DirectoryDownError, WrongLoginError) as error:  # the latter: unwilling to check
        yield area.wrong(*why_down(error.details, url, config))


def _by_template(one: Connections, config: DirectoryConfig, url: str) -> Iterator[Finding]:
    """Whether it checks passwords (tried with an unknown login), and says who is bound.

    Without the latter, nobody can log in by a template.
    """
    if not one.reached(lambda server: one.refused(server, "no password of anybody")):
        yield area.wrong(
            f"{url} accepts any login with any password.",
            "Correct its rules for binds (OpenLDAP: `allow`); until then, remove it from `servers`",
        )
        return
    yield area.ok(f"{url} answers, and checks passwords of {config.bind_template}")

    def says(server: Reached) -> bool:
        with one.service(server) if config.bind_dn else one.opened(server) as connection:
            return Searches(connection, config).tells_who()

    if not one.reached(says):
        asked = f"asked as {config.bind_dn}" if config.bind_dn else "asked before any login"
        yield (area.wrong if config.bind_dn else area.note)(
            f"{url} doesn't say who is bound ({asked}): then nobody can log in by the template "
            "(login-unclear).",
            'Let it answer "Who am I?" (RFC 4532), or use a service account, not `bind_template`',
        )


def _by_service(
    one: Connections, config: DirectoryConfig, url: str, groups: Mapping[str, str]
) -> Iterator[Finding]:
    def ask(server: Reached) -> list[Finding]:
        with one.service(server) as connection:
            return list(_places(Searches(connection, config), url, groups))

    yield from one.reached(ask)


def _places(searches: Searches, url: str, groups: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the service account sees the base and the groups."""
    config = searches.config
    who = f"as {config.bind_dn}" if config.bind_dn else "anonymously"
    places = [(config.base, "[directory]: `base`")]
    places += [(dn, "[directory]: `allow_groups`") for dn in config.allow_groups]
    places += [(dn, f"[usage]: `groups`, {name}") for name, dn in groups.items()]
    missing = [
        (dn, setting)
        for dn, setting in places
        if not searches.itself(dn, "(objectClass=*)", attributes=("1.1",))
    ]
    yield area.ok(f"{url} answers, and lets us in {who}")
    for dn, setting in missing:
        yield area.wrong(
            f"{url} has no entry {dn} (or doesn't show it to us).",
            f"web.toml, {setting}; or give the account more rights",
        )


def why_down(details: str, url: str, config: DirectoryConfig) -> tuple[str, str]:
    """What the details of a failed connection mean, and what to do. Pure."""
    low = details.lower()
    if closed := refusal(details):
        return (
            f"{url} refuses the service account, though its password is right: {closed.why}.",
            f"Change that for {config.bind_dn} in the directory; its password should never expire.",
        )
    if "was refused" in low and "service account" in low:
        return (
            f"{url} refuses the service account: its password or name is wrong.",
            _whoami(url, config),
        )
    if "bind_password_file" in low or "is empty" in low:
        return (
            f"The service account's password can't be read: {details.split(': ', 1)[-1]}",
            f"ls -l {config.bind_password_file}; its owner has to be lxc-gpu, its mode 600",
        )
    if "starttls" in low or "start_tls" in low or "ssl" in low:
        return (
            f"{url}: TLS fails. It may have no certificate, or offer TLS at another port.",
            f"Is there a certificate on it? ldaps:// or ldap:// in web.toml? {details[:160]}",
        )
    if "strongerauth" in low or "confidentiality" in low:
        return f"{url} checks passwords only over TLS.", "`starttls`, or ldaps://"
    if "operationserror" in low or "insufficientaccess" in low or "inappropriateauth" in low:
        return (
            f"{url} answers, but doesn't let us search.",
            "Give the service account more rights."
            if config.bind_dn
            else "web.toml: `bind_dn` and `bind_password_file` of an account that may search",
        )
    if "busy" in low or "unavailable" in low or "unwilling" in low:
        return (
            f"{url} answers that it can't serve now: {_last(details)}",
            "Is it starting or stopping? The page asks the others meanwhile.",
        )
    return (
        f"{url} doesn't answer: nobody can log in through it.",
        f"Is it up, and can its port be reached from here? {details[:160]}",
    )


def _whoami(url: str, config: DirectoryConfig) -> str:
    """The command that tries the service account."""
    believed = f"LDAPTLS_CACERT={config.ca_file} " if config.ca_file else ""
    encrypted = " -ZZ" if url.startswith("ldap:") and config.starttls else ""
    account = f"-D '{config.bind_dn}' -y {config.bind_password_file}"
    return f"{believed}ldapwhoami -x{encrypted} -H {url} {account}"


def _last(text: str) -> str:
    return text.rpartition(": ")[2][:120]
