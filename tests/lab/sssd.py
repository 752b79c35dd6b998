"""People whom a server of the lab knows by a real sssd, from the lab's directory, with homes there.

The packages are kept with the lab's images: machines of the lab have no way to the archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from laboratory.directory import slapd
from laboratory.directory.people import (
    BASE_DN,
    GROUPS_DN,
    PEOPLE_DN,
    SERVICE_DN,
    SERVICE_PASSWORD,
)
from laboratory.hosts import Host, Lab
from laboratory.images import cache, package_lists
from laboratory.layout import DOMAIN
from laboratory.progress import ProgressLines

from state.command import run

PACKAGES = ("sssd-ldap", "libnss-sss", "libpam-sss")
FIRST_UID, GROUP = 1_668_801_100, 1_668_800_513
"""As sssd maps the people and "Domain Users" of an Active Directory: ten digits, and one group of
everybody's."""
CONFIG = f"""\
[sssd]
services = nss, pam
domains = {DOMAIN}
[domain/{DOMAIN}]
id_provider = ldap
auth_provider = ldap
access_provider = permit
ldap_uri = ldaps://ldap.{DOMAIN}
ldap_tls_cacert = /etc/sssd/ca.pem
ldap_schema = rfc2307bis
ldap_search_base = {BASE_DN}
ldap_default_bind_dn = {SERVICE_DN}
ldap_default_authtok = {SERVICE_PASSWORD}
case_sensitive = false
"""
INSTALL = """
mkdir -p /root/sssd; cd /root/sssd; tar -xf -
DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io --install *.deb
systemctl restart sssd
"""
REMOVE = """
cd /root/sssd
systemctl stop sssd || true
dpkg --purge $(for file in *.deb; do dpkg-deb --field $file Package; done)
rm -rf /root/sssd /etc/sssd /var/lib/sss /var/log/sssd
systemctl daemon-reload; systemctl reset-failed
"""
MADE = """
import os, pathlib, sys
for line in open("/root/people"):
    name, uid, gid = line.split()
    home = pathlib.Path("/home", name)
    (home / ".ssh").mkdir(parents=True)
    (home / "scratch").mkdir()
    (home / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA of the old account\\n")
    (home / ".bashrc").write_text("echo this ran outside of any container >>~/.ran\\n")
    (home / "thesis").write_text(f"by {name}\\n")
    (home / "tool").write_text("#!/bin/sh\\n")
    os.symlink("thesis", home / "draft")
    os.link(home / "thesis", home / "copy")
    os.setxattr(home / "thesis", "user.note", name.encode())
    for path in (home, *home.rglob("*")):
        os.lchown(path, int(uid), int(gid))
    (home / "tool").chmod(0o4750)
    (home / ".ssh").chmod(0o700)
    (home / ".ssh/authorized_keys").chmod(0o600)
    home.chmod(0o700)
"""
RECORDED = """
import hashlib, os, pathlib
for line in open("/root/people"):
    home = pathlib.Path("/home", line.split()[0])
    for path in sorted((home, *home.rglob("*"))):
        if path.is_relative_to(home / "scratch"):
            continue
        s = path.lstat()
        said = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_ino, s.st_size]
        said += [s.st_mtime_ns, s.st_ctime_ns]
        said += [(n, os.getxattr(path, n)) for n in os.listxattr(path, follow_symlinks=False)]
        if path.is_symlink():
            said.append(os.readlink(path))
        elif path.is_file():
            said.append(hashlib.sha256(path.read_bytes()).hexdigest())
        print(*said)
"""
"""Prints all of all homes but what is in `scratch`; with ctime, which nobody can set."""


def _packages(host: Host) -> bytes:
    """What dpkg needs to install PACKAGES on this host, as a tar archive."""
    status = host.image / "var/lib/dpkg/status"

    def download(made: Path) -> None:
        (made / "partial").mkdir(parents=True)
        options = [f"Dir::State::status={status}", f"Dir::Cache::archives={made}",
                   "Debug::NoLocking=1"]  # fmt: skip
        words = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only"]
        words += [f"--option={option}" for option in options]
        run([*words, "install", *PACKAGES], env=package_lists.apt_environment(), timeout=600)

    key = cache.key_of(host.image.name, Path(__file__))
    folder = cache.ensure(cache.Image("sssd", key, download), ProgressLines())
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(folder.glob("*.deb")):
            archive.add(file, file.name)
    return packed.getvalue()


@contextmanager
def people_with_homes(lab: Lab, host: Host, names: Sequence[str]) -> Iterator[None]:
    """The directory has them, the host knows them by sssd, and their homes are in its /home."""
    uids = {name: FIRST_UID + number for number, name in enumerate(names, 1)}
    ldap = lab.host("ldap")
    ldap.sh("ldapmodify -Q -Y EXTERNAL -H ldapi:///", stdin=_added(uids))
    try:
        host.write("/etc/sssd/ca.pem", ldap.read(f"{slapd.TLS}/ca.pem"))
        host.write("/etc/sssd/sssd.conf", CONFIG, mode=0o600)
        host.sh(INSTALL, stdin=_packages(host), timeout=300)
        lines = [f"{name} {uid} {GROUP}\n" for name, uid in uids.items()]
        host.write("/root/people", "".join(lines))
        host.run(["python3", "-c", MADE])
        yield
    finally:
        host.sh(
            f"for name in {' '.join(names)}; do rm -rf /home/$name; done; {REMOVE}", timeout=300
        )
        ldap.sh("ldapmodify -Q -c -Y EXTERNAL -H ldapi:///", stdin=_removed(names), check=False)


def recorded(host: Host) -> list[str]:
    """A line for each file in these people's homes, that differs if anything of it does."""
    return host.run(["python3", "-c", RECORDED]).stdout.splitlines()


def _added(uids: dict[str, int]) -> str:
    blocks = [f"dn: cn=domain-users,{GROUPS_DN}\nchangetype: add\nobjectClass: posixGroup\n"
              f"cn: domain-users\ngidNumber: {GROUP}\n"]  # fmt: skip
    blocks += [
        f"dn: uid={name},{PEOPLE_DN}\nchangetype: add\n"
        "objectClass: inetOrgPerson\nobjectClass: posixAccount\n"
        f"uid: {name}\ncn: {name}\nsn: {name}\nuserPassword: {slapd.hashed(name)}\n"
        f"uidNumber: {uid}\ngidNumber: {GROUP}\nhomeDirectory: /home/{name}\n"
        "loginShell: /bin/bash\n"
        for name, uid in uids.items()
    ]
    return "\n".join(blocks)


def _removed(names: Sequence[str]) -> str:
    dns = [f"cn=domain-users,{GROUPS_DN}", *(f"uid={name},{PEOPLE_DN}" for name in names)]
    return "\n".join(f"dn: {dn}\nchangetype: delete\n" for dn in dns)
