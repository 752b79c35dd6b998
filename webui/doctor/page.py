"""Whether the web page runs, answers, and is encrypted."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from state import command
from state.wire.findings import Area, Finding
from webui.doctor.iam import Iam

area, tls_area = Area("page"), Area("tls")
UNIT = "lxc-gpu-web.service"
LIMIT = 5.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DAY = 86400


def answers(iam: Iam) -> Iterator[Finding]:
    """Whether the service runs and the page comes."""
    active = command.run(["systemctl", "is-active", UNIT], check=False).stdout.strip()
    again = f"systemctl restart {UNIT}; journalctl -u {UNIT} -n 20"
    if active != "active":
        word = "ending again and again" if active == "activating" else active or "unknown"
        yield area.wrong(f"{UNIT} is {word}: nobody can save keys.", again)
        return
    if command.run(["systemctl", "is-enabled", UNIT], check=False).stdout.strip() == "disabled":
        yield area.wrong(f"{UNIT} won't be there after a reboot.", f"systemctl enable {UNIT}")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(iam.config.host, iam.config.host)  # noqa: S104
    begun = time.monotonic()
    connection = http.client.HTTPConnection(host, iam.config.port, timeout=LIMIT)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield area.wrong(f"{UNIT} runs, but {iam.config.listen} doesn't answer: {error}.", again)
        return
    finally:
        connection.close()
    if status >= 500:
        yield area.wrong(f"The page answers with status {status}.", f"journalctl -u {UNIT} -n 20")
    else:
        milliseconds = (time.monotonic() - begun) * 1000
        yield area.ok(f"answers at {iam.config.listen} in {milliseconds:.0f} ms")


def encrypted(iam: Iam) -> Iterator[Finding]:
    """Whether passwords cross the network encrypted."""
    url = urlsplit(iam.config.public_url)
    if iam.config.host not in LOOPBACK:
        yield tls_area.note(
            f"The page listens on {iam.config.listen} without TLS: passwords can be read on the "
            "way.",
            "setup/web-server --tls-certificate FILE --tls-key FILE, and listen = "
            '"127.0.0.1:8080" in web.toml',
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
            "systemctl status nginx; is that name this machine's?",
        )
    else:
        yield expiry(certificate, time.time())


def _certificate(host: str, port: int) -> dict[str, Any]:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), LIMIT) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return dict(wrapped.getpeercert() or {})


def expiry(certificate: dict[str, Any], now: float) -> Finding:
    """How long a certificate is still good. Pure."""
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - now) / DAY
    if days < 14:
        return tls_area.note(f"The certificate ends in {days:.0f} days.", "Renew it.")
    return tls_area.ok(f"the certificate is good for {days:.0f} days")
