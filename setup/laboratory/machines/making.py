"""Makes a host's root file system from its image, with the host's own files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from laboratory.directory import authority, samba, slapd
from laboratory.images.cache import Images, claim
from laboratory.layout import (
    LAPTOP_USER,
    OPENLDAP,
    SOURCE_INSIDE,
    LabPaths,
    hosts_file,
)
from laboratory.machines.host import RELEASE, Host
from laboratory.progress import ProgressLines
from state.command import run

LDAP_CA_INSIDE = "/etc/lxc-gpu/ldap-ca.pem"
"""Where iam finds the certificate of the authority that issued the directory's."""

LXCFS_PIECE = "etc/systemd/system/lxcfs.service.d/lab.conf"


def prepare_lab(place: LabPaths) -> None:
    """Make what all hosts share: keys and certificates of this lab."""
    place.hosts.mkdir(parents=True, exist_ok=True)
    place.hosts.chmod(
        0o700
    )  # it has set-uid programs, which other users of this machine must not reach
    if not place.ca.exists():
        fresh = place.folder / "ca.new.pem"
        authority.make(fresh)
        fresh.with_suffix(".key").rename(place.ca.with_suffix(".key"))
        fresh.rename(place.ca)
    _make_key(place.identity, f"{LAPTOP_USER}@laptop")
    _make_key(place.entrance_key, "lab")


def _make_key(private: Path, comment: str) -> None:
    if not private.exists():
        fresh = private.with_name(f"{private.name}.new")
        for leftover in (fresh, fresh.with_suffix(".new.pub")):
            leftover.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", fresh])
        fresh.with_suffix(".new.pub").rename(private.with_suffix(".pub"))
        fresh.rename(private)


def make(host: Host, images: Images, progress: ProgressLines) -> None:
    """Make `host` from its image, completely or not at all."""
    image = images.of(host.spec)
    links = {"image": image}
    if host.spec.checkout:
        links["wheels"] = images.wheels(host.spec)
    if host.spec.template:
        links["template.tar.zst"] = images.template()
    with progress.step(f"make {host.name}"):
        new = host.folder.with_name(f"{host.name}.partial")
        run(["rm", "-rf", "--one-file-system", new, host.folder], timeout=300)
        (new / "upper").mkdir(parents=True)
        for name, target in links.items():
            (new / name).symlink_to(target)
        (new / RELEASE).write_text(f"{host.spec.release}\n")
        host.lay_out(new, image)
        writer = _Writer(host, image, new)
        writer.write_own()
        writer.write(host.own_files(links))
        claim(host.place, host.folder)
        new.rename(host.folder)


@dataclass(frozen=True)
class _Writer:
    """Writes a host's own files over its image, before the host is started."""

    host: Host
    image: Path
    new: Path

    def write_own(self) -> None:
        """Write all files that are this host's own."""
        self._write("etc/hostname", f"{self.host.name}\n")
        self._write("etc/hosts", hosts_file(self.host.place))
        for kind in ("ed25519", "ecdsa"):  # making an RSA key takes seconds
            key = self._folder("etc/ssh") / f"ssh_host_{kind}_key"
            comment = f"root@{self.host.name}"
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", key])
        if self.host.spec.checkout:
            # Git reads a checkout that belongs to somebody else only if it is listed as safe.
            self._write("etc/gitconfig", f"[safe]\n\tdirectory = {SOURCE_INSIDE}\n")
        if self.host.spec.template:
            # Made for real machines only, it says; a GPU server of the lab is one.
            self._write(LXCFS_PIECE, "[Unit]\nConditionVirtualization=\n")
        if self.host.spec.directory:
            self._directory()
        if self.host.name == "iam":
            authority_text = self.host.place.ca.read_text()
            self._write(LDAP_CA_INSIDE, authority_text)
            self._write("etc/ssl/certs/lxc-gpu-lab.pem", authority_text)
        if self.host.name == "laptop":
            self._laptop()

    def write(self, contents: Mapping[str, str]) -> None:
        """Write a file that belongs to root and that everybody may read."""
        for path, text in contents.items():
            self._write(path, text)

    def _folder(self, path: str) -> Path:
        """Make a folder over the image's, with the same owner and mode."""
        folder = self.new / "upper" / path
        if not folder.is_dir():
            parent, _, _ = path.rpartition("/")
            if parent:
                self._folder(parent)
            folder.mkdir()
            below = self.image / path
            if below.is_dir():
                shutil.copystat(below, folder)
                os.chown(folder, below.stat().st_uid, below.stat().st_gid)
        return folder

    def _write(self, path: str, text: str) -> Path:
        parent, _, name = path.strip("/").rpartition("/")
        file = self._folder(parent) / name
        file.write_text(text)
        return file

    def _directory(self) -> None:
        """Write a certificate of this lab's authority for slapd, or for a domain controller."""
        module = slapd if self.host.spec.directory == OPENLDAP else samba
        path = module.TLS.strip("/")
        owner = (self.image / path).stat()
        folder = self._folder(path)
        names = (*self.host.spec.names, self.host.address)
        authority.issue(self.host.place.ca, folder / "issued", names)
        shutil.copyfile(self.host.place.ca, folder / module.CA)
        (folder / "issued.key").rename(folder / module.KEY)
        (folder / "issued.pem").rename(folder / module.CERTIFICATE)
        for name, mode in ((module.KEY, 0o600), (module.CERTIFICATE, 0o644), (module.CA, 0o644)):
            os.chown(folder / name, owner.st_uid, owner.st_gid)
            (folder / name).chmod(mode)
        if module is samba:
            self._write("etc/resolv.conf", samba.resolvers(self.host.name))

    def _laptop(self) -> None:
        """Write the ssh key of the laptop's user."""
        home = self.new / "disks/home" / LAPTOP_USER
        owner = home.stat()
        folder = home / ".ssh"
        folder.mkdir(mode=0o700)
        private = self.host.place.identity
        for source, mode in ((private, 0o600), (private.with_suffix(".pub"), 0o644)):
            shutil.copyfile(source, folder / source.name)
            (folder / source.name).chmod(mode)
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)


def known_hosts(hosts: tuple[Host, ...]) -> str:
    """The ssh host keys of `hosts`, in the form of known_hosts."""
    lines = []
    for host in hosts:
        lines.append(f"{','.join((*host.spec.names, host.address))} {_host_key(host)}\n")
    return "".join(lines)


def entrance_hosts(hosts: tuple[Host, ...]) -> str:
    """The ssh host keys of `hosts` for the lab's own way in."""
    return "".join(f"{host.name} {_host_key(host)}\n" for host in hosts)


def _host_key(host: Host) -> str:
    public = host.folder / "upper/etc/ssh/ssh_host_ed25519_key.pub"
    return " ".join(public.read_text().split()[:2])
