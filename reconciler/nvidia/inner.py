"""What engines inside a container need to pass GPUs on: Docker, Podman and their like.

A Container Device Interface specification, which needs no program of NVIDIA's inside, and settings
for NVIDIA's container runtime, should its user install that.
https://github.com/cncf-tags/container-device-interface (SPEC.md, 0.5.0)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from reconciler.children import hostile
from reconciler.host import places
from reconciler.nvidia import kept
from reconciler.nvidia.nodes import Card
from reconciler.nvidia.versions import MACHINE
from state.errors import LxcGpuError

SPECIFICATION = "etc/cdi/nvidia.yaml"
"""Where NVIDIA's guide has people write their own: that takes the place of ours, and no device is
named twice, which engines refuse."""
SETTINGS = "etc/nvidia-container-runtime/config.toml"
KIND = "nvidia.com/gpu"
OURS = "# Written by lxc-gpu"
"""The beginning of our files, in every release; somebody who edits one removes that line."""
MARK = f"{OURS} at each start of the container, as long as this line is here.\n"
SETTINGS_TEXT = f"""{MARK}\
# A container has no control group for devices: what isn't there can't be used.
[nvidia-container-cli]
no-cgroups = true
"""
FOLDERS = (f"/usr/lib/{MACHINE}-linux-gnu", "/usr/lib64")
"""Where the loader of an image looks without a cache: Debian's and Ubuntu's, everybody else's."""
MOST_LISTED = 100
"""Files of their own in /etc/cdi that are looked at."""
_ATIME = {
    "noatime": os.ST_NOATIME,
    "nodiratime": os.ST_NODIRATIME,
    "relatime": os.ST_RELATIME,
}


def files(nodes: Sequence[Path], cards: Sequence[Card], folder: Path) -> Mapping[str, str | None]:
    """What is to stand in a container that sees these device files and this folder of libraries.

    None: no file of ours. `cards` are those of the server, in the order of their indices.
    """
    gpus = _by_names(nodes, cards)
    text = _text(specification(nodes, gpus, folder)) if gpus else None
    return {SPECIFICATION: text, SETTINGS: SETTINGS_TEXT}


NOTHING: Mapping[str, str | None] = {SPECIFICATION: None, SETTINGS: None}
"""What is to stand there if a container doesn't get the libraries from the server."""


def _by_names(nodes: Sequence[Path], cards: Sequence[Card]) -> dict[str, list[Path]]:
    """The GPUs' own device files by what people call them: indices as inside, UUIDs, `all`."""
    own = {int(node.name.removeprefix("nvidia")): node for node in nodes if _is_gpu(node)}
    uuids = {card.minor: card.uuid for card in cards if card.minor in own}
    order = [*uuids, *sorted(own.keys() - uuids.keys())]
    named = {str(index): [own[minor]] for index, minor in enumerate(order)}
    named |= {uuid: [own[minor]] for minor, uuid in uuids.items() if _NAME.fullmatch(uuid)}
    return {**named, "all": [own[minor] for minor in order]} if own else {}


_NAME = re.compile(r"GPU-[0-9A-Za-z-]+", re.ASCII)


def _is_gpu(node: Path) -> bool:
    return node.parent.name == "dev" and node.name.removeprefix("nvidia").isdigit()


def specification(
    nodes: Sequence[Path], gpus: Mapping[str, Sequence[Path]], folder: Path
) -> dict[str, Any]:
    """The specification, as its fields. Reads names in `folder` only.

    No hook: one would be a program that runs with the engine's rights, before the image's own. So
    libraries are mounted by the names that programs are bound to, where a loader looks without a
    cache. No LD_LIBRARY_PATH: it would take the place of the image's own.
    """
    shared = [str(node) for node in nodes if not _is_gpu(node)]
    inside = places.NVIDIA_INSIDE
    mounts = {str(inside): str(inside)}  # NVIDIA's own images look there
    for name in bound_names(folder / "lib"):
        mounts |= {f"{there}/{name}": f"{inside}/lib/{name}" for there in FOLDERS}
    mounts |= {f"/usr/bin/{t.name}": f"{inside}/bin/{t.name}" for t in folder.glob("bin/*")}
    extras = [path for path in kept.EXTRAS if (folder / "files" / path).is_file()]
    mounts |= {f"/{path}": f"{inside}/files/{path}" for path in extras}
    options = ["ro", "nosuid", "nodev", *atime(os.statvfs(folder).f_flag), "bind"]
    return {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": str(n)} for n in own]}}
            for name, own in gpus.items()
        ],
        "containerEdits": {
            # so that NVIDIA's runtime, if it is there as well, passes nothing on a second time
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{"path": path} for path in shared],
            "mounts": [
                {"hostPath": source, "containerPath": target, "options": options}
                for target, source in sorted(mounts.items())
            ],
        },
    }


def bound_names(libraries: Path) -> tuple[str, ...]:
    """The names by which programs are bound to the libraries in a folder, each once.

    Those that ldconfig(8) made links for, else the file's own; and libcuda.so, which programs open.
    """
    links = {path.name: str(path.readlink()) for path in libraries.iterdir() if path.is_symlink()}
    numbered = {name: to for name, to in links.items() if not name.endswith(".so")}
    files = {path.name for path in libraries.iterdir()} - links.keys() - set(numbered.values())
    return tuple(sorted(files | numbered.keys() | (links.keys() & {"libcuda.so"})))


def atime(flags: int) -> tuple[str, ...]:
    """The options that a mount of the folder has to keep (mount_setattr(2), locked flags). Pure."""
    kept = tuple(word for word, flag in _ATIME.items() if flags & flag)
    return kept if {"noatime", "relatime"} & set(kept) else (*kept, "strictatime")


def _text(fields: Mapping[str, Any]) -> str:
    """JSON, which is YAML as well, behind a comment, which only YAML has."""
    return f"{MARK}{json.dumps(fields, indent=1)}\n"


def put(root: int, wanted: Mapping[str, str | None]) -> None:
    """Have these below a container's root folder, as its owner, unless it has its own.

    What is in the way there is theirs, whatever it is: engines do without ours then.
    """
    for place, text in wanted.items():
        path = PurePosixPath(place)
        with suppress(LxcGpuError, OSError):
            there = hostile.read_below(root, path)
            if there is not None and not there.startswith(OURS):
                continue
            if text is not None and place == SPECIFICATION and _other(root, path):
                text = None
            if text is None and there is not None:
                with hostile.opened_folder(root, path.parent) as folder:
                    os.unlink(path.name, dir_fd=folder)
            elif text is not None and text != there:
                hostile.write_below(root, path, text, 0o644, folder_mode=0o755)


def _other(root: int, ours: PurePosixPath) -> bool:
    """Whether its owner has another specification of GPUs besides ours: both would be refused."""
    try:
        with hostile.opened_folder(root, ours.parent) as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208 # a descriptor
    except FileNotFoundError:
        return False
    others = [n for n in names if n != ours.name and n.endswith((".yaml", ".json"))]
    for name in others[:MOST_LISTED]:
        with suppress(LxcGpuError, OSError):
            if KIND in (hostile.read_below(root, ours.parent / name) or ""):
                return True
    return False
