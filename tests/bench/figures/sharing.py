"""What ten new systems of 3 GB take of a disk, beside one that is unpacked; here, on files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from reconciler.archives.id_map import IdMapOwner
from reconciler.mounts.tree import LEAST, Tree
from reconciler.spares import store
from state.files import settle
from tests.bench.figures.snapshots import FILL
from tests.bench.measure import Figure
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT

SIZE, COUNT, GB = 65_536, 10, 1e9
OWNER = IdMapOwner("root", "root", replace(RESIDENT, subid=LEAST), SIZE)
"""Root gets any ids without being in /etc/subuid."""
TARGETS = {"btrfs": "0.1 GB", "xfs": "0.4 GB"}


def figures() -> Iterator[Figure]:
    """Of each file system that shares blocks."""
    for kind, target in TARGETS.items():
        with _outside() as outside, disk(kind, outside / kind, "40G") as folder:
            folder.chmod(0o711)
            ten, one = _ten(folder)
        what = f"disk of {COUNT} new systems of 3 GB, {kind}"
        yield Figure(what, ten, one, "one of them, unpacked", target, unit="GB")


def _ten(folder: Path) -> tuple[float, float]:
    """What ten copies take, and what the base does, in gigabytes."""
    empty = _taken(folder)
    base = Tree(folder / "base", LEAST, SIZE)
    store.make_empty(base)
    (base.top / "srv").mkdir()
    subprocess.run([sys.executable, "-c", FILL], cwd=base.top, check=True)
    settle(folder)
    before = _taken(folder)
    for number in range(COUNT):
        copy = Tree(folder / f"copy{number}", LEAST, SIZE)
        store.make_empty(copy)
        store.share(base.slot, copy, OWNER)
    settle(folder)
    return (_taken(folder) - before) / GB, (before - empty) / GB


def _taken(folder: Path) -> int:
    there = os.statvfs(folder)
    return (there.f_blocks - there.f_bfree) * there.f_frsize


@contextmanager
def _outside() -> Iterator[Path]:
    """A folder that the ids get to, as a server's is."""
    folder = Path(mkdtemp(prefix="lxc-gpu-", dir="/var/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
