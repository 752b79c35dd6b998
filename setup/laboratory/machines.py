"""Makes a host's root file system out of its image, and gives it what is its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from laboratory import authority, directory
from laboratory.hosts import Host
from laboratory.images import Images
from laboratory.layout import (
    DOMAIN,
    LAPTOP_USER,
    SOURCE_INSIDE,
    Places,
    hosts_file,
)
from state.command import run

LDAP_CA_INSIDE = "/etc/lxc-gpu/ldap-ca.pem"
"""Where iam finds the certificate of the authority that slapd's was issued by."""


def prepare_lab(place: Places) -> None:
    """Make what all hosts share: keys and certificates of this lab."""
    place.hosts.mkdir(parents=True, exist_ok=True)
    if not place.ca.exists():
        fresh = place.folder / "ca.new.pem"
        authority.make(fresh)
        fresh.with_suffix(".key").rename(place.ca.with_suffix(".key"))
        fresh.rename(place.ca)
    if not place.identity.exists():
        fresh = place.folder / "id_ed25519.new"
        for leftover in (fresh, fresh.with_suffix(".new.pub")):
            leftover.unlink(missing_ok=True)
        comment = f"{LAPTOP_USER}@laptop"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", fresh])
        fresh.with_suffix(".new.pub").rename(place.identity.with_suffix(".pub"))
        fresh.rename(place.identity)


def make(host: Host, images: Images) -> bool:
    """Make the root file system of `host` unless it is there; tells whether it was made."""
    if host.rootfs.is_dir():
        return False
    image = images.of(host.spec)
    host.folder.mkdir(parents=True, exist_ok=True)
    partial = host.folder / "rootfs.partial"
    run(["rm", "-rf", "--one-file-system", partial], timeout=300)
    run(["cp", "-a", "--reflink=auto", image, partial], timeout=600)
    _make_own(host, partial)
    _link(host.folder / "image", image)
    if host.spec.checkout:
        _link(host.folder / "wheels", images.wheels())
    if host.spec.template:
        _link(host.folder / "template.tar.zst", images.template())
    partial.rename(host.rootfs)
    return True


def _make_own(host: Host, root: Path) -> None:
    """What makes one machine of a copied image, on the file system below `root`."""
    (root / "etc/hostname").write_text(f"{host.name}\n")
    (root / "etc/hosts").write_text(hosts_file())
    run(["ssh-keygen", "-q", "-A", "-f", root])
    if host.spec.checkout:
        # Git reads a checkout that belongs to somebody else only when told that it's meant.
        (root / "etc/gitconfig").write_text(f"[safe]\n\tdirectory = {SOURCE_INSIDE}\n")
    if host.name == "ldap":
        _directory(host, root)
    if host.name == "iam":
        for path in (LDAP_CA_INSIDE, "/etc/ssl/certs/lxc-gpu-lab.pem"):
            target = root / path.lstrip("/")
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(host.place.ca, target)
    if host.name == "laptop":
        _laptop(host, root)


def _directory(host: Host, root: Path) -> None:
    """A certificate of this lab's authority for slapd."""
    folder = root / directory.TLS.lstrip("/")
    owner = (folder / "ldap.key").stat()
    authority.issue(host.place.ca, folder / "ldap", (f"ldap.{DOMAIN}", "ldap", host.address))
    shutil.copyfile(host.place.ca, folder / "ca.pem")
    for name, mode in (("ldap.key", 0o600), ("ldap.pem", 0o644), ("ca.pem", 0o644)):
        os.chown(folder / name, owner.st_uid, owner.st_gid)
        (folder / name).chmod(mode)


def _laptop(host: Host, root: Path) -> None:
    """The ssh key of the laptop's user."""
    home = root / "home" / LAPTOP_USER
    owner = home.stat()
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    private = host.place.identity
    for source, mode in ((private, 0o600), (private.with_suffix(".pub"), 0o644)):
        shutil.copyfile(source, folder / source.name)
        (folder / source.name).chmod(mode)
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)


def known_hosts(hosts: tuple[Host, ...]) -> str:
    """The ssh host keys of `hosts`, as known_hosts has them."""
    lines = []
    for host in hosts:
        key = (host.rootfs / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        lines.append(f"{','.join((*host.spec.names, host.address))} {' '.join(key)}\n")
    return "".join(lines)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
