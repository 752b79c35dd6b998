"""Writes /etc/lxc-gpu/web.toml once, from the options of setup/web-server. Then it is the
sysadmin's."""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from installation.steps import Steps
from state.errors import LxcGpuError

CONFIG = Path("/etc/lxc-gpu")
WEB_TOML = CONFIG / "web.toml"
KEPT = Path("/var/lib/lxc-gpu")
LDAP_PASSWORD = CONFIG / "ldap-password"
LDAP_CA = CONFIG / "ldap-ca.pem"
LISTEN = "127.0.0.1:8080"
PER_ADDRESS = 100
"""Requests that one address may have under way. A whole laboratory may share one."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that go into web.toml the first time."""
    page = parser.add_argument_group(f"the page (for {WEB_TOML}, written only if missing)")
    page.add_argument("--public-url", metavar="URL", help="e.g. https://iam.mylab.com")
    page.add_argument("--listen", metavar="ADDRESS:PORT", default=LISTEN,
                      help=f"where nginx answers without TLS; default: {LISTEN}")  # fmt: skip
    page.add_argument("--organisation", metavar="NAME", default="", help="your laboratory's name")
    ldap = parser.add_argument_group("the directory (likewise)")
    ldap.add_argument("--ldap-url", metavar="URL", action="append", default=[],
                      help="ldap:// (with StartTLS) or ldaps://; may be repeated")  # fmt: skip
    ldap.add_argument("--ldap-base", metavar="DN")
    ldap.add_argument("--allow", metavar="FILTER", help="who may use the servers, e.g. "
                      "'(memberOf=cn=gpu,ou=groups,dc=mylab,dc=com)'")  # fmt: skip
    ldap.add_argument("--allow-group", metavar="DN", action="append", default=[],
                      help="... and is in this group or one below; may be repeated")  # fmt: skip
    ldap.add_argument("--active-directory", action="store_true")
    ldap.add_argument("--ldap-bind-dn", metavar="DN", default="", help="a service account")
    ldap.add_argument("--ldap-password-file", metavar="FILE", type=Path)
    ldap.add_argument("--ldap-bind-template", metavar="NAME", default="",
                      help="instead of a service account, e.g. '{login}@mylab.com'")  # fmt: skip
    ldap.add_argument(
        "--ldap-ca", metavar="FILE", type=Path, help="the authority that signed its certificate"
    )


def missing(options: argparse.Namespace) -> list[str]:
    """The missing options without which web.toml can't be written."""
    named = ("public_url", "ldap_url", "ldap_base", "allow")
    return [f"--{n.replace('_', '-')}" for n in named if not getattr(options, n)]


def write(steps: Steps, options: argparse.Namespace, account: str) -> bool:
    """Write web.toml unless there is one. Whether something changed."""
    if WEB_TOML.exists():
        return False
    if options.ldap_password_file:
        secret = _text(options.ldap_password_file)
        steps.file(LDAP_PASSWORD, secret, 0o600, account)
    if options.ldap_ca:
        steps.file(LDAP_CA, _text(options.ldap_ca))
    steps.file(WEB_TOML, text(options))
    return True


def text(options: argparse.Namespace) -> str:
    """The text of web.toml for these options."""
    page = {
        "listen": options.listen,
        "public_url": options.public_url,
        "organisation": options.organisation,
        "repository": str(KEPT / "state.git"),
        "clone": str(KEPT / "web-clone"),
        "signing_key": "/etc/lxc-gpu/keys/signing",
        "nudge_key": "/etc/lxc-gpu/keys/nudge",
    }
    directory = {
        "servers": options.ldap_url,
        "base": options.ldap_base,
        "allow": options.allow,
        "allow_groups": options.allow_group,
        "ca_file": str(LDAP_CA) if options.ldap_ca else None,
        "bind_dn": options.ldap_bind_dn,
        "bind_password_file": str(LDAP_PASSWORD) if options.ldap_password_file else None,
        "bind_template": options.ldap_bind_template,
    }
    if options.active_directory:
        directory |= {
            "login_attribute": "sAMAccountName",
            "name_attribute": "displayName",
            "id_attribute": "objectGUID",
            "nested": "active-directory",
        }
    lines = ["# Written by setup/web-server, once; yours from now on.", *_fields(page)]
    return "\n".join([*lines, "", "[directory]", *_fields(directory)]) + "\n"


def listen() -> str:
    """Where nginx answers for the page without TLS, by web.toml."""
    return str(_read().get("listen", LISTEN))


def is_loopback(place: str) -> bool:
    """Whether only programs of this machine can reach this `listen`."""
    host = place.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def for_nginx() -> tuple[bool, tuple[str, ...], int]:
    """`behind_proxy`, `proxies` and `connections_per_address` of web.toml."""
    said = _read()
    proxies, most = said.get("proxies", []), said.get("connections_per_address", PER_ADDRESS)
    if not isinstance(proxies, list) or not isinstance(most, int):
        raise LxcGpuError(
            "web-config-invalid",
            f"{WEB_TOML}: proxies must be a list of addresses, connections_per_address a number.",
        )
    return bool(said.get("behind_proxy")), tuple(map(str, proxies)), most


def public_name() -> str:
    """The host name in the page's public address, by web.toml."""
    return urlsplit(str(_read()["public_url"])).hostname or "localhost"


def _fields(table: dict[str, object]) -> list[str]:
    # TOML's strings, numbers, true and false, and lists of strings are spelled as JSON's.
    return [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in table.items()
        if value not in (None, "", [])
    ]


def _read() -> dict[str, object]:
    return tomllib.loads(_text(WEB_TOML))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LxcGpuError("unreadable", f"{path} can't be read: {error.strerror}.") from error
