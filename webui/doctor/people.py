"""The directory: every server of it, one by one, as the page would use it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from state.wire.findings import Area, Finding
from webui.config import DirectoryConfig
from webui.directory.connections import Connections, DirectoryDownError, Reached
from webui.directory.searches import Searches
from webui.directory.standing import refusal
from webui.doctor.iam import Iam

area = Area("ldap")


def directory_servers(iam: Iam) -> Iterator[Finding]:
    """Reach, encrypt, bind, and look at the base and the groups that let people in."""
    if iam.config.directory.dangerously_unencrypted:
        yield area.note("Passwords go to the directory UNENCRYPTED, as configured.")
    urls = iam.config.directory.servers
    with ThreadPoolExecutor(len(urls)) as pool:
        for findings in pool.map(lambda url: list(_server(iam.config.directory, url)), urls):
            yield from findings


def _server(config: DirectoryConfig, url: str) -> Iterator[Finding]:
    one = Connections(config.model_copy(update={"servers": (url,)}))

    def ask(server: Reached) -> list[Finding]:
        with one.service(server) as connection:
            return list(_places(Searches(connection, config), url))

    try:
        yield from one.reached(ask)
    except DirectoryDownError as error:
        text, hint = why_down(error.details, url, config)
        yield area.wrong(text, hint)


def _places(searches: Searches, url: str) -> Iterator[Finding]:
    """Whether the base and the groups are there, as the service account sees them."""
    config = searches.config
    who = f"as {config.bind_dn}" if config.bind_dn else "anonymously"
    yield area.ok(f"{url} answers, and takes us {who}")
    for dn, setting in [(config.base, "base")] + [
        (dn, "allow_groups") for dn in config.allow_groups
    ]:
        if not searches.itself(dn, "(objectClass=*)", attributes=("1.1",)):
            yield area.wrong(
                f"{url} has no entry {dn} (or doesn't show it to us).",
                f"web.toml, [directory]: `{setting}`; or more rights for the account",
            )


def why_down(details: str, url: str, config: DirectoryConfig) -> tuple[str, str]:
    """What the journal's words of a failed connection mean, and what to do. Pure."""
    low = details.lower()
    if closed := refusal(details):
        return (
            f"{url} refuses the service account, whose password is right: {closed.why}.",
            f"Change that for {config.bind_dn} in the directory; its password should never expire.",
        )
    if "was refused" in low and "service account" in low:
        return (
            f"{url} refuses the service account: its password or name is wrong.",
            f"ldapwhoami -x -ZZ -H {url} -D '{config.bind_dn}' -y {config.bind_password_file}",
        )
    if "bind_password_file" in low or "is empty" in low:
        return (
            f"The service account's password can't be read: {details.split(': ', 1)[-1]}",
            f"ls -l {config.bind_password_file}; it has to be the account lxc-gpu's, mode 600",
        )
    if "certificate" in low or "hostname mismatch" in low:
        ca = config.ca_file or "the system's list of authorities"
        return (
            f"{url} doesn't prove who it is (TLS): {_after(details, 'certificate verify failed')}",
            f"Believed now: {ca}. openssl s_client -connect HOST:636 -showcerts shows its own; "
            "web.toml: `ca_file`",
        )
    if "starttls" in low or "start_tls" in low:
        return f"{url} offers no StartTLS.", "Use ldaps:// in web.toml."
    return (
        f"{url} doesn't answer: nobody can log in by it.",
        f"Is it up, and its port open from here? {details[:160]}",
    )


def _after(text: str, word: str) -> str:
    return text[text.find(word) :].strip()[:120] if word in text else text[:120]
