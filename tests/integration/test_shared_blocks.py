"""Ten systems of one template share its blocks, where the file system can: `reconciler.spares`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest

from reconciler.archives.id_map import IdMapOwner
from reconciler.mounts.tree import LEAST, Tree
from reconciler.spares import store
from state.errors import LxcGpuError
from state.files import settle
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT, VIEW

SIZE = 65_536
OWNER = IdMapOwner("root", "root", replace(RESIDENT, subid=LEAST), SIZE)
"""Root gets any ids without being in /etc/subuid."""
MB = 1 << 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that everybody gets to, as a server's is."""
    folder = Path(mkdtemp(prefix="lxc-gpu-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def base_of(folder: Path) -> Tree:
    """A system of 60 MB, as the maker leaves it."""
    base = Tree(folder / "base", LEAST, SIZE)
    store.make_empty(base)
    for number in range(60):
        (base.top / f"file{number}").write_bytes(os.urandom(MB))
    mine = base.top / "mine"
    mine.write_text("x")
    os.chown(mine, 1000, 1000)
    os.setxattr(mine, "user.kept", b"yes")
    settle(folder)
    return base


def taken(folder: Path) -> int:
    """Bytes that are in use."""
    there = os.statvfs(folder)
    return (there.f_blocks - there.f_bfree) * there.f_frsize


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_ten_copies_take_little_and_are_nobody_elses(kind: str, outside: Path) -> None:
    """Owners and attributes come along; what is written in one is in no other."""
    with disk(kind, outside / kind, "600M") as folder:
        folder.chmod(0o711)
        assert store.shares_blocks(replace(VIEW, containers=str(folder)))
        base = base_of(folder)
        before = taken(folder)
        copies = [Tree(folder / f"copy{number}", LEAST, SIZE) for number in range(10)]
        for copy in copies:
            store.make_empty(copy)
            store.share(base.slot, copy, OWNER)
        settle(folder)
        assert taken(folder) - before < 12 * MB
        mine = copies[0].top / "mine"
        assert (mine.stat().st_uid, os.getxattr(mine, "user.kept")) == (1000, b"yes")
        mine.write_text("changed")
        assert {tree.top.joinpath("mine").read_text() for tree in (base, *copies[1:])} == {"x"}


def test_ext4_shares_none(outside: Path) -> None:
    """Then each one is unpacked."""
    with disk("ext4", outside / "ext4", "300M") as folder:
        folder.chmod(0o711)
        assert not store.shares_blocks(replace(VIEW, containers=str(folder)))
        base, copy = base_of(folder), Tree(folder / "copy", LEAST, SIZE)
        store.make_empty(copy)
        with pytest.raises(LxcGpuError):
            store.share(base.slot, copy, OWNER)
