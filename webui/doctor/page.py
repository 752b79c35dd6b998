"""Whether the web page runs, nginx passes requests on to it, and connections are encrypted."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from state import command
from state.certificates import believing
from state.wire.findings import Area, Finding
from state.words import plural
from webui.doctor.iam import Iam

area, tls_area = Area("page"), Area("tls")
UNIT = "lxc-gpu-web.service"
HOLDS = "lxc-gpu-web.socket"
"""The unit whose socket the page serves. It stays open while the page restarts."""
NGINX = "nginx.service"
SOCKET = "/run/lxc-gpu-web/page"
"""The path of that socket."""
LIMIT = 5.0
LARGEST = 1 << 16
"""Bytes of an answer that are read."""
DAY = 86400


def answers(iam: Iam) -> Iterator[Finding]:
    """Whether the page's service runs and answers."""
    again = f"systemctl restart {UNIT}; journalctl -u {UNIT} -n 20"
    for unit in (HOLDS, UNIT):
        active = command.run(["systemctl", "is-active", unit], check=False).stdout.strip()
        if active != "active":
            word = "failing repeatedly" if active == "activating" else active or "unknown"
            yield area.wrong(f"{unit} is {word}: nobody can save keys.", again)
            return
    if command.run(["systemctl", "is-enabled", UNIT], check=False).stdout.strip() == "disabled":
        yield area.wrong(f"{UNIT} won't start after a reboot.", f"systemctl enable {UNIT}")
    begun = time.monotonic()
    try:
        status, _ = _status(_AtSocket("localhost", timeout=LIMIT))
    except (OSError, http.client.HTTPException) as error:
        yield area.wrong(f"{UNIT} runs, but {SOCKET} doesn't answer: {error}.", again)
        return
    if status >= 500:
        yield area.wrong(f"The page answers with status {status}.", f"journalctl -u {UNIT} -n 20")
        return
    milliseconds = (time.monotonic() - begun) * 1000
    yield area.ok(f"answers in {milliseconds:.0f} ms")
    yield from _in_front(iam)


def _in_front(iam: Iam) -> Iterator[Finding]:
    """Whether nginx passes requests on. With TLS, `encrypted` checks that."""
    active = command.run(["systemctl", "is-active", NGINX], check=False).stdout.strip()
    if active != "active":
        yield area.wrong(
            f"{NGINX} is {active or 'unknown'}: nobody can reach the page.",
            f"systemctl restart {NGINX}; nginx -t; journalctl -u {NGINX} -n 20",
        )
        return
    if urlsplit(iam.config.public_url).scheme == "https" and not iam.config.is_loopback:
        return
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(iam.config.host, iam.config.host)  # noqa: S104
    site = "setup/web-server repairs its configuration; /var/log/nginx/error.log tells more."
    try:
        name = urlsplit(iam.config.public_url).netloc
        at = http.client.HTTPConnection(host, iam.config.port, timeout=LIMIT)
        status, ours = _status(at, name)
    except (OSError, http.client.HTTPException) as error:
        yield area.wrong(f"nginx runs, but {iam.config.listen} doesn't answer: {error}.", site)
        return
    if status >= 500:
        yield area.wrong(f"nginx doesn't reach the page: status {status}.", site)
    elif not ours:
        yield area.wrong(f"nginx answers for another site at {iam.config.listen}.", site)
    else:
        yield area.ok(f"nginx answers for it at {iam.config.listen}")


class _AtSocket(http.client.HTTPConnection):
    """A connection to the page's own socket, past nginx."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(SOCKET)


def _status(connection: http.client.HTTPConnection, name: str = "localhost") -> tuple[int, bool]:
    """The status for `/` of the host `name`, and whether the answer is our page."""
    with closing(connection):
        connection.request("GET", "/", headers={"Host": name})
        answer = connection.getresponse()
        return answer.status, b"lxc-gpu" in answer.read(LARGEST)


def encrypted(iam: Iam) -> Iterator[Finding]:
    """Whether passwords cross the network encrypted."""
    url = urlsplit(iam.config.public_url)
    if url.scheme != "https" and not iam.config.is_loopback:
        yield tls_area.note(
            f"nginx answers at {iam.config.listen} without TLS: passwords cross the network "
            "unencrypted.",
            f'public_url = "https://{url.hostname}" in web.toml; then '
            "setup/web-server --tls-certificate FILE --tls-key FILE",
        )
    if url.scheme != "https":
        return
    try:
        certificate = _certificate(str(url.hostname), url.port or 443)
    except ssl.SSLCertVerificationError as error:
        yield tls_area.note(
            f"Browsers will warn about {iam.config.public_url}: {error.verify_message}.",
            "setup/web-server --tls-certificate FILE --tls-key FILE",
        )
    except OSError as error:
        yield tls_area.wrong(
            f"{iam.config.public_url} doesn't answer: {error}.",
            "systemctl status nginx; does that name lead to this machine?",
        )
    else:
        yield expiry(certificate, time.time())


def _certificate(host: str, port: int) -> dict[str, Any]:
    with (
        socket.create_connection((host, port), LIMIT) as plain,
        believing().wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return dict(wrapped.getpeercert() or {})


def expiry(certificate: dict[str, Any], now: float) -> Finding:
    """For how long a certificate is still valid. Pure."""
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - now) / DAY
    if days < 14:
        return tls_area.note(f"The certificate ends in {plural(round(days), 'day')}.", "Renew it.")
    return tls_area.ok(f"the certificate is valid for {plural(round(days), 'day')}")
