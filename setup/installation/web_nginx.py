"""nginx in front of the web page: our one site among those that the machine may have.

The page listens on a unix socket that only nginx may open. nginx is patient with slow clients,
limits them by address, and names the address of each: the page believes nobody else about it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from installation import web_config
from installation.steps import CHECKOUT, Steps
from state import command
from state.errors import LxcGpuError
from state.files import read_text, write_file

PACKAGES = ("nginx", "openssl")
FOLDER = Path("/etc/nginx")
OF_OLD = FOLDER / "conf.d" / "lxc-gpu.conf"
"""Where the site was when it was there for TLS only."""
SOCKET = Path("/run/lxc-gpu-web/page")
"""Where the page listens: lxc-gpu-web.socket says so."""
TLS = web_config.CONFIG / "tls"
CERTIFICATE, KEY = TLS / "certificate.pem", TLS / "key.pem"
OWN_PIECES = web_config.CONFIG / "nginx.d"
"""Pieces of the sysadmin's for our site: of these, nothing is written or removed."""
LOOPBACK = ("127.0.0.0/8", "::1")
EVERYBODY = ("0.0.0.0/0", "::/0")

_REDIRECT = """
server {
    listen 80;
    listen [::]:80;
    server_name @NAME@;
    server_tokens off;
    return 301 https://@NAME@$request_uri;
}
"""
_TLS = f"""\
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {KEY};
    ssl_protocols TLSv1.2 TLSv1.3;
    add_header Strict-Transport-Security "max-age=31536000" always;"""


@dataclass(frozen=True)
class Site:
    """What the site depends on."""

    name: str
    """In the page's public address."""
    listen: str
    """`listen` of web.toml: where nginx answers without TLS."""
    tls: bool
    behind_proxy: bool
    """Whether a proxy of the sysadmin's stands before nginx."""
    proxies: tuple[str, ...]
    """The addresses and networks of it that are believed; empty: not said."""
    connections: int
    """How many requests one address may have under way."""

    @property
    def plain(self) -> bool:
        """Whether `listen` is kept: with TLS, not for browsers."""
        return not self.tls or self.behind_proxy or web_config.is_loopback(self.listen)

    @property
    def believed(self) -> tuple[str, ...]:
        """Who may say, by X-Forwarded-For, for whom a request comes.

        On the loopback only programs of this machine can connect: a proxy of the sysadmin's.
        """
        if self.proxies:
            return self.proxies
        if web_config.is_loopback(self.listen):
            return LOOPBACK
        return EVERYBODY if self.behind_proxy and not self.tls else ()


def configured() -> Site:
    """What web.toml and the certificates that are there come to."""
    settings = web_config.for_nginx()
    return Site(web_config.public_name(), web_config.listen(), CERTIFICATE.exists(), *settings)


def render(site: Site, socket: Path = SOCKET, ipv6: bool = True) -> str:
    """The site's file. Pure but for our template of it."""
    listens = ["443 ssl", "[::]:443 ssl"] if site.tls else []
    listens += [site.listen] if site.plain else []
    believed = [f"    set_real_ip_from {each};" for each in site.believed]
    believed += ["    real_ip_header X-Forwarded-For;"] if believed else []
    words = {
        "SOCKET": str(socket),
        "REDIRECT": _REDIRECT if site.tls else "",
        "LISTEN": "\n".join(f"    listen {each};" for each in listens),
        "TLS": _TLS if site.tls else "",
        "PROXIES": "\n".join(believed),
        "CONNECTIONS": str(site.connections),
        "NAME": site.name,
    }
    text = (CHECKOUT / "setup" / "web" / "nginx.conf").read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    if not ipv6:  # nginx doesn't start if it can't listen there
        text = "".join(line for line in text.splitlines(True) if "listen [::]:" not in line)
    return re.sub(r"\n(?:\s*\n)+", "\n\n", text)


def place() -> Path:
    """The site's file: read after other sites, one of which stays what nginx answers by default."""
    sites = FOLDER / "sites-enabled"
    return (sites if sites.is_dir() else FOLDER / "conf.d") / "zz-lxc-gpu.conf"


def refuse_foreign_certificate(new: bool) -> None:
    """LxcGpuError if the site of an earlier release names a certificate that isn't ours."""
    named = re.search(r"^\s*ssl_certificate\s+(\S+);", read_text(OF_OLD) or "", re.MULTILINE)
    if named and named[1] != str(CERTIFICATE) and not new:
        raise LxcGpuError(
            "nginx-certificate",
            f"{OF_OLD} was edited: it names the certificate {named[1]}, and that file is replaced.",
            f"Say which to use: setup/web-server --tls-certificate {named[1]} --tls-key FILE",
        )


def refuse_broken() -> None:
    """LxcGpuError if nginx can't be started as it is: the page would be left without it.

    Our own site is left out of it: whatever is wrong there, the set-up writes anew.
    """
    look = 'test ! -e "$1" || mount --bind /dev/null "$1"; exec nginx -t'
    tested = command.run(["unshare", "--mount", "sh", "-euc", look, "sh", place()], check=False)
    if not tested.ok:
        raise LxcGpuError(
            "nginx-broken",
            f"nginx refuses its configuration as it is on this machine: {tested.stderr.strip()}",
            "The page was not touched. Correct that, until `nginx -t` is content; run this again.",
        )


def install(steps: Steps, changed: bool) -> None:
    """Our site, in effect; as it was before if nginx refuses it.

    `changed` says whether what the site names changed, such as its certificate.
    """
    steps.folder(OWN_PIECES)
    path = place()
    before = read_text(path)
    text = render(configured(), ipv6=Path("/proc/net/if_inet6").exists())
    changed = steps.file(path, text) or changed
    tested = command.run(["nginx", "-t"], check=False)
    if not tested.ok:
        if before is None:
            path.unlink()
        else:
            write_file(path, before)
        raise LxcGpuError(
            "nginx-config",
            f"nginx refuses its configuration with our site in it: {tested.stderr.strip()}",
            f"{path} is as it was before. `nginx -t` shows whether it is another site's mistake; "
            f"pieces of your own for ours are in {OWN_PIECES}.",
        )
    others = [_without_old(steps), _without_debians(steps)]
    _in_effect(steps, changed or any(others))


def _in_effect(steps: Steps, changed: bool) -> None:
    if not command.run(["systemctl", "is-enabled", "--quiet", "nginx"], check=False).ok:
        steps.say("enable nginx.service")
        command.run(["systemctl", "enable", "--quiet", "nginx"])
    active = command.run(["systemctl", "is-active", "--quiet", "nginx"], check=False).ok
    if not active:
        steps.say("start nginx.service")
    if changed or not active:
        command.run(["systemctl", "reload-or-restart", "nginx"])


def _without_old(steps: Steps) -> bool:
    """Put the site of an earlier release out of effect; whether there was one."""
    if not OF_OLD.exists():
        return False
    kept = OF_OLD.with_name(f"{OF_OLD.name}.old")
    steps.say(f"rename {OF_OLD} to {kept.name}, out of effect")
    OF_OLD.replace(kept)
    return True


def _without_debians(steps: Steps) -> bool:
    """Put "Welcome to nginx!" out of effect, unless somebody made a site of it; whether it was."""
    link, site = FOLDER / "sites-enabled" / "default", FOLDER / "sites-available" / "default"
    if not link.is_symlink() or link.resolve() != site:
        return False
    listed = command.run(["dpkg-query", "-W", "-f", "${Conffiles}\n", "nginx-common"], check=False)
    said = re.search(rf"^ {re.escape(str(site))} ([0-9a-f]+)", listed.stdout, re.MULTILINE)
    # Not for secrecy: dpkg keeps MD5 sums (deb-md5sums(5)).
    found = hashlib.md5(site.read_bytes(), usedforsecurity=False).hexdigest()
    pages = Path("/var/www/html")
    shown = {page.name for page in pages.iterdir()} if pages.is_dir() else set()
    if said is None or said[1] != found or shown - {"index.nginx-debian.html"}:
        return False
    steps.remove(link)
    return True


def certificate(steps: Steps, given: Path | None, key: Path | None, make: bool) -> bool:
    """The certificate and its key, copied or made here; whether they changed."""
    if not given and not make:
        return False
    steps.folder(TLS, 0o700)
    if given and key:
        changed = steps.file(CERTIFICATE, given.read_text())
        return steps.file(KEY, key.read_text(), 0o600) or changed
    if CERTIFICATE.exists():
        return False
    name = web_config.public_name()
    steps.say(f"make a self-signed certificate for {name}")
    command.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "3650", "-subj", f"/CN={name}", "-addext",
        f"subjectAltName=DNS:{name}", "-keyout", KEY, "-out", CERTIFICATE,
    ])  # fmt: skip
    return True
