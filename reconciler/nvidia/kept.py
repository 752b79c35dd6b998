"""The driver's libraries and tools, kept by version in folders that containers see read-only.

One folder for each version, of hard links to the server's own files (copies where those are on
another file system). A package that upgrades the driver replaces the files; what the folder holds
stays. So, between an upgrade and the reboot, containers still start with the libraries of the
module that is loaded, although the server's own programs no longer find any.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.disk.removal import remove_tree
from reconciler.host import locks, places
from reconciler.nvidia import cdi
from reconciler.nvidia.versions import library_folders
from state import command
from state.errors import LxcGpuError
from state.files import sync_folder

LOCK = "nvidia"
TOOLS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
"""Not nvidia-persistenced and nvidia-modprobe: those are for the server."""
TOOL_FOLDERS = ("usr/bin", "usr/sbin", "usr/local/bin")
EXTRAS = (
    "etc/OpenCL/vendors/nvidia.icd",
    "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "usr/share/vulkan/icd.d/nvidia_icd.json",
    "etc/vulkan/icd.d/nvidia_icd.json",
    "usr/share/nvidia/nvoptix.bin",
)
"""What the libraries look for by path; whatever else a specification names is left out."""
CACHE = "etc/ld.so.cache"
CONF = "etc/ld.so.conf.d/000-lxc-gpu-nvidia.conf"
"""Inside: the first name in its folder, so that our libraries go before any other ones."""
SETTLE = f"""#!/bin/sh
# LXC runs this inside a container, as its root, before its init: the loader learns of the folder.
[ /{CACHE} -nt /{CONF} ] && grep -q {places.NVIDIA_INSIDE}/lib/ /{CACHE} && exit 0
timeout 20 ldconfig >/dev/null 2>&1
exit 0
"""


@dataclass(frozen=True)
class Content:
    """What belongs into a folder, by the place in it."""

    files: Mapping[str, Path]
    links: Mapping[str, str]


def folder_for(version: str, installed: str | None, root: Path = Path("/")) -> Path | None:
    """The folder with this version, made now if the server's own files are of that version.

    None if nobody has that version. LxcGpuError if it can't be made (disk full).
    """
    if version != installed:
        return max(of_version(version), key=lambda folder: folder.stat().st_mtime, default=None)
    spec = cdi.naming(version, root)
    own = None if spec else own_content(version, root)
    name = f"{version}-{_digest(spec, own)}"
    target = places.NVIDIA / name
    if not target.is_dir():
        with locks.lock(LOCK):
            if not target.is_dir():
                _make(target, own or _content_by(spec, version, root))
                _forget(keep=target)
    return target


def of_version(version: str) -> Iterator[Path]:
    """The folders that were kept of a version."""
    return places.NVIDIA.glob(f"{version}-*")


def _digest(spec: Path | None, own: Content | None) -> str:
    """Differs when the folder would."""
    seen = hashlib.sha256()
    if spec:
        seen.update(spec.read_bytes())
    for place, file in sorted(own.files.items()) if own else ():
        status = file.stat()
        seen.update(f"{place}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return seen.hexdigest()[:8]


def own_content(version: str, root: Path = Path("/")) -> Content:
    """What this server has of that version, found by name: all of its libraries end in it."""
    files, links = dict[str, Path](), dict[str, str]()
    for folder in library_folders(root):
        for file in folder.glob(f"lib*.so.{version}"):
            if file.is_file():
                files.setdefault(f"lib/{file.name}", file.resolve())
                short = file.name.removesuffix(f".{version}")
                if (folder / short).is_symlink():
                    links[f"lib/{short}"] = f"{short}.1"
    for name in TOOLS:
        for place in (root / folder / name for folder in TOOL_FOLDERS):
            if place.is_file():
                files.setdefault(f"bin/{name}", place.resolve())
    for path in EXTRAS:
        if (root / path).is_file():
            files[f"files/{path}"] = (root / path).resolve()
    return Content(files, links)


def _content_by(spec: Path | None, version: str, root: Path) -> Content:
    """What the specification names; the server's own list if it can't be read."""
    if spec is not None:
        with suppress(LxcGpuError):
            fields = cdi.read(spec)
            content = content_of(cdi.files_of(fields), cdi.links_of(fields))
            if any(place.endswith(version) for place in content.files):
                return content
    return own_content(version, root)


def content_of(
    files: Iterable[tuple[Path, PurePosixPath]], links: Iterable[tuple[PurePosixPath, str]]
) -> Content:
    """Libraries, our tools and extras among what a specification names. Pure but for `is_file`."""
    placed = dict[str, Path]()
    for source, target in files:
        path = str(target).lstrip("/")
        if re.fullmatch(r"lib[\w.+-]+\.so(\.[\w.]+)?", target.name, re.ASCII):
            place = f"lib/{target.name}"
        elif target.name in TOOLS:
            place = f"bin/{target.name}"
        elif path in EXTRAS:
            place = f"files/{path}"
        else:
            continue
        if source.is_file():
            placed[place] = source.resolve()
    linked = {
        f"lib/{place.name}": PurePosixPath(target).name
        for place, target in links
        if f"lib/{PurePosixPath(target).name}" in placed or PurePosixPath(target).suffix == ".1"
    }
    return Content(placed, {place: to for place, to in linked.items() if place not in placed})


def _make(target: Path, content: Content) -> None:
    beside = target.with_name(f".{target.name}.new")
    remove_tree(beside)
    try:
        for place in ("lib", "bin"):
            (beside / place).mkdir(parents=True)
        for place, source in content.files.items():
            file = beside / place
            file.parent.mkdir(parents=True, exist_ok=True)
            _same_file(source, file)
        for place, leads_to in content.links.items():
            (beside / place).symlink_to(leads_to)
        (beside / "settle").write_text(SETTLE)
        for path in (beside, *beside.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        (beside / "settle").chmod(0o755)
        # the links that programs are bound to, by what each library calls itself (ldconfig(8), -n)
        command.run(["ldconfig", "-n", beside / "lib"])
    except OSError as error:
        remove_tree(beside)
        raise LxcGpuError(
            "driver-not-kept",
            f"NVIDIA's libraries could not be put into {places.NVIDIA}: {error.strerror}.",
            "Sysadmin: make room there, about 1 GB.",
        ) from error
    beside.rename(target)
    sync_folder(places.NVIDIA)


def _same_file(source: Path, file: Path) -> None:
    """A hard link, which takes no room; a copy where that can't be, or would be set-uid."""
    if not source.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
        try:
            os.link(source, file)
        except OSError:
            pass  # another file system, which is usual, or one without links
        else:
            return
    shutil.copy2(source, file)
    file.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _forget(keep: Path) -> None:
    """Remove the others, but those that a container was started with."""
    used = "".join(config.read_text() for config in places.RUN.glob("*.config"))
    for folder in places.NVIDIA.iterdir():
        if folder != keep and str(folder) not in used:
            remove_tree(folder)
