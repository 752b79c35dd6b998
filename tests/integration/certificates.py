"""Certificates as laboratories have them: of their own authorities, old, careless."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.slapd import Certificates

HERE = ("localhost", "127.0.0.1")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def save(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


def authority(
    name: str = "Lab CA", *, careful: bool = True, ends: timedelta = 90 * DAY
) -> Authority:
    """One that signs others. A careless one breaks RFC 5280, 4.2.1.2 and 4.2.1.9."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(name, name, key, ends).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=careful
    )
    if careful:
        made = made.add_extension(_signs(), critical=True)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = made.add_extension(own, critical=False)
    return Authority(made.sign(key, hashes.SHA256()), key)


def issue(
    folder: Path,
    by: Authority | None,
    *,
    names: tuple[str, ...] = HERE,
    careful: bool = True,
    ends: timedelta = 90 * DAY,
) -> Certificates:
    """A server's certificate by an authority, or its own; careless: without the authority's key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = names[0] if by is None else _name_of(by.certificate)
    made = _builder(names[0], issuer, key, ends).add_extension(
        x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
    )
    if careful and by is not None:
        theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        made = made.add_extension(theirs, critical=False)
    certificate = made.sign(key if by is None else by.key, hashes.SHA256())
    paths = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    paths.ca.write_bytes((certificate if by is None else by.certificate).public_bytes(pem))
    paths.certificate.write_bytes(certificate.public_bytes(pem))
    paths.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 400 * DAY)
        .not_valid_after(now + ends)
    )


def _signs() -> x509.KeyUsage:
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
              "key_agreement", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(others, False))


def _general(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _name_of(certificate: x509.Certificate) -> str:
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)
