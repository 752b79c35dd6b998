"""Writes the LXC configuration of a host."""

from __future__ import annotations

from laboratory.layout import (
    BRIDGE,
    CHECKOUT,
    DISKS,
    PREFIX,
    SOURCE_INSIDE,
    TEMPLATE_INSIDE,
    WHEELS_INSIDE,
    HostSpec,
    LabPaths,
    covered_in_checkout,
)


def lxc_config(place: LabPaths, spec: HostSpec) -> str:
    """The LXC configuration of one host.

    Hosts run containers of their own, so root in a host is real root: no capability is dropped, and
    there is no AppArmor profile. A lab is for trying things out, and doesn't protect this machine
    from what runs in it.
    """
    folder = place.hosts / spec.name
    lines = [
        "lxc.include = /usr/share/lxc/config/common.conf",
        "lxc.include = /usr/share/lxc/config/nesting.conf",
        f"lxc.uts.name = {spec.name}",
        f"lxc.rootfs.path = dir:{folder / 'rootfs'}",
        "lxc.apparmor.profile = unconfined",
        "lxc.cap.drop =",
        "lxc.mount.auto =",
        "lxc.mount.auto = proc:rw sys:rw cgroup:rw:force",
        "lxc.cgroup.devices.allow = a",
        "lxc.cgroup2.devices.allow = a",
        f"lxc.cgroup.dir = {place.cgroup}/{spec.name}",
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {BRIDGE}",
        "lxc.net.0.name = eth0",
        "lxc.net.0.flags = up",
        f"lxc.net.0.hwaddr = {spec.mac}",
        f"lxc.net.0.ipv4.address = {spec.address}/{PREFIX}",
        "lxc.tty.max = 0",
        f"lxc.log.file = {folder / 'lxc.log'}",
        f"lxc.console.logfile = {folder / 'console.log'}",
        _mount("/dev/fuse", "dev/fuse", "bind,create=file,optional"),
        _mount("/dev/net/tun", "dev/net/tun", "bind,create=file,optional"),
        *(_mount(str(folder / "disks" / disk), disk, "bind,create=dir") for disk in DISKS),
    ]
    if spec.checkout:
        lines += _checkout(place, spec)
    if spec.template:
        template = folder / "template.tar.zst"
        lines.append(_mount(str(template.resolve()), TEMPLATE_INSIDE, "bind,ro,create=file"))
    return "\n".join(lines) + "\n"


def _checkout(place: LabPaths, spec: HostSpec) -> list[str]:
    """The checkout read-only, without this machine's environment and labs in it."""
    wheels = place.hosts / spec.name / "wheels"
    lines = [
        _mount(str(CHECKOUT), SOURCE_INSIDE, "bind,ro,create=dir"),
        _mount(str(wheels.resolve()), WHEELS_INSIDE, "bind,ro,create=dir"),
    ]
    for target in covered_in_checkout():
        lines.append(_mount("tmpfs", target, "ro,size=4k,mode=755", kind="tmpfs"))
    return lines


def _mount(source: str, target: str, options: str, *, kind: str = "none") -> str:
    """A line for one mount. LXC wants blanks escaped as in fstab(5)."""
    words = (source, target.lstrip("/"), kind, options)
    escaped = (word.replace("\\", "\\134").replace(" ", "\\040") for word in words)
    return f"lxc.mount.entry = {' '.join(escaped)} 0 0"
