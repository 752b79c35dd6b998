"""Copies of a container on its own disk, a real btrfs: which there are, and what kills leave."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.disk import removal, subvolumes
from reconciler.mounts.tree import Tree
from reconciler.snapshots import copies
from reconciler.systems import folders
from state.errors import LxcGpuError
from state.view import View
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT, VIEW

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts a disk image: needs root")


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk("btrfs", tmp_path_factory.mktemp("copies") / "disk") as at:
        yield at


@pytest.fixture
def view(btrfs: Path) -> Iterator[View]:
    """lqchen has a system on the disk, and may keep three snapshots."""
    here = btrfs / "lqchen"
    here.mkdir()
    view = replace(VIEW, containers=str(btrfs), snapshots_kept=3, residents={"lqchen": RESIDENT})
    tree_of(view).make(raw=True, folder=subvolumes.make_folder)
    (here / "rootfs/system/file").write_text("then")
    yield view
    folders.remove_container(here)
    assert list(btrfs.iterdir()) == []


def tree_of(view: View) -> Tree:
    return Tree.of(view, "lqchen", RESIDENT)


def take(view: View, name: str = "", archives: Collection[str] = ()) -> str:
    return copies.take(view, "lqchen", tree_of(view), name, archives)[0].name


def listed(view: View) -> list[str]:
    return [each.name for each in copies.copies_of(view, "lqchen")]


def test_what_can_be_copied_in_a_moment(view: View, tmp_path: Path) -> None:
    tree = tree_of(view)
    assert copies.possible(tree)
    for raw in (True, False):
        other = replace(tree, slot=tmp_path / str(raw))
        other.make(raw=raw, folder=subvolumes.make_folder)
        assert not copies.possible(other)
    shifted = tree.beside("rootfs.before")
    shifted.make(raw=False)
    assert not copies.possible(shifted)


def test_a_copy_is_closed_and_what_it_was(view: View) -> None:
    os.chown(tree_of(view).slot, 0, RESIDENT.subid)
    assert take(view, "monday") == "monday"
    slot = copies.slot_of(view, "lqchen", "monday")
    (tree_of(view).top / "file").write_text("now")
    assert (slot / "system/file").read_text() == "then"
    for folder in (slot, slot.parent):
        assert (folder.stat().st_uid, folder.stat().st_mode & 0o7777) == (0, 0o700)
    with pytest.raises(LxcGpuError) as caught:
        take(view, "monday")
    assert caught.value.code == "snapshot-exists"
    assert slot.stat().st_gid == RESIDENT.subid
    tree = tree_of(view).beside(folders.NEXT)
    copies.copy(slot, tree.slot, RESIDENT.uid, read_only=False)
    assert copies.possible(tree)
    (tree.top / "file").write_text("later")


def test_a_copy_takes_no_name_of_an_archive(view: View) -> None:
    with pytest.raises(LxcGpuError) as caught:
        take(view, "monday", archives=["monday"])
    assert caught.value.code == "snapshot-exists"
    dated = take(view)
    copies.remove(view, "lqchen", dated)
    assert take(view, archives=[dated]) != dated
    assert "monday" not in listed(view)


def test_the_oldest_without_a_name_makes_room(view: View) -> None:
    take(view, "named")
    dated = [take(view) for _ in range(3)]
    assert listed(view) == ["named", *dated[1:]]
    assert dated[1] == f"{dated[0]}-2" or dated[1] > dated[0]
    for name in ("two", "three"):
        take(view, name)
    with pytest.raises(LxcGpuError) as caught:
        take(view)
    assert caught.value.code == "snapshots-full"


def test_what_is_not_whole_does_not_count_and_goes(view: View) -> None:
    take(view, "whole")
    folder = copies.slot_of(view, "lqchen", "whole").parent
    (folder / ".new/system").mkdir(parents=True)
    for name in ("empty", "plain", "garbled", "no-system", "Not.A Name"):
        (folder / name).mkdir()
        (folder / name / "snapshot.json").write_text((folder / "whole/snapshot.json").read_text())
    (folder / "plain/system").mkdir()
    (folder / "garbled/snapshot.json").write_text("{")
    (folder / "empty/snapshot.json").unlink()
    (folder / "garbled/system").symlink_to(folder / "whole/system")
    (folder / "file").write_text("")
    assert listed(view) == ["whole"]
    take(view, "again")
    assert listed(view) == ["whole", "again"]
    assert not (folder / ".new").exists()
    assert json.loads((folder / "again/snapshot.json").read_text())["own_name"] is True


def test_one_is_due_when_the_last_is_old_and_something_was_written(view: View) -> None:
    daily, tree, now = replace(view, snapshots_every=24), tree_of(view), time.time()

    def due(of: View, at: float) -> bool:
        os.sync()
        return copies.due(of, "lqchen", tree, at)

    assert not due(view, now)
    assert due(daily, now)
    take(view)
    (tree.top / "file").write_text("now")
    assert not due(daily, now + 3600)
    assert due(daily, now + 25 * 3600)
    take(view)
    assert not due(daily, now + 72 * 3600)


@pytest.mark.parametrize("next_work", ["snapshot", "rebuild"])
def test_what_a_kill_left_half_removed_goes_with_the_next_work(view: View, next_work: str) -> None:
    """Nobody sees it, and it counts for its user's quota."""
    take(view, "whole")
    slot = copies.slot_of(view, "lqchen", "whole")
    removal.put_away(slot)
    (slot.parent / ".new").mkdir()
    if next_work == "snapshot":
        take(view, "next")
    else:
        folders.clear(slot.parent.parent)
    left = ["next"] if next_work == "snapshot" else []
    assert [path.name for path in slot.parent.iterdir()] == left


def test_what_can_not_be_removed_keeps_nobody_from_work(view: View) -> None:
    here = Path(view.containers) / "lqchen"
    busy, other = here / ".trash-busy", here / ".trash-other"
    for folder in (busy / "mounted", other):
        folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "busy", busy / "mounted"], check=True)
    try:
        folders.clear(here)
        assert (busy.exists(), other.exists()) == (True, False)
    finally:
        subprocess.run(["umount", busy / "mounted"], check=True)
    folders.clear(here)
    assert not busy.exists()


def test_one_removed_leaves_the_others(view: View) -> None:
    for name in ("one", "two"):
        take(view, name)
    copies.remove(view, "lqchen", "one")
    assert listed(view) == ["two"]
    copies.remove(view, "lqchen", "one")
