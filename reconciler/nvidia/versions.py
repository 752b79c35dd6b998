"""Which version of NVIDIA's driver is loaded, and which one's libraries are installed.

The kernel says the first (/proc/driver/nvidia/version); the libraries carry the second in their
names. They differ between an upgrade and the reboot that it needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.mounts.tree import Tree

PROC = Path("/proc/driver/nvidia")
DEV = Path("/dev")
MACHINE = os.uname().machine
TELLING = ("libnvidia-ml", "libcuda")
"""The libraries whose names tell the version; NVML first, as nvidia-smi has it."""
_VERSION = r"[0-9]{2,4}(?:\.[0-9]{1,4}){1,2}"
_NAME = re.compile(rf"({'|'.join(TELLING)})\.so\.({_VERSION})", re.ASCII)
_PLACES = (f"usr/lib/{MACHINE}-linux-gnu", "usr/lib64", "usr/lib")
"""Where distributions keep libraries; below a root, links on the way not needed."""
_CACHE = "etc/ld.so.cache"
"""What ldconfig(8) found in all folders that the server's loader searches; its texts end in NUL."""
_64_BITS = b"\x7fELF\x02"
"""How such a library begins (elf(5))."""


def of_proc(text: str) -> str | None:
    """The version in /proc/driver/nvidia/version, of the closed and of the open module. Pure."""
    first = next((line for line in text.splitlines() if line.startswith("NVRM version:")), "")
    return next((word for word in first.split() if re.fullmatch(_VERSION, word)), None)


def library_folders(root: Path = Path("/")) -> tuple[Path, ...]:
    """The folders of this server that NVIDIA's libraries can be in; Debian has one per variant."""
    bases = [root / place for place in _PLACES]
    usual = [
        folder
        for base in bases
        for folder in (base, base / "nvidia", *sorted(base.glob("nvidia/*")))
        if folder.is_dir() and not folder.is_symlink()
    ]
    return tuple(dict.fromkeys((*usual, *(found.parent for found in _found(root)))))


def installed(root: Path = Path("/")) -> str | None:
    """The version of the libraries that programs of this server get."""
    return next((of_names([file.name])[0] for file in _found(root)), None)


def _found(root: Path) -> Iterator[Path]:
    """The files of the telling libraries that programs of this server get, the first one first."""
    for name in TELLING:
        links = (root / place / f"{name}.so.1" for place in _PLACES)
        there = [link.resolve() for link in links if link.exists()]
        yield from (file for file in there or _cached(root, name) if of_names([file.name]))


def _cached(root: Path, name: str) -> Iterator[Path]:
    """The files where the loader finds them elsewhere: in /opt, in /usr/local/nvidia."""
    raw = b""
    with suppress(OSError):
        raw = (root / _CACHE).read_bytes()
    before, *others = raw.split(f"/{name}.so.1\0".encode())
    for following in others:
        folder = os.fsdecode(before[before.rfind(b"\0") + 2 :])  # without its first slash
        before = following
        with suppress(OSError, RuntimeError):  # a loop of links; a RuntimeError up to Python 3.12
            file = (root / folder / f"{name}.so.1").resolve()
            with file.open("rb") as opened:
                there = opened.read(len(_64_BITS)) == _64_BITS
            if there:
                yield file


def of_names(names: Iterable[str]) -> tuple[str, ...]:
    """The versions that names of libraries say, each once, the newest first. Pure."""
    matches = (_NAME.fullmatch(PurePosixPath(name).name) for name in names)
    found = {match[2] for match in matches if match}
    return tuple(sorted(found, key=_numbers, reverse=True))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def inside(tree: Tree) -> str | None:
    """The version of the libraries in a container's own file system, by names and links only.

    Anything but folders and links counts as absent there.
    """

    def work(root: int) -> list[str]:
        linked, there = list[str](), list[str]()
        for place in (*_PLACES, *(f"{place}/nvidia/current" for place in _PLACES)):
            with suppress(OSError), hostile.opened_folder(root, PurePosixPath(place)) as folder:
                there += os.listdir(folder)  # noqa: PTH208 # a descriptor
                for name in TELLING:
                    with suppress(OSError):  # not there, or no link
                        linked.append(os.readlink(f"{name}.so.1", dir_fd=folder))
        return list(of_names(linked) or of_names(there))

    found: list[str] = hostile.as_owner(tree, tree.first, work)
    return found[0] if found else None
