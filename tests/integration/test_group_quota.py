"""Limits of what a user's subvolumes take together, on a real btrfs with simple quotas."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.disk import group_quota, subvolumes
from reconciler.host import marker, places
from reconciler.kinds.containers.disk_quota import DiskQuotaKind
from reconciler.mounts.tree import LEAST, Tree
from reconciler.plan import diff
from reconciler.spares import store
from state.view import Limits
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT, with_

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts a disk image: needs root")
UID, MB = 20_031, 1 << 20
GROUP = group_quota.group_of(UID)
ENABLE, SIMPLE = 0xC0109428, 4
"""BTRFS_IOC_QUOTA_CTL: `btrfs quota enable --simple`, which Debian 12's btrfs(8) hasn't got yet."""


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    with disk("btrfs", tmp_path / "disk") as at:
        yield at


@pytest.fixture
def folder(btrfs: Path) -> Iterator[int]:
    """A descriptor of the disk's outermost folder, with simple quotas on."""
    with subvolumes.opened(btrfs) as descriptor:
        assert not group_quota.enforced(descriptor)
        assert group_quota.of(descriptor, UID) is None
        try:
            fcntl.ioctl(descriptor, ENABLE, struct.pack("=2Q", SIMPLE, 0))
        except OSError as error:
            if error.errno == errno.EINVAL:
                pytest.skip("simple quotas need Linux 6.7")
            raise
        yield descriptor


def write(file: Path, size: int) -> None:
    file.write_bytes(os.urandom(size))
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def test_elsewhere_there_are_none(tmp_path: Path) -> None:
    with subvolumes.opened(tmp_path) as descriptor:
        assert not group_quota.enforced(descriptor)
        assert group_quota.of(descriptor, UID) is None


def test_all_of_a_users_subvolumes_count_together(btrfs: Path, folder: int) -> None:
    subvolumes.make(folder, "before")
    write(btrfs / "before/file", 8 * MB)
    group_quota.set_limit(folder, GROUP, 30 * MB)
    assert group_quota.of(folder, UID) == GROUP
    subvolumes.make(folder, "after", group=GROUP)
    write(btrfs / "after/file", 8 * MB)
    numbers = [each.number for each in subvolumes.nested(folder)]
    (outside,) = group_quota.outside(folder, GROUP, numbers)
    group_quota.admit(folder, GROUP, [outside])
    assert group_quota.outside(folder, GROUP, numbers) == []
    subprocess.run(["sync", "-f", btrfs], check=True)
    use = group_quota.use(folder, GROUP)
    assert (use.used // MB, use.limit) == (16, 30 * MB)
    with pytest.raises(OSError, match="quota"):
        write(btrfs / "after/more", 20 * MB)
    group_quota.set_limit(folder, GROUP, 0)
    assert group_quota.use(folder, GROUP).limit == 0
    write(btrfs / "after/more", 20 * MB)


def test_an_empty_system_is_its_users_from_the_first_byte(btrfs: Path, folder: int) -> None:
    group_quota.set_limit(folder, GROUP, 30 * MB)
    tree = Tree(btrfs / "rootfs.new", LEAST, 65_536)
    store.make_empty(tree, UID)
    with subvolumes.opened(tree.top) as system:
        assert group_quota.outside(folder, GROUP, [subvolumes.number(system)]) == []


def test_a_copy_takes_nothing_and_counts_on_when_what_it_was_made_of_is_gone(
    btrfs: Path, folder: int
) -> None:
    group_quota.set_limit(folder, GROUP, 100 * MB)
    subvolumes.make(folder, "system", group=GROUP)
    write(btrfs / "system/file", 8 * MB)
    with subvolumes.opened(btrfs / "system") as system:
        subvolumes.snapshot(system, folder, "copy", read_only=True, group=GROUP)
    subvolumes.delete(btrfs / "system")
    subprocess.run(["btrfs", "subvolume", "sync", btrfs], check=True, capture_output=True)
    subprocess.run(["sync", "-f", btrfs], check=True)
    assert group_quota.use(folder, GROUP).used // MB == 8


def test_what_counts_for_somebody_else_stops_doing_so(
    btrfs: Path, folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes a subvolume says which groups it counts for, be they whose they may."""
    view = with_(containers=str(btrfs), residents={"lqchen": replace(RESIDENT, uid=UID)})
    for name in ("CONTAINERS", "MADE", "LOCKS"):
        monkeypatch.setattr(places, name, tmp_path / name)
    marker.mark(replace(view, residents={}))
    (btrfs / "lqchen").mkdir()
    group_quota.set_limit(folder, GROUP + 1, 100 * MB)
    with subvolumes.opened(btrfs / "lqchen") as around:
        subvolumes.make(around, "theirs", group=GROUP + 1)
    write(btrfs / "lqchen/theirs/file", 8 * MB)
    kind = DiskQuotaKind()
    for limits in (Limits(), Limits(disk=50 * MB)):
        changes = diff(kind.desired(replace(view, limits=limits)), kind.observe(view, ["lqchen"]))
        assert changes, "it is seen"
        assert kind.apply(view, changes, lambda _: None) == {}
        with subvolumes.opened(btrfs / "lqchen") as around:
            (one,) = subvolumes.nested(around)
            assert group_quota.strange(folder, GROUP, [one.number]) == []
            assert group_quota.outside(folder, GROUP, [one.number]) == []
            group_quota.admit(folder, GROUP + 1, [one.number])
    subprocess.run(["sync", "-f", btrfs], check=True)
