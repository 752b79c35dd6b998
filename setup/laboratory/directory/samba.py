"""The lab's other directory: an Active Directory domain by Samba, with the same people and groups.

Two controllers that replicate: each is as good as the other, and each has its own certificate.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from laboratory.directory.people import (
    DORA,
    GROUP_DN,
    GROUPS_DN,
    NESTED_GROUP_DN,
    PEOPLE,
    PEOPLE_DN,
    SERVICE_PASSWORD,
    SERVICES_DN,
    LabPerson,
)
from laboratory.layout import AD, DOMAIN, HOSTS, PREFIX
from state.command import run

PACKAGES = ("samba-ad-dc", "samba-ad-provision", "winbind", "ldb-tools", "ldap-utils", "acl")
CONTROLLERS = {spec.name: spec.address for spec in HOSTS if spec.directory == AD}
"""Names and addresses; the first one begins the domain, the others join it."""
REALM = DOMAIN.upper()
NETBIOS = DOMAIN.partition(".")[0].upper()
"""The domain's short name, as in MYLAB\\lqchen."""
ADMIN = "Administrator"
ADMIN_PASSWORD = "Directory admin 1"  # noqa: S105 # of the lab only
TLS = "/var/lib/samba/private/tls"
"""Where Samba looks for its certificate (`tls keyfile` and others in smb.conf(5))."""
KEY, CERTIFICATE, CA = "key.pem", "cert.pem", "ca.pem"
DATABASE = "/var/lib/samba/private/sam.ldb"
LONG = 600
"""Seconds that a join may take on a busy machine."""

# The policy lets in what people.py has for passwords; the machine's own resolver is nobody's
# business in the domain. The service account is made as docs/sysadmins/directory.md says.
PROVISION = f"""
rm -f /etc/samba/smb.conf
install -d /run/samba
samba-tool domain provision --realm={REALM} --domain={NETBIOS} --server-role=dc \\
    --dns-backend=SAMBA_INTERNAL --host-name="$1" --host-ip="$2" --adminpass='{ADMIN_PASSWORD}'
sed -i '/dns forwarder/d' /etc/samba/smb.conf
samba-tool domain passwordsettings set --complexity=off --history-length=0 \\
    --min-pwd-length=1 --min-pwd-age=0 --max-pwd-age=0
ldbadd -H {DATABASE} /tmp/people.ldif
rm /tmp/people.ldif
samba-tool ou add '{SERVICES_DN}'
samba-tool user create iam '{SERVICE_PASSWORD}' --userou='{SERVICES_DN.partition(",")[0]}' \\
    --description='reads the directory for the IAM page'
samba-tool user setexpiry iam --noexpiry
"""

# Joining needs a running controller, and both their addresses: in a network namespace where nobody
# else is. Everything ends with the process namespace. Arguments: pairs of name and root, the first
# controller's before the joining one's.
JOIN = f"""
ip link set lo up
ip link add lab0 type bridge
ip link set lab0 up
mount -t tmpfs lab /mnt
printf 'search {DOMAIN}\\nnameserver {next(iter(CONTROLLERS.values()))}\\n' >/mnt/resolv.conf
echo 127.0.0.1 localhost >/mnt/hosts
for pair in {" ".join(f"{name}={address}" for name, address in CONTROLLERS.items())}; do
    ip address add ${{pair#*=}}/{PREFIX} dev lab0
    echo ${{pair#*=}} ${{pair%=*}}.{DOMAIN} ${{pair%=*}} >>/mnt/hosts
done
enter() {{
    name=$1 root=$2; shift 2
    mount -t proc proc $root/proc
    mount --rbind /dev $root/dev
    for file in resolv.conf hosts; do
        mount --bind /mnt/$file $root/etc/$file
    done
    hostname $name
    exec chroot $root env -i LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}}
first=$1 first_address=$2 first_root=$3 name=$4 address=$5 root=$6
export -f enter
bind() {{ echo "--option=interfaces=127.0.0.1 $1"; }}
unshare --uts bash -euc 'enter "$@"' - $first $first_root \\
    samba -D "$(bind $first_address)" '--option=bind interfaces only=yes'
for _ in $(seq 120); do
    ss -Htln "src $first_address sport = :389" | grep -q . && break
    sleep 0.5
done
rm $root/etc/samba/smb.conf
mkdir -p $root/run/samba
unshare --uts bash -euc 'enter "$@"' - $name $root \\
    samba-tool domain join {DOMAIN} DC --server=$first.{DOMAIN} --dns-backend=SAMBA_INTERNAL \\
    -U '{ADMIN}%{ADMIN_PASSWORD}' "$(bind $address)" '--option=bind interfaces only=yes'
"""

# Samba calls itself started seconds before it listens.
FINISH = f"""
unit=/etc/systemd/system/samba-ad-dc.service.d
mkdir $unit
cat >$unit/lab.conf <<'END'
[Service]
ExecStartPost=/bin/sh -c 'until ss -Htln "sport = :636" | grep -q .; do sleep 0.2; done'
END
cp /var/lib/samba/private/krb5.conf /etc/krb5.conf
rm -rf /run/samba {TLS} /var/log/samba
install -d /var/log/samba
install -d -m 700 {TLS}
sed -i -e '/^\\tinterfaces = /d' -e '/^\\tbind interfaces only = /d' /etc/samba/smb.conf
systemctl disable smbd nmbd winbind
systemctl unmask samba-ad-dc
systemctl enable samba-ad-dc
"""


def provision(root: Path, chroot: Callable[[Path, Sequence[str | Path]], None]) -> None:
    """Begin the domain on the first controller, and enter everybody."""
    (root / "tmp/people.ldif").write_text(entries())
    name, address = next(iter(CONTROLLERS.items()))
    chroot(root, ["sh", "-euc", PROVISION, "sh", name, address])


def join(first: Path, joining: Path) -> None:
    """Make the system at `joining` another controller of the domain that `first` began."""
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    words = [
        word for root in (first, joining) for word in (root.name, CONTROLLERS[root.name], root)
    ]
    run(["unshare", *namespaces, "--", "bash", "-euc", JOIN, "bash", *words], timeout=LONG)


def finish(root: Path, chroot: Callable[[Path, Sequence[str | Path]], None]) -> None:
    """Have the controller at `root` begin at boot, and nothing else of Samba."""
    chroot(root, ["sh", "-euc", FINISH])


def resolvers(name: str) -> str:
    """The text of /etc/resolv.conf on the controller `name`: they are the domain's name servers."""
    own = CONTROLLERS[name]
    others = [address for address in CONTROLLERS.values() if address != own]
    lines = [f"search {DOMAIN}", *(f"nameserver {address}" for address in (own, *others))]
    return "\n".join(lines) + "\n"


def dn(person: LabPerson) -> str:
    """The distinguished name of a person; two may have the same name, as in any large domain."""
    return f"CN={person.name} ({person.login}),{PEOPLE_DN}"


def entries() -> str:
    """Everybody and the groups, as LDIF."""
    units = [[f"dn: {unit}", "objectClass: organizationalUnit"] for unit in (PEOPLE_DN, GROUPS_DN)]
    direct = [dn(person) for person in PEOPLE if person.member]
    groups = [_group(NESTED_GROUP_DN, [dn(DORA)]), _group(GROUP_DN, [*direct, NESTED_GROUP_DN])]
    blocks = [*units, *(_person(person) for person in PEOPLE), *groups]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _person(person: LabPerson) -> list[str]:
    first, _, last = person.name.rpartition(" ")
    return [
        f"dn: {dn(person)}",
        "objectClass: user",
        f"sAMAccountName: {person.login}",
        f"userPrincipalName: {person.login.lower()}@{DOMAIN}",
        f"displayName: {person.name}",
        f"givenName: {first}",
        f"sn: {last}",
        f"mail: {person.mail}",
        "userAccountControl: 512",
        f"unicodePwd:: {password(person.password)}",
    ]


def password(text: str) -> str:
    """A new password as LDIF spells it (MS-ADTS 3.1.1.3.1.5.1: UTF-16, in quotes)."""
    return base64.b64encode(f'"{text}"'.encode("utf-16-le")).decode()


def _group(name: str, members: Sequence[str]) -> list[str]:
    account = name.partition(",")[0].partition("=")[2]
    return [
        f"dn: {name}",
        "objectClass: group",
        f"sAMAccountName: {account}",
        *(f"member: {member}" for member in members),
    ]
