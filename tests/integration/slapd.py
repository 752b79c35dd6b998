"""A real OpenLDAP server on a loopback port, filled from LDIF, for the tests of the directory."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import ldap3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BASE = "dc=example,dc=org"
ROOT_DN = f"cn=root,{BASE}"
SERVICE_DN = f"cn=service,{BASE}"

LDIF = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example Lab
dc: example

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: ou=others,{BASE}
objectClass: organizationalUnit
ou: others

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups

dn: {SERVICE_DN}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: service
userPassword: service-secret
"""


@dataclass(frozen=True)
class Certificates:
    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Slapd:
    plain: str
    tls: str
    certificates: Certificates
    service_password: Path


def person(uid: str, name: str, password: str, ou: str = "people", extra: str = "") -> str:
    return f"""
dn: cn={name},ou={ou},{BASE}
objectClass: inetOrgPerson
cn: {name}
sn: {name.split()[-1]}
uid: {uid}
mail: {uid.lower()}@example.org
userPassword: {password}
{extra}"""


def group(name: str, *members: str) -> str:
    lines = "\n".join(f"member: {member}" for member in members)
    return f"""
dn: cn={name},ou=groups,{BASE}
objectClass: groupOfNames
cn: {name}
{lines}
"""


def modify(server: Slapd, name: str, **attributes: str | list[str]) -> None:
    """Set attributes of the person called `name`, as the directory's administrator."""
    changes = {
        attribute: [(ldap3.MODIFY_REPLACE, [value] if isinstance(value, str) else value)]
        for attribute, value in attributes.items()
    }
    with _root(server) as root:
        assert root.modify(f"cn={name},ou=people,{BASE}", changes), root.result  # type: ignore[no-untyped-call]


def delete(server: Slapd, name: str) -> None:
    """Delete the person called `name`."""
    with _root(server) as root:
        assert root.delete(f"cn={name},ou=people,{BASE}"), root.result  # type: ignore[no-untyped-call]


def add(server: Slapd, uid: str, name: str, password: str) -> None:
    """Add a person who may use the servers."""
    fields = {"cn": name, "sn": name.split()[-1], "uid": uid, "userPassword": password}
    with _root(server) as root:
        dn = f"cn={name},ou=people,{BASE}"
        done = root.add(dn, ["inetOrgPerson"], {**fields, "employeeType": "lab"})  # type: ignore[no-untyped-call]
        assert done, root.result


def _root(server: Slapd) -> ldap3.Connection:
    place = ldap3.Server(server.plain, get_info=ldap3.NONE)
    return ldap3.Connection(place, ROOT_DN, "root-secret", auto_bind=True)


_ports = count(10_000 + os.getpid() * 499 % 9_000)
"""Below those of the tests' users, and those that the kernel gives to clients (ip(7),
ip_local_port_range): a client could take a port before the test's server listens on it. Test
processes side by side begin elsewhere."""


def free_port() -> int:
    """A port of the loopback on which nobody listens."""
    while True:
        port = next(_ports)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def make_certificates(folder: Path, name: str, address: str = "127.0.0.1") -> Certificates:
    """A CA, and a certificate by it for `address` and localhost."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ip_address(address))]
    )
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    leaf = (
        builder(leaf_name, key.public_key())
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "cert.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@contextmanager
def running(folder: Path, entries: str, settings: str = "", limits: str = "") -> Iterator[Slapd]:
    """slapd with `LDIF` and `entries`, until the block is left.

    `settings` are lines of slapd.conf(5) more, `limits` those of the database.
    """
    (folder / "db").mkdir(parents=True)
    certificates = make_certificates(folder / "tls", "Lab")
    config = folder / "slapd.conf"
    config.write_text(f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/msuser.schema
pidfile {folder}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {certificates.ca}
TLSCertificateFile {certificates.certificate}
TLSCertificateKeyFile {certificates.key}
allow bind_anon_cred bind_anon_dn
{settings}
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
database mdb
maxsize 104857600
suffix "{BASE}"
rootdn "{ROOT_DN}"
rootpw root-secret
directory {folder}/db
index objectClass,uid,entryUUID,member eq
{limits}
""")
    (folder / "tree.ldif").write_text(LDIF + entries)
    subprocess.run(
        ["/usr/sbin/slapadd", "-f", config, "-l", folder / "tree.ldif"],
        check=True,
        capture_output=True,
    )
    plain, tls = free_port(), free_port()
    urls = f"ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{tls}/"
    server = subprocess.Popen(
        ["/usr/sbin/slapd", "-f", config, "-h", urls, "-d", "0"], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(plain)
        password = folder / "service-password"
        password.write_text("service-secret\n")
        yield Slapd(f"ldap://127.0.0.1:{plain}", f"ldaps://127.0.0.1:{tls}", certificates, password)
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("slapd did not start")
