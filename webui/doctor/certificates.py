"""The directory's certificates: whether one is refused or ends soon, why, and what to do."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from state.certificates import believing, strict
from state.wire.findings import Area, Finding
from state.words import plural
from webui.config import DirectoryConfig
from webui.directory.transport.connections import Connections

area = Area("ldap")
SOON = 14
"""Days before its end on which a certificate is reported."""
_PORTS = {"ldap": 389, "ldaps": 636}
_NOT_YET, _ENDED, _SELF_SIGNED = 9, 10, 18
_OTHER_AUTHORITY = (7, 19, 20, 21)
_OTHER_NAME = (62, 64)
"""X509_V_ERR_... of OpenSSL (x509_vfy.h)."""


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says."""

    names: tuple[str, ...]
    issuer: str
    begins: datetime
    ends: datetime

    def days(self, now: float) -> float:
        """The days for which it is still valid."""
        return (self.ends.timestamp() - now) / 86400


def authorities(config: DirectoryConfig) -> Iterator[Finding]:
    """Whether `ca_file` can be used, and whether its certificates end soon."""
    file = config.ca_file
    if file is None:
        return
    try:
        believing(file)
    except OSError as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in it"
        yield area.wrong(
            f"`ca_file` {file} can't be used: {why}. Nobody can log in.",
            f"ls -l {file}; the account lxc-gpu has to be able to read it. To convert a binary "
            f"file: openssl x509 -inform der -in FILE -out {file}",
        )
        return
    with suppress(ValueError):  # OpenSSL accepts more than `cryptography` does
        for shown in map(read, x509.load_pem_x509_certificates(file.read_bytes())):
            if shown.days(time.time()) < SOON:
                yield area.note(
                    f"`ca_file` {file}: {shown.names[0]} ends on {shown.ends:%Y-%m-%d}. After that,"
                    " certificates that it signed are refused.",
                    "Add the authority's new certificate to the file. The old one may stay.",
                )


def judged(one: Connections, config: DirectoryConfig, url: str) -> Iterator[Finding]:
    """Whether the page accepts the certificate of `url`. DirectoryDownError without any TLS."""
    if urlsplit(url).scheme == "ldap" and not config.starttls:
        return
    usual = one.greeted(url, believing(config.ca_file))
    if usual.refused is not None:
        shown = _read(one.greeted(url, _believing_anybody()).certificate)
        yield area.wrong(*why_refused(usual.refused, shown, url, config.ca_file))
        return
    if shown := _read(usual.certificate):
        yield from soon(shown, url, time.time())
    stricter = one.greeted(url, strict(config.ca_file)).refused
    if stricter is not None:
        yield area.note(
            f"{url}: its certificate breaks RFC 5280 ({stricter.verify_message}). The page accepts "
            "it; other programs with Python 3.13 or later don't.",
            "When it is renewed, it needs authorityKeyIdentifier; its authority's certificate needs"
            " subjectKeyIdentifier, keyUsage, and critical basicConstraints",
        )


def read(certificate: x509.Certificate) -> CertificateFacts:
    """The facts of a certificate that matter here. Pure."""
    names: list[str] = []
    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += said.get_values_for_type(x509.DNSName)
        names += map(str, said.get_values_for_type(x509.IPAddress))
    except (x509.ExtensionNotFound, ValueError):
        pass
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names = names or [str(each.value) for each in common] or ["nobody"]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return CertificateFacts(tuple(names), certificate.issuer.rfc4514_string(), begins, ends)


def _read(der: bytes | None) -> CertificateFacts | None:
    try:
        return None if der is None else read(x509.load_der_x509_certificate(der))
    except ValueError:
        return None


def soon(shown: CertificateFacts, url: str, now: float) -> Iterator[Finding]:
    """A finding if a certificate ends soon. Pure."""
    if shown.days(now) < SOON:
        yield area.note(
            f"{url}: its certificate ends in {plural(round(shown.days(now)), 'day')}, on "
            f"{shown.ends:%Y-%m-%d}. After that, nobody can log in through this server.",
            "Renew it on that server before then. (Samba doesn't renew its own.)",
        )


def why_refused(
    error: ssl.SSLCertVerificationError, shown: CertificateFacts | None, url: str, ca: Path | None
) -> tuple[str, str]:
    """Why a certificate is refused, and what to do. Pure."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    port = urlsplit(url).port or _PORTS[scheme]
    shake = " -starttls ldap" if scheme == "ldap" else ""
    look = f"openssl s_client -connect {host}:{port}{shake} -showcerts </dev/null"
    listed = f"`ca_file` {ca}" if ca else "this machine's list of authorities"
    code, its = error.verify_code, f"{url}: its certificate"
    now = datetime.now(UTC)
    if shown is None:
        return f"{its} is refused: {error.verify_message}.", look
    if code == _ENDED and shown.ends < now:
        return f"{its} ended on {shown.ends:%Y-%m-%d}.", "Renew it on that server."
    if code == _NOT_YET and shown.begins > now:
        return f"{its} isn't valid before {shown.begins:%Y-%m-%d %H:%M} UTC.", "`date`, on both"
    if code in _OTHER_NAME:
        first = shown.names[0] if urlsplit(url).port is None else f"{shown.names[0]}:{port}"
        return (
            f"{its} is for {', '.join(shown.names[:6])}, not for {host}.",
            f'web.toml, [directory]: `servers`: "{scheme}://{first}", if that name leads there; or '
            f"add {host} to the certificate",
        )
    if code == _SELF_SIGNED:
        return (
            f"{its} is self-signed, and isn't in {listed}.",
            f"{look} | openssl x509 >> {ca or '/etc/lxc-gpu/ldap-ca.pem'}; compare `openssl x509 "
            "-fingerprint` with the server's own; `ca_file` in web.toml",
        )
    if code in _OTHER_AUTHORITY:
        return (
            f"{its} is signed by {shown.issuer}, which isn't in {listed} (or with another key).",
            f"Put that authority's certificate into {ca or '/etc/lxc-gpu/ldap-ca.pem'} (`ca_file` "
            f"in web.toml). To see what the server sends: {look}",
        )
    return f"{its} is refused: {error.verify_message}. It is signed by {shown.issuer}.", look


def _believing_anybody() -> ssl.SSLContext:
    """A context that accepts any certificate, to look at a refused one. It carries no password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
