"""Certificates of the directory: which is refused, or will be, why, and what to type."""

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
from webui.config import DirectoryConfig
from webui.directory.transport.connections import Connections

area = Area("ldap")
SOON = 14
"""Days."""
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
        """For how long it is good still."""
        return (self.ends.timestamp() - now) / 86400


def authorities(config: DirectoryConfig) -> Iterator[Finding]:
    """Whether `ca_file` can be used, and how long what it holds is good."""
    file = config.ca_file
    if file is None:
        return
    try:
        believing(file)
    except OSError as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in it"
        yield area.wrong(
            f"`ca_file` {file} can't be used: {why}. Nobody can log in.",
            f"ls -l {file}; the account lxc-gpu has to read it. Of a binary one: "
            f"openssl x509 -inform der -in FILE -out {file}",
        )
        return
    with suppress(ValueError):  # OpenSSL is the judge, and takes more than is taken here
        for shown in map(read, x509.load_pem_x509_certificates(file.read_bytes())):
            if shown.days(time.time()) < SOON:
                yield area.note(
                    f"`ca_file` {file}: {shown.names[0]} ends on {shown.ends:%Y-%m-%d}; then what "
                    "it vouches for is refused.",
                    "Add the authority's new certificate to the file: both may stand there.",
                )


def judged(one: Connections, config: DirectoryConfig, url: str) -> Iterator[Finding]:
    """How the page takes the certificate of `url`, of `one`. DirectoryDownError without any TLS."""
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
            f"{url}: its certificate breaks RFC 5280 ({stricter.verify_message}). The page takes "
            "it; other programs with Python 3.13 or later don't.",
            "When it is made anew: with authorityKeyIdentifier; its authority's own with "
            "subjectKeyIdentifier, keyUsage, and basicConstraints critical",
        )


def read(certificate: x509.Certificate) -> CertificateFacts:
    """What matters of a certificate. Pure."""
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
    """Whether a certificate ends before long. Pure."""
    if shown.days(now) < SOON:
        yield area.note(
            f"{url}: its certificate ends in {shown.days(now):.0f} days, on "
            f"{shown.ends:%Y-%m-%d}; then nobody can log in by it.",
            "Renew it on that server before. (Samba doesn't renew its own.)",
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
        return f"{its} begins at {shown.begins:%Y-%m-%d %H:%M} UTC only.", "`date`, here and there"
    if code in _OTHER_NAME:
        first = shown.names[0] if urlsplit(url).port is None else f"{shown.names[0]}:{port}"
        return (
            f"{its} is for {', '.join(shown.names[:6])}, not for {host}.",
            f'web.toml, [directory]: `servers`: "{scheme}://{first}", if that name leads there; or '
            f"have {host} put into the certificate",
        )
    if code == _SELF_SIGNED:
        return (
            f"{its} is vouched for by itself only, and isn't in {listed}.",
            f"{look} | openssl x509 >> {ca or '/etc/lxc-gpu/ldap-ca.pem'}; compare `openssl x509 "
            "-fingerprint` with the server's own; `ca_file` in web.toml",
        )
    if code in _OTHER_AUTHORITY:
        return (
            f"{its} is by {shown.issuer}, which isn't in {listed}, or is another of that name.",
            f"Put that authority's certificate into {ca or '/etc/lxc-gpu/ldap-ca.pem'} (`ca_file` "
            f"in web.toml). What the server shows: {look}",
        )
    return f"{its} is refused: {error.verify_message}. It is by {shown.issuer}.", look


def _believing_anybody() -> ssl.SSLContext:
    """To look at a certificate that is refused. No password goes that way."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
