"""An archive whose bytes depend on nothing but what is in it. Pure."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

SUMS = "SHA256SUMS"
"""The list of digests, as sha256sum(1) checks it."""

Contents = Mapping[str, tuple[bytes, int]]
"""What an archive holds: by path, what is in the file, and its mode."""


def sums(contents: Contents) -> str:
    """The digest of each file."""
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, (content, _) in sorted(contents.items())
    )


def packed(folder: str, contents: Contents, epoch: int) -> bytes:
    """A compressed tar archive of one folder, with the list of its digests.

    The list comes first: an archive that was unpacked in part is seen to be. `epoch`: the time of
    every file, in seconds (https://reproducible-builds.org/docs/archives/).
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, f"{folder}/{SUMS}", sums(contents).encode(), 0o644, epoch)
        for name, (content, mode) in sorted(contents.items()):
            _add(tar, f"{folder}/{name}", content, mode, epoch)
    return gzip.compress(raw.getvalue(), mtime=epoch)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int, epoch: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, epoch
    member.uname = member.gname = "root"
    tar.addfile(member, io.BytesIO(content))
