"""A disk of its own for a server's containers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laboratory.hosts import Host

from tests.integration.disks import image
from tests.lab.fleet import CONTAINERS, MARKER


@contextmanager
def containers_on(host: Host, kind: str, file: Path, size: str) -> Iterator[None]:
    """Meanwhile the folder of the containers, with its marker, is an empty disk of that kind."""
    image(kind, file, size)
    attach = ["losetup", "--find", "--show", str(file)]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        host.sh(f"""
            mknod -m 600 {device} b 7 {device.removeprefix("/dev/loop")}
            cp {CONTAINERS}/{MARKER} /root/
            mount {device} {CONTAINERS}; chmod 711 {CONTAINERS}; mv /root/{MARKER} {CONTAINERS}/""")
        yield
    finally:
        host.sh(f"umount {CONTAINERS} || true; rm -f {device}")
        subprocess.run(["losetup", "--detach", device], check=True)
        file.unlink()
