"""A machine of the lab that is emulated by QEMU, with its own kernel. It is entered over ssh.

It is emulated in software, so it runs wherever the lab does, ten times slower than this machine. It
runs in a control group of the lab, as other hosts do, so that it can always be found and ended.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from laboratory.images.virtual_image import ENTRANCE_KEYS, ENTRANCE_PORT
from laboratory.layout import (
    BRIDGE,
    CACHE,
    CHECKOUT,
    PREFIX,
    SOURCE_INSIDE,
    TEMPLATE_INSIDE,
    WHEELS_INSIDE,
    covered_in_checkout,
)
from laboratory.machines import cgroups
from laboratory.machines.host import Host
from laboratory.network import inside
from state.command import run
from state.errors import LxcGpuError

PROGRAMS = ("qemu-system-x86_64", "qemu-img", "mkfs.ext4", "ssh")
DISK = "disk.qcow2"
SHARES = "trans=virtio,version=9p2000.L,msize=262144,ro"
IMAGES_INSIDE = "/run/lab/images"
"""Where it sees this machine's cache of images. Some files of it are bound to other paths."""
MEMORY = "2048"
"""Memory in MiB. This machine provides it only as it is touched."""
PROCESSORS = (
    *("-smp", "4,sockets=2,cores=2,threads=1"),
    *("-object", "memory-backend-ram,id=left,size=1024M", "-numa", "node,cpus=0-1,memdev=left"),
    *("-object", "memory-backend-ram,id=right,size=1024M", "-numa", "node,cpus=2-3,memdev=right"),
)
"""Two sockets, each with a node of memory and two cores, so that tests can see how CPUs are shared
out."""
CONNECT_TIME = 20
"""Seconds that its running sshd may take to let somebody in."""
# It joins the lab's control group first, so that it is found even after a killed run.
START = 'echo $$ >"$1"; shift; exec "$@"'


@dataclass(frozen=True)
class VirtualMachine(Host):
    """A host that is a virtual machine."""

    boot_time: ClassVar[float] = 400

    @property
    def running(self) -> bool:
        """Whether it runs, perhaps still booting."""
        if not cgroups.members(self._group):
            return False
        return run(["ip", "-n", self.place.namespace, "link", "show", self._tap], check=False).ok

    def lay_out(self, new: Path, image: Path) -> None:
        """Make a disk that holds only differences from the image's disk."""
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        run([*create, "-b", image / "disk.raw", new / DISK])

    def own_files(self, links: Mapping[str, Path]) -> Mapping[str, str]:
        """Write its address, the lab's way in, and what it sees of this machine."""
        stays = (
            ".venv",
            self.place.folder.name,
        )  # another lab may have been removed by the next boot
        covered = [place for place in covered_in_checkout() if Path(place).name in stays]
        tab = [
            f"checkout {SOURCE_INSIDE} 9p {SHARES}",
            f"images {IMAGES_INSIDE} 9p {SHARES}",
            *(f"tmpfs {place} tmpfs ro,size=4k,mode=755" for place in covered),
        ]
        for name, target in (("wheels", WHEELS_INSIDE), ("template.tar.zst", TEMPLATE_INSIDE)):
            if name in links:
                source = f"{IMAGES_INSIDE}/{links[name].name}"
                wait = f"x-systemd.requires-mounts-for={IMAGES_INSIDE}"
                tab.append(f"{source} {target} none bind,ro,{wait}")
        return {
            "etc/fstab": "".join(f"{line} 0 0\n" for line in tab),
            "etc/lab/network": f"ADDRESS={self.address}/{PREFIX}\n",
            ENTRANCE_KEYS.strip("/"): self.place.entrance_key.with_suffix(".pub").read_text(),
        }

    def start(self) -> None:
        """Start it, after removing what a crashed run left."""
        self._clear()
        ip = ["ip", "-n", self.place.namespace]
        run([*ip, "tuntap", "add", "dev", self._tap, "mode", "tap"])
        run([*ip, "link", "set", self._tap, "master", BRIDGE, "up"])
        group = cgroups.make(self._group)
        run([*inside(self.place), "sh", "-euc", START, "sh", group, *self._emulator()])

    def stop(self) -> None:
        """Stop it at once, like a loss of power."""
        self._clear()

    def reboot(self) -> str:
        """Reboot it, and wait until it is up. Return what `wait_until_booted` does."""
        before = self._boot_id()
        self.run(["systemctl", "--no-block", "reboot"], check=False)
        deadline = time.monotonic() + self.boot_time
        while self._new_boot_id() in ("", before):
            if time.monotonic() > deadline:
                raise LxcGpuError("lab-boot", f"{self.name} did not come back from its reboot.")
            time.sleep(0.5)
        return self.wait_until_booted()

    def _boot_id(self) -> str:
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"], check=False).stdout

    def _new_boot_id(self) -> str:
        """The id of the present boot, asked over a new connection: an old one may hang after a
        reboot."""
        self._connection.unlink(missing_ok=True)
        return self._boot_id()

    @property
    def _connection(self) -> Path:
        """The socket of the ssh connection that commands share."""
        return self.place.runtime / f"{self.name}.ssh"

    @property
    def _group(self) -> str:
        return f"{self.place.cgroup}/{self.name}"

    @property
    def _tap(self) -> str:
        return f"tap-{self.name}"

    def _clear(self) -> None:
        cgroups.end_all(self._group)
        self._connection.unlink(missing_ok=True)
        run(["ip", "-n", self.place.namespace, "link", "delete", self._tap], check=False)

    def _emulator(self) -> list[str]:
        kernel = "root=/dev/vda rw init=/etc/lab/init console=ttyS0 quiet net.ifnames=0"
        shares = {"own": self.folder / "upper", "checkout": CHECKOUT, "images": CACHE}
        argv = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-name", self.name),
            *("-accel", "tcg,thread=multi", "-cpu", "max", *PROCESSORS, "-m", MEMORY),
            *("-kernel", str(self.image / "vmlinuz"), "-initrd", str(self.image / "initrd.img")),
            *("-append", f"{kernel} mitigations=off"),
            *("-drive", f"file={_comma(self.folder / DISK)},if=virtio,cache=unsafe"),
            *("-netdev", f"tap,id=lab,ifname={self._tap},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=lab,mac={self.spec.mac},romfile="),
            *("-device", "virtio-rng-pci"),
            *("-serial", f"file:{_comma(self.folder / 'console.log')}", "-display", "none"),
            "-daemonize",
        ]
        for tag, path in shares.items():
            options = f"path={_comma(path)},mount_tag={tag},security_model=none,readonly=on"
            argv += ["-virtfs", f"local,{options},multidevs=remap"]
        return argv

    def _entering(
        self, words: Sequence[str], variables: Mapping[str, str], *, terminal: bool
    ) -> list[str]:
        settings = [f"{name}={value}" for name, value in variables.items()]
        # The shell stays, so that a command killed by a signal has a shell's exit status for it.
        script = f"cd /; env -i {shlex.join([*settings, *words])}; exit $?"
        options = {
            "IdentityFile": self.place.entrance_key,
            "UserKnownHostsFile": self.place.entrance_hosts,
            "HostKeyAlias": self.name,
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": CONNECT_TIME,
            # One connection for many commands: an emulated machine takes a second for each.
            "ControlMaster": "auto",
            "ControlPath": self._connection,
            "ControlPersist": 60,
            "ServerAliveInterval": 20,
        }
        return [
            *inside(self.place),
            *("ssh", "-F", "/dev/null", "-p", str(ENTRANCE_PORT), "-tt" if terminal else "-T"),
            *(f"-o{name}={value}" for name, value in options.items()),
            *(f"root@{self.address}", script),
        ]


def _comma(path: Path) -> str:
    """The text with commas escaped for QEMU's options."""
    return str(path).replace(",", ",,")
