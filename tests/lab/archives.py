"""Packed systems for tests: the least that passes for a system, and what attackers add to it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from laboratory.hosts import Host

TEMPLATES = "/var/lib/lxc-gpu/templates"
SMALL_TEMPLATE = f"""
cd {TEMPLATES}
mkdir whole
trap "rm -rf $PWD/whole" EXIT
tar -x -f debian-12.tar.zst -C whole
libraries=$(chroot whole ldd /usr/sbin/useradd | grep -o '/lib[^ ]*')
cd whole
eval "$1"
tar -c ./bin ./sbin ./lib ./lib64 ./etc ./home ./root ./usr/sbin/useradd $2 \\
    $(for each in $libraries; do echo ./usr$each .$(chroot . realpath $each); done) |
    zstd -q >../small
mount --bind ../small ../debian-12.tar.zst
"""
"""$1 changes the whole template first; $2 names more of its files that are wanted."""
FAR = "../" * 12
"""Climbs out of any system."""
Add = Callable[[tarfile.TarFile], None]
PASSWD = "root:x:0:0::/root:/bin/sh\nlqchen:x:1000:1000::/home/lqchen:/bin/sh\n"


def system(*more: Add, marker: str = "small") -> bytes:
    """A tar archive of a system that has all that is looked for, and doesn't start."""
    return archive(
        folder("./"), folder("./etc"), folder("./sbin"), folder("./usr"), folder("./usr/sbin"),
        file("./sbin/init", b"#!/bin/nothing\n", mode=0o755), file("./usr/sbin/sshd", mode=0o755),
        file("./etc/passwd", PASSWD.encode()), file("./etc/marker", marker.encode()),
        folder("./home"), folder("./home/lqchen", uid=1000), *more,
    )  # fmt: skip


def archive(*adds: Add) -> bytes:
    """A tar archive of what is added."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for add in adds:
            add(tar)
    return raw.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> Add:
    """One member, as its writer wants it."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(content), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return lambda tar: tar.addfile(info, io.BytesIO(content))


def file(name: str, content: bytes = b"x\n", **fields: Any) -> Add:
    """A regular file."""
    return member(name, content=content, **fields)


def folder(name: str, mode: int = 0o755, uid: int = 0) -> Add:
    """A folder."""
    return member(name, tarfile.DIRTYPE, mode=mode, uid=uid, gid=uid)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Add:
    """A symbolic link, or a hard one."""
    return member(name, kind, linkname=target)


def packed(raw: bytes, options: Sequence[str] = ()) -> bytes:
    """`raw` as zstd(1) packs it from a pipe."""
    return subprocess.run(
        ["zstd", "-q", "-c", *options], input=raw, stdout=subprocess.PIPE, check=True
    ).stdout


@contextmanager
def small_template(host: Host, change: str = "", files: str = "") -> Iterator[None]:
    """Containers are made in no time: their template is what useradd needs of the real one.

    `change` is a script that changes the real one first, `files` what else of it is wanted.
    """
    host.run(["bash", "-euc", SMALL_TEMPLATE, "bash", change, files])
    try:
        yield
    finally:
        host.sh(f"umount --lazy {TEMPLATES}/debian-12.tar.zst; rm {TEMPLATES}/small")
