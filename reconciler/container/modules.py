"""Kernel modules that engines inside containers need: no container can load one itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from state import command
from state.files import read_text

AT_BOOT = Path("/etc/modules-load.d/lxc-gpu.conf")
"""The modules that are loaded at each boot (modules-load.d(5)); setup/gpu-server writes it."""
LOADED = Path("/proc/modules")
BRIDGES = "br_netfilter"
"""Applies iptables' rules to traffic within a bridge, also on the server's own bridges."""
WANTED = {
    "overlay": "the layers of images",
    "fuse": "fuse-overlayfs, and what people mount",
    "tun": "the network of containers without root (slirp4netns, pasta), VPNs",
    BRIDGES: "rules among containers on one bridge",
    "ip_tables": "iptables-legacy, which can't have the kernel load its tables from inside",
    "iptable_filter": "the same",
    "iptable_nat": "the same, published ports",
    "ip6_tables": "the same, IPv6",
    "ip6table_filter": "the same, IPv6",
    "ip6table_nat": "the same, IPv6",
}
"""The modules, and what for. The kernel loads others (nft_*, xt_*, veth, ...) on demand."""


def loadable() -> tuple[str, ...]:
    """The modules that this kernel has as modules: what is built in needs no loading."""
    return tuple(name for name in WANTED if _is_a_module(name))


def boot_file(names: tuple[str, ...]) -> str:
    """The text of AT_BOOT. Pure."""
    lines = (f"# {WANTED[name]}\n{name}\n" for name in names)
    return "# Written by setup/gpu-server: engines inside containers need these.\n" + "".join(lines)


def named(boot: str) -> Iterator[str]:
    """The modules that the text of AT_BOOT names. Pure."""
    lines = (line.strip() for line in boot.splitlines())
    return (line for line in lines if line and line[0] not in "#;")


def absent() -> tuple[str, ...]:
    """The modules of AT_BOOT that this kernel has and hasn't loaded."""
    loaded = _loaded()
    missing = (name for name in named(read_text(AT_BOOT) or "") if name not in loaded)
    return tuple(name for name in missing if _is_a_module(name))


def for_us_alone(name: str) -> bool:
    """Whether a module isn't loaded yet, so that it will be loaded for containers only."""
    return name not in _loaded() and _is_a_module(name)


def _loaded() -> frozenset[str]:
    lines = (read_text(LOADED) or "").splitlines()
    return frozenset(line.partition(" ")[0] for line in lines)


def _is_a_module(name: str) -> bool:
    """Whether the kernel has it as a module: modprobe(8) shows a file, or that it is built in."""
    shown = command.run(["modprobe", "--show-depends", name], check=False).stdout
    return any(line.startswith("insmod ") for line in shown.splitlines())
