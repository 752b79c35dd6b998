"""The lab's directory: slapd with TLS, its people and groups. Its text makes the image `ldap`.

The machine is the lab's mail server, too (OpenSMTPD): whatever comes is kept in one Maildir.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from laboratory.directory import authority
from laboratory.directory.people import (
    ADMIN_PASSWORD,
    DORA,
    GROUP_DN,
    GROUPS_DN,
    NESTED_GROUP_DN,
    PEOPLE,
    PEOPLE_DN,
    SERVICE_DN,
    SERVICE_PASSWORD,
    SERVICES_DN,
    LabPerson,
)
from laboratory.layout import DOMAIN

TLS = "/etc/ldap/tls"
"""Where slapd's certificate lies in its host."""
KEY, CERTIFICATE, CA = "ldap.key", "ldap.pem", "ca.pem"
DATABASE_DN = "olcDatabase={1}mdb,cn=config"

# Configuring a running slapd is the way that slapd checks; it listens to this chroot only.
FILL = f"""
install -d -o openldap -g openldap /run/slapd {TLS}
cd {TLS}
install -o openldap -g openldap -m 644 /tmp/ldap/ca.pem ca.pem
install -o openldap -g openldap -m 644 /tmp/ldap/ldap.pem ldap.pem
install -o openldap -g openldap -m 600 /tmp/ldap/ldap.key ldap.key
slapd -u openldap -g openldap -h ldapi:/// -F /etc/ldap/slapd.d
trap 'kill $(cat /run/slapd/slapd.pid); while pgrep -x slapd >/dev/null; do sleep 0.1; done' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    ldapwhoami -Q -Y EXTERNAL -H ldapi:/// >/dev/null 2>&1 && break
    sleep 0.3
done
ldapmodify -Q -Y EXTERNAL -H ldapi:/// -f /tmp/ldap/config.ldif
ldapmodify -Q -Y EXTERNAL -H ldapi:/// -f /tmp/ldap/people.ldif
sed -i 's|^SLAPD_SERVICES=.*|SLAPD_SERVICES="ldap:/// ldaps:/// ldapi:///"|' /etc/default/slapd
"""

MAILDIR = "/home/letters/Maildir"
"""Where the mail server puts every letter, whomever it is for."""
MAIL_CONFIG = f"""\
table everybody {{ "@" = "letters" }}
action "keep" maildir "{MAILDIR}" virtual <everybody>
listen on 0.0.0.0 port 25
match from any for any action "keep"
"""
"""Without TLS: Debian 12's OpenSMTPD fails at each handshake. Tests of the conversation have it."""
MAIL = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -q -y --no-install-recommends install opensmtpd
useradd --create-home letters
cat >/etc/smtpd.conf <<'END'
{MAIL_CONFIG}END
systemctl enable opensmtpd
"""


def debconf() -> str:
    """The answers to what Debian's slapd asks when it is installed."""
    return f"""\
slapd slapd/domain string {DOMAIN}
slapd shared/organization string Mylab
slapd slapd/password1 password {ADMIN_PASSWORD}
slapd slapd/password2 password {ADMIN_PASSWORD}
"""


def fill(root: Path, chroot: Callable[[Path, Sequence[str | Path]], None]) -> None:
    """Configure the slapd installed at `root`, and enter everybody."""
    staging = root / "tmp/ldap"
    staging.mkdir(mode=0o700)
    # Stands in for the certificate that each lab makes for itself.
    authority.make(staging / "ca.pem")
    authority.issue(staging / "ca.pem", staging / "ldap", ("localhost",))
    (staging / "config.ldif").write_text(configuration())
    (staging / "people.ldif").write_text(entries())
    chroot(root, ["sh", "-euc", FILL])
    for file in staging.iterdir():
        file.unlink()
    staging.rmdir()
    chroot(root, ["sh", "-euc", MAIL])


def configuration() -> str:
    """What differs from Debian's configuration.

    An unauthenticated bind (a name with an empty password) succeeds, as many servers have it:
    so a test can show that an empty password never gets that far. Nobody reads anonymously.
    """
    return f"""\
dn: cn=config
changetype: modify
replace: olcAllows
olcAllows: bind_anon_dn bind_anon_cred
-
replace: olcTLSCACertificateFile
olcTLSCACertificateFile: {TLS}/ca.pem
-
replace: olcTLSCertificateFile
olcTLSCertificateFile: {TLS}/ldap.pem
-
replace: olcTLSCertificateKeyFile
olcTLSCertificateKeyFile: {TLS}/ldap.key

dn: cn=module{{0}},cn=config
changetype: modify
add: olcModuleLoad
olcModuleLoad: memberof

dn: olcOverlay=memberof,{DATABASE_DN}
changetype: add
objectClass: olcMemberOf
olcOverlay: memberof
olcMemberOfRefInt: TRUE

dn: {DATABASE_DN}
changetype: modify
replace: olcAccess
olcAccess: to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * break
olcAccess: to attrs=userPassword by self write by anonymous auth by * none
olcAccess: to * by users read by * none
"""  # noqa: E501 # an LDIF line


def entries() -> str:
    """Everything below the base, as LDIF."""
    units = (PEOPLE_DN, GROUPS_DN, SERVICES_DN)
    blocks = [_entry(dn, [("objectClass", "organizationalUnit")]) for dn in units]
    blocks += [_person(person) for person in PEOPLE]
    blocks.append(
        _entry(
            SERVICE_DN,
            [
                ("objectClass", "organizationalRole"),
                ("objectClass", "simpleSecurityObject"),
                ("cn", "iam"),
                ("userPassword", hashed(SERVICE_PASSWORD)),
            ],
        )
    )
    blocks.append(_group(NESTED_GROUP_DN, [DORA.dn]))
    direct = [person.dn for person in PEOPLE if person.member]
    blocks.append(_group(GROUP_DN, [*direct, NESTED_GROUP_DN]))
    return "\n".join(blocks)


def hashed(password: str) -> str:
    """A password as slapd keeps it; the salt is fixed, so that the image's key is too."""
    salt = b"lxc-gpu lab"
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _person(person: LabPerson) -> str:
    return _entry(
        person.dn,
        [
            ("objectClass", "inetOrgPerson"),
            ("uid", person.login),
            ("cn", person.name),
            ("sn", person.name.rpartition(" ")[2]),
            ("mail", person.mail),
            ("userPassword", hashed(person.password)),
        ],
    )


def _group(dn: str, members: Iterable[str]) -> str:
    return _entry(
        dn, [("objectClass", "groupOfNames"), *(("member", member) for member in members)]
    )


def _entry(dn: str, attributes: Iterable[tuple[str, str]]) -> str:
    naming, _, value = dn.partition(",")[0].partition("=")
    lines = [f"dn: {dn}", "changetype: add"]
    lines += [f"{name}: {text}" for name, text in attributes]
    if not any(line.startswith(f"{naming}: ") for line in lines):
        lines.append(f"{naming}: {value}")
    return "\n".join(lines) + "\n"
