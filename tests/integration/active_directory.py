"""A real Active Directory: Samba's domain controller on a loopback address, for the tests.

It serves LDAP only, on the ports that are fixed in Samba (389 and 636), and keeps everything in a
folder of the test's. Provisioning takes five seconds.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ldap3

from tests.integration.slapd import Certificates, make_certificates

REALM = "mylab.com"
DOMAIN = "MYLAB"
"""The NETBIOS name."""
BASE = "DC=mylab,DC=com"
PEOPLE = f"OU=people,{BASE}"
GROUPS = f"OU=groups,{BASE}"
SERVICE_DN = f"CN=service,{PEOPLE}"
ADMIN_PASSWORD = "Adm1n of this domain"  # of the tests only
SERVICE_PASSWORD = "service-secret"  # of the tests only
NORMAL_ACCOUNT = 512
"""userAccountControl of an ordinary, enabled person."""
ANY_PASSWORD = {"pwdProperties": "0", "minPwdLength": "0", "pwdHistoryLength": "0"}
"""The domain's rules for passwords, put out of effect."""

_AGE_PASSWORD = """
import sys, ldb
from samba.auth import system_session
from samba.dsdb import DSDB_CONTROL_BYPASS_PASSWORD_HASH_OID as AS_IT_IS
from samba.param import LoadParm
from samba.samdb import SamDB
folder, dn = sys.argv[1:]
settings = LoadParm(folder + "/etc/smb.conf")
database = SamDB(folder + "/private/sam.ldb", lp=settings, session_info=system_session())
change = ldb.Message(ldb.Dn(database, dn))
change["x"] = ldb.MessageElement("132444736000000000", ldb.FLAG_MOD_REPLACE, "pwdLastSet")
database.modify(change, ["local_oid:" + AS_IT_IS + ":0"])
"""
"""In Samba's own database, with the library that samba-tool is made of."""


@dataclass(frozen=True)
class Domain:
    """A running controller."""

    folder: Path
    address: str
    certificates: Certificates
    service_password: Path

    @property
    def plain(self) -> str:
        """For StartTLS."""
        return f"ldap://{self.address}"

    @property
    def tls(self) -> str:
        """TLS from the first byte."""
        return f"ldaps://{self.address}"

    @contextmanager
    def administrator(self) -> Iterator[ldap3.Connection]:
        """A connection that may change everything. Its errors raise."""
        login, password = f"administrator@{REALM}", ADMIN_PASSWORD
        server = ldap3.Server(self.tls, get_info=ldap3.NONE)
        with ldap3.Connection(server, login, password, raise_exceptions=True) as connection:
            yield connection

    def add_person(self, login: str, name: str, password: str, **attributes: object) -> str:
        """Add somebody, whose entry is called `name`; returns the DN."""
        dn = f"CN={name},{PEOPLE}"
        fields = {
            "sAMAccountName": login,
            "displayName": name,
            "userPrincipalName": f"{login.lower()}@{REALM}",
            "mail": f"{login.lower().replace(' ', '.')}@{REALM}",
            "userAccountControl": NORMAL_ACCOUNT,
            "unicodePwd": quoted(password),
            **attributes,
        }
        with self.administrator() as root:
            root.add(dn, ["user"], fields)  # type: ignore[no-untyped-call]
        return dn

    def add_group(self, name: str, *members: str, **attributes: object) -> str:
        """Add a global security group with these members (DNs); returns the DN."""
        dn = f"CN={name},{GROUPS}"
        fields = {"sAMAccountName": name, **attributes}
        with self.administrator() as root:
            root.add(dn, ["group"], fields | ({"member": list(members)} if members else {}))  # type: ignore[no-untyped-call]
        return dn

    def modify(self, dn: str, **attributes: object) -> None:
        """Set attributes of an entry; None and [] remove one."""
        changes = {
            name: [(ldap3.MODIFY_REPLACE, value if isinstance(value, list) else [value])]
            for name, value in attributes.items()
        }
        with self.administrator() as root:
            root.modify(dn, changes)  # type: ignore[no-untyped-call]

    def set_password(self, dn: str, password: str) -> None:
        """Give somebody another password."""
        self.modify(dn, unicodePwd=quoted(password))

    def age_password(self, dn: str) -> None:
        """Let somebody's password be of the year 2020, which no client can."""
        subprocess.run(
            ["/usr/bin/python3", "-c", _AGE_PASSWORD, self.folder, dn],
            check=True,
            capture_output=True,
        )

    def rename(self, dn: str, name: str) -> str:
        """Give an entry another name; returns its new DN."""
        with self.administrator() as root:
            root.modify_dn(dn, f"CN={name}")
        return f"CN={name},{dn.partition(',')[2]}"

    def delete(self, dn: str) -> None:
        """Remove an entry."""
        with self.administrator() as root:
            root.delete(dn)  # type: ignore[no-untyped-call]


def quoted(password: str) -> bytes:
    """A password as `unicodePwd` takes it (MS-ADTS 3.1.1.3.1.5)."""
    return f'"{password}"'.encode("utf-16-le")


@contextmanager
def running(folder: Path) -> Iterator[Domain]:
    """A new domain with a service account and nobody else, until the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    address = _free_address()
    certificates = make_certificates(folder / "tls", "Domain", address)
    certificates.key.chmod(0o600)  # Samba refuses a key that others may read
    _provision(folder, address, certificates)
    with controller(folder, address):
        password = folder / "service-password"
        password.write_text(f"{SERVICE_PASSWORD}\n")
        domain = Domain(folder, address, certificates, password)
        with domain.administrator() as root:
            root.modify(BASE, {n: [(ldap3.MODIFY_REPLACE, [v])] for n, v in ANY_PASSWORD.items()})  # type: ignore[no-untyped-call]
            for unit in (PEOPLE, GROUPS):
                root.add(unit, ["organizationalUnit"])  # type: ignore[no-untyped-call]
        domain.add_person("service", "service", SERVICE_PASSWORD)
        yield domain


def _provision(folder: Path, address: str, certificates: Certificates) -> None:
    settings = {
        "interfaces": f"{address}/255.0.0.0",
        "bind interfaces only": "yes",
        "server services": "ldap",
        "log file": f"{folder}/log",
        "pid directory": f"{folder}/run",
        "ncalrpc dir": f"{folder}/ncalrpc",
        "tls certfile": str(certificates.certificate),
        "tls keyfile": str(certificates.key),
        "tls cafile": str(certificates.ca),
    }
    (folder / "run").mkdir()
    options = [f"--option={name}={value}" for name, value in settings.items()]
    subprocess.run(
        ["samba-tool", "domain", "provision", f"--targetdir={folder}", f"--realm={REALM}",
         f"--domain={DOMAIN}", "--host-name=dc1", "--server-role=dc", "--dns-backend=NONE",
         f"--adminpass={ADMIN_PASSWORD}", *options],
        check=True,
        capture_output=True,
    )  # fmt: skip
    config = folder / "etc/smb.conf"
    kept = [
        line
        for line in config.read_text().splitlines()
        if line.partition("=")[0].strip() not in settings
    ]
    at = kept.index("[global]") + 1
    ours = [f"\t{name} = {value}" for name, value in settings.items()]
    config.write_text("\n".join([*kept[:at], *ours, *kept[at:]]) + "\n")


@contextmanager
def controller(folder: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Samba on the domain in `folder`, until the block is left."""
    server = subprocess.Popen(
        ["/usr/sbin/samba", "--interactive", "--model=single", f"-s{folder}/etc/smb.conf"],
        stdin=subprocess.PIPE,  # --interactive ends when it is closed: no leftovers
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(address)
        yield server
    finally:
        server.terminate()
        server.wait(10)


def _free_address() -> str:
    """A loopback address (127.0.0.0/8) of this test alone, by its process and by chance."""
    for _ in range(100):
        address = f"127.88.{os.getpid() % 254 + 1}.{random.randint(1, 254)}"
        with socket.socket() as listener:
            try:
                listener.bind((address, 389))
            except OSError:
                continue
            return address
    raise AssertionError("no loopback address is free")


def _wait_for(address: str) -> None:
    for _ in range(400):
        try:
            socket.create_connection((address, 636), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("Samba did not start")
