"""Describes the lab: hosts, addresses and paths. Nothing here changes the machine."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DOMAIN = "mylab.com"
NETWORK = "172.16.2"
PREFIX = 24
BRIDGE = "lab0"
BRIDGE_ADDRESS = f"{NETWORK}.1"

CHECKOUT = Path(__file__).resolve().parents[2]
"""The checkout that this lab belongs to."""
CACHE = Path("/var/cache/lxc-gpu-lab")
"""Images, shared by all checkouts of this machine."""
RUNTIME = Path("/run/lxc-gpu-lab")
"""For what a reboot may remove: locks, records of what was started."""

SOURCE_INSIDE = "/usr/src/lxc-gpu"
"""Where hosts see the checkout, read-only."""
WHEELS_INSIDE = "/var/cache/lxc-gpu/wheels"
"""Where hosts see the Python packages that the project depends on, read-only."""
TEMPLATE_INSIDE = "/var/lib/lxc-gpu/templates/debian-12.tar.zst"
"""Where GPU servers see the template for researchers' containers, read-only."""
DISKS = ("home", "srv", "var/lib/lxc-gpu")
"""Folders of every host that are plain folders of this machine's disk, not of the overlay."""
VIRTUAL = "-vm"
"""The suffix of names of images that are disks of virtual machines."""
LAPTOP_USER = "lqchen"
"""The ordinary user of the laptop."""


@dataclass(frozen=True)
class HostSpec:
    """One machine of the lab."""

    name: str
    number: int
    """Last part of its address."""
    image: str
    """Which image its root file system is a copy of, or a folder in it: IMAGE/FOLDER."""
    checkout: bool = False
    """Whether it sees the checkout and the Python packages, read-only."""
    template: bool = False
    """Whether it sees the template for researchers' containers."""
    release: str = ""
    """The name of its release of Debian; empty: not known yet."""
    directory: str = ""
    """The kind of directory that it is a server of, if it is one."""

    @property
    def folder_in_image(self) -> str:
        """Where its system is in the image; empty if it is the whole image."""
        return self.image.partition("/")[2]

    @property
    def address(self) -> str:
        """Its address in the lab's network."""
        return f"{NETWORK}.{self.number}"

    @property
    def mac(self) -> str:
        """Its address on the bridge."""
        return f"02:00:00:00:02:{self.number:02x}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which others reach it."""
        return (f"{self.name}.{DOMAIN}", self.name)


OPENLDAP = "openldap"
AD = "ad"
DIRECTORIES = (OPENLDAP, AD)
"""Kinds of directories; the first one is what a lab has unless it was asked for another."""
HOSTS = (
    HostSpec("ldap", 3, image="ldap", directory=OPENLDAP),
    HostSpec("dc1", 4, image="domain/dc1", directory=AD),
    HostSpec("dc2", 5, image="domain/dc2", directory=AD),
    HostSpec("iam", 2, image="web-server", checkout=True),
    HostSpec("gpu17", 17, image="gpu-server", checkout=True, template=True),
    HostSpec("gpu18", 18, image="gpu-server", checkout=True, template=True),
    HostSpec("laptop", 100, image="laptop"),
)
"""All possible hosts. A lab has the servers of only one kind of directory."""


@dataclass(frozen=True)
class LabPaths:
    """The paths of one lab. All its names on this machine derive from its folder."""

    folder: Path

    @property
    def id(self) -> str:
        """An id that differs for any two labs of this machine."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]

    @property
    def namespace(self) -> str:
        """The network namespace that all its traffic stays in."""
        return f"lxc-gpu-{self.id}"

    @property
    def namespace_file(self) -> Path:
        """The file by which the namespace is entered."""
        return Path("/run/netns") / self.namespace

    @property
    def cgroup(self) -> str:
        """The control group, in every hierarchy, that all its hosts run below."""
        return f"lxc-gpu-lab-{self.id}"

    @property
    def runtime(self) -> Path:
        """Its locks and records."""
        return RUNTIME / self.id

    @property
    def hosts(self) -> Path:
        """LXC's folder: one folder per host."""
        return self.folder / "hosts"

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`, from this machine into the lab."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The hosts' own ssh host keys."""
        return self.folder / "known_hosts"

    @property
    def identity(self) -> Path:
        """The ssh key of the laptop's user."""
        return self.folder / "id_ed25519"

    @property
    def entrance_key(self) -> Path:
        """The key that opens virtual machines for the lab, beside their ordinary sshd."""
        return self.folder / "entrance_key"

    @property
    def entrance_hosts(self) -> Path:
        """The host keys of virtual machines, by their names."""
        return self.folder / "entrance_hosts"

    @property
    def connect(self) -> Path:
        """A program that connects its input and output to a port in the lab."""
        return self.folder / "connect"

    @property
    def web_url(self) -> Path:
        """The file with the address under which this machine reaches iam's web page."""
        return self.folder / "web_url"

    @property
    def directory_file(self) -> Path:
        """The file with the kind of directory that the lab was made with."""
        return self.folder / "directory"

    @property
    def directory(self) -> str:
        """Which kind of directory it has, or would have."""
        with suppress(FileNotFoundError):
            return self.directory_file.read_text().strip()
        return DIRECTORIES[0]

    @property
    def specs(self) -> tuple[HostSpec, ...]:
        """The machines that it may have."""
        return tuple(spec for spec in HOSTS if spec.directory in ("", self.directory))

    @property
    def ca(self) -> Path:
        """The certificate authority's certificate; its key lies beside it."""
        return self.folder / "ca.pem"


def places(name: str = "") -> LabPaths:
    """The paths of the lab `name` in this checkout; without a name, of the usual lab."""
    return LabPaths(CHECKOUT / (f".lab-{name}" if name else ".lab"))


def own_release() -> str:
    """The release that this machine runs, by its name (os-release(5))."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def covered_in_checkout() -> list[str]:
    """Folders of the checkout that hosts don't see: this machine's environment, and the labs."""
    found = sorted([*CHECKOUT.glob(".lab*"), *CHECKOUT.glob(".venv")])
    return [f"{SOURCE_INSIDE}/{path.name}" for path in found if path.is_dir()]


def hosts_file(place: LabPaths) -> str:
    """The text of /etc/hosts on every host of a lab."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{spec.address} {' '.join(spec.names)}" for spec in place.specs]
    return "\n".join(lines) + "\n"
