"""How the image of a virtual machine is made out of a server's: a disk, a kernel and an initramfs.

The text of this file is part of the image's key, and of no other image's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from laboratory.images import recipes
from state.command import run

KERNEL = "linux-image-amd64"
"""Debian's kernel for real machines: the smaller one for clouds can't mount 9p shares."""
SIZE = "16G"
"""Of the disk, as the machine sees it; what isn't written takes no room."""
UNMASKED = (
    "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket", "systemd-modules-load.service", "systemd-remount-fs.service",
    "systemd-sysctl.service", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount",
    "modprobe@.service",
)  # fmt: skip
"""Units that a machine with a kernel of its own has use for; the template masks them."""
USELESS = ("drivers/gpu", "drivers/media", "drivers/net/ethernet", "drivers/net/wireless",
           "drivers/infiniband", "drivers/scsi", "drivers/staging", "drivers/iio", "sound",
           "net/wireless")  # fmt: skip
"""Modules for what an emulated machine doesn't have: half of the kernel's size."""
ENTRANCE_PORT = 222
"""Where the lab's own sshd listens, so that whatever happens to the server's keeps nobody out."""
ENTRANCE_KEYS = "/etc/lab/authorized_keys"

INITRAMFS = """#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in virtio_pci virtio_blk ext4; do force_load "$module"; done
"""
# Before systemd begins, once: what is this host's own is laid over the image.
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ ! -e /etc/lab/laid ]; then
    modprobe 9pnet_virtio && mount -t 9p -o trans=virtio,version=9p2000.L,ro own /mnt &&
        cp -a /mnt/. / && umount /mnt && : >/etc/lab/laid
fi
exec /sbin/init
"""
ENTRANCE = """[Unit]
Description=The lab's way in
After=lab-network.service

[Service]
ExecStart=/usr/sbin/sshd -D -f /etc/lab/sshd_config
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
KillMode=process
Restart=always

[Install]
WantedBy=multi-user.target
"""
SSHD = f"""Port {ENTRANCE_PORT}
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile {ENTRANCE_KEYS}
PermitRootLogin prohibit-password
AllowUsers root
UsePAM no
UseDNS no
PrintMotd no
PidFile none
MaxSessions 500
MaxStartups 500
"""
NETWORK = """[Unit]
Description=The lab's network
DefaultDependencies=no
After=systemd-udev-settle.service sys-subsystem-net-devices-eth0.device
Wants=sys-subsystem-net-devices-eth0.device
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/lab/network
ExecStart=/usr/sbin/ip address add ${ADDRESS} dev eth0
ExecStart=/usr/sbin/ip link set eth0 up

[Install]
WantedBy=multi-user.target
"""
FILES = {
    "etc/initramfs-tools/conf.d/lab": ("MODULES=list\nCOMPRESS=zstd\n", 0o644),
    "etc/initramfs-tools/hooks/lab": (INITRAMFS, 0o755),
    "etc/lab/init": (INIT, 0o755),
    "etc/lab/sshd_config": (SSHD, 0o600),
    "etc/systemd/system/lab-entrance.service": (ENTRANCE, 0o644),
    "etc/systemd/system/lab-network.service": (NETWORK, 0o644),
}


def virtual(server_image: Path, made: Path) -> None:
    """The disk of a virtual machine that is the server in `server_image`, and what boots it."""
    made.mkdir()
    root = made / "root"
    recipes.with_copy(server_image, root)
    for path, (text, mode) in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(mode)
    recipes.install(root, [KERNEL, "initramfs-tools", "udev", "apparmor", "e2fsprogs"])
    _unmask(root)
    # Locked, as the template leaves it, an account is closed to keys as well: sshd(8), UsePAM no.
    recipes.chroot(root, ["usermod", "--password", "*", "root"])
    recipes.chroot(root, ["systemctl", "-q", "enable", "lab-entrance", "lab-network"])
    _without_useless_modules(root)
    recipes.clean(root)
    for name in ("vmlinuz", "initrd.img"):
        (kernel,) = (root / "boot").glob(f"{name}-*")
        shutil.move(kernel, made / name)
    disk = made / "disk.raw"
    run(["truncate", "-s", SIZE, disk])
    run(["mkfs.ext4", "-q", "-L", "root", "-d", root, disk], timeout=recipes.LONG)
    run(["rm", "-rf", "--one-file-system", root], timeout=300)


def _unmask(root: Path) -> None:
    for unit in UNMASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
    generators = root / "etc/systemd/system-generators"
    for masked in (*generators.iterdir(), *(root / "etc/sysctl.d").iterdir()):
        if masked.is_symlink() and str(masked.readlink()) == "/dev/null":
            masked.unlink()


def _without_useless_modules(root: Path) -> None:
    (modules,) = (root / "lib/modules").iterdir()
    run(["rm", "-rf", *(modules / "kernel" / name for name in USELESS)])
    recipes.chroot(root, ["depmod", modules.name])
