"""Sets up nginx in front of the web page: our site, besides others that the machine may have.

The page listens on a unix socket that only nginx may open. nginx buffers slow clients, limits them
by address, and tells the page each client's address, which it believes from nginx only.
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
"""Where the site of earlier releases was, which was for TLS only."""
SOCKET = Path("/run/lxc-gpu-web/page")
"""Where the page listens (lxc-gpu-web.socket)."""
TLS = web_config.CONFIG / "tls"
CERTIFICATE, KEY = TLS / "certificate.pem", TLS / "key.pem"
OWN_PIECES = web_config.CONFIG / "nginx.d"
"""Pieces of the sysadmin's for our site. They are never written or removed by us."""
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
    """The settings that the site depends on."""

    name: str
    """The host name in the page's public address."""
    listen: str
    """`listen` of web.toml: where nginx answers without TLS."""
    tls: bool
    behind_proxy: bool
    """Whether a proxy of the sysadmin's stands before nginx."""
    proxies: tuple[str, ...]
    """The addresses and networks of that proxy that are believed; empty: not configured."""
    connections: int
    """Requests that one address may have under way."""

    @property
    def plain(self) -> bool:
        """Whether nginx answers at `listen` without TLS. If there is TLS, only for a proxy."""
        return not self.tls or self.behind_proxy or web_config.is_loopback(self.listen)

    @property
    def believed(self) -> tuple[str, ...]:
        """The addresses that are believed in X-Forwarded-For.

        On the loopback only a proxy of the sysadmin's on this machine can connect.
        """
        if self.proxies:
            return self.proxies
        if web_config.is_loopback(self.listen):
            return LOOPBACK
        return EVERYBODY if self.behind_proxy and not self.tls else ()


def configured() -> Site:
    """The settings by web.toml and by the certificates that are there."""
    settings = web_config.for_nginx()
    return Site(web_config.public_name(), web_config.listen(), CERTIFICATE.exists(), *settings)


def render(site: Site, socket: Path = SOCKET, ipv6: bool = True) -> str:
    """The text of the site's file. Pure but for reading our template."""
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
    if not ipv6:  # nginx doesn't start if it can't listen at an IPv6 address
        text = "".join(line for line in text.splitlines(True) if "listen [::]:" not in line)
    return re.sub(r"\n(?:\s*\n)+", "\n\n", text)


def place() -> Path:
    """The path of the site's file. It is read last, so that another site stays the default one."""
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
    """LxcGpuError if nginx refuses its present configuration: the page would be left without nginx.

    Our own site is left out of this test, since the set-up writes it anew.
    """
    look = 'test ! -e "$1" || mount --bind /dev/null "$1"; exec nginx -t'
    tested = command.run(["unshare", "--mount", "sh", "-euc", look, "sh", place()], check=False)
    if not tested.ok:
        raise LxcGpuError(
            "nginx-broken",
            f"nginx refuses the present configuration of this machine: {tested.stderr.strip()}",
            "The page was not touched. Correct that until `nginx -t` accepts it, and run this "
            "again.",
        )


def install(steps: Steps, changed: bool) -> None:
    """Put our site into effect, or leave it as before if nginx refuses it.

    `changed`: whether something that the site names changed, such as its certificate.
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
            f"{path} is as before. `nginx -t` shows whether another site is wrong; your own "
            f"pieces for our site are in {OWN_PIECES}.",
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
    """Disable the site of an earlier release. Whether there was one."""
    if not OF_OLD.exists():
        return False
    kept = OF_OLD.with_name(f"{OF_OLD.name}.old")
    steps.say(f"rename {OF_OLD} to {kept.name}, which disables it")
    OF_OLD.replace(kept)
    return True


def _without_debians(steps: Steps) -> bool:
    """Disable Debian's "Welcome to nginx!", unless somebody edited that site. Whether it was
    disabled."""
    link, site = FOLDER / "sites-enabled" / "default", FOLDER / "sites-available" / "default"
    if not link.is_symlink() or link.resolve() != site:
        return False
    listed = command.run(["dpkg-query", "-W", "-f", "${Conffiles}\n", "nginx-common"], check=False)
    said = re.search(rf"^ {re.escape(str(site))} ([0-9a-f]+)", listed.stdout, re.MULTILINE)
    # MD5 isn't for security here: dpkg keeps such sums (deb-md5sums(5)).
    found = hashlib.md5(site.read_bytes(), usedforsecurity=False).hexdigest()
    pages = Path("/var/www/html")
    shown = {page.name for page in pages.iterdir()} if pages.is_dir() else set()
    if said is None or said[1] != found or shown - {"index.nginx-debian.html"}:
        return False
    steps.remove(link)
    return True


def certificate(steps: Steps, given: Path | None, key: Path | None, make: bool) -> bool:
    """Copy or make the certificate and its key. Whether they changed."""
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
