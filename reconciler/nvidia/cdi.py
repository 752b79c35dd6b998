"""The server's Container Device Interface specification, where it has one for NVIDIA's driver.

The specification says which files of the driver containers need. Its mounts and links are taken
from it; programs that it names as hooks are never run: what they are for, we do ourselves.
https://github.com/cncf-tags/container-device-interface
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from state.errors import LxcGpuError

FOLDERS = ("etc/cdi", "var/run/cdi")
LARGEST = 4 << 20
"""Bytes of a specification."""


def naming(version: str, root: Path = Path("/")) -> Path | None:
    """The specification that names libraries of this version; one that was not renewed does not."""
    found = _files(root)
    return next((file for file, raw in found if f".so.{version}".encode() in raw), None)


def stale(version: str, root: Path = Path("/")) -> Path | None:
    """A specification of NVIDIA's that no longer fits, if none fits."""
    found = _files(root)
    first = next((file for file, raw in found if b"nvidia.com/" in raw), None)
    return None if naming(version, root) else first


def _files(root: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in (root / place for place in FOLDERS):
        for file in sorted((*folder.glob("*.json"), *folder.glob("*.y*ml"))):
            if file.stat().st_size <= LARGEST:
                yield file, file.read_bytes()


def read(file: Path) -> Mapping[str, Any]:
    """The specification. LxcGpuError if it can't be read."""
    try:
        text = file.read_text("utf-8")
        if file.suffix == ".json":
            fields = json.loads(text)
        else:
            from ruamel.yaml import YAML  # a fifth of a second: once for each version of the driver

            fields = YAML(typ="safe", pure=True).load(text)
        if not isinstance(fields, dict):
            raise TypeError("not a mapping")
        files_of(fields), links_of(fields)
    except Exception as error:  # whatever a parser of other people's files raises
        raise LxcGpuError(
            "cdi-unreadable",
            f"{file} isn't a Container Device Interface specification that can be read.",
            "Sysadmin: make it again: `nvidia-ctk cdi generate`, or remove it.",
            details=repr(error),
        ) from error
    return fields


def _edits(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    edits: Mapping[str, Any] = fields.get("containerEdits") or {}
    return edits


def files_of(fields: Mapping[str, Any]) -> tuple[tuple[Path, PurePosixPath], ...]:
    """Which files of the server are to be seen where. Pure."""
    mounts = _edits(fields).get("mounts") or ()
    return tuple((Path(m["hostPath"]), PurePosixPath(m["containerPath"])) for m in mounts)


def links_of(fields: Mapping[str, Any]) -> tuple[tuple[PurePosixPath, str], ...]:
    """The links that its hooks would make: where, and what they lead to. Pure."""
    return tuple(
        (PurePosixPath(place), target)
        for hook in _edits(fields).get("hooks") or ()
        for target, _, place in (link.partition("::") for link in _arguments(hook, "--link"))
        if place
    )


def _arguments(hook: Mapping[str, Any], option: str) -> Iterator[str]:
    """The values of one option, in both ways of writing it."""
    words = [str(word) for word in hook.get("args") or ()]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == option:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]
