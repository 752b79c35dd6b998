"""Systems in their slots, raw and shifted; needs root, and a file system that maps owners."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from reconciler.archives.id_map import mapped
from reconciler.children import hostile
from reconciler.children.hostile import Json
from reconciler.host import places
from reconciler.mounts.over import over
from reconciler.mounts.tree import LEAST, RAW, Tree, cover
from reconciler.systems import raw_support
from reconciler.systems.attached import attach, detach
from reconciler.systems.raw_support import tried
from state.errors import LxcGpuError
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT, VIEW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")
FIRST, SIZE = 3_000_000, 65_536
MINE = PurePosixPath("home/me/file")


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A container's folder, on the way to which nothing is closed."""
    for folder in (*tmp_path.parents[:-2], tmp_path):
        folder.chmod(0o711)
    return tmp_path


@pytest.fixture
def raw(around: Path) -> Tree:
    tree = Tree(around / "rootfs", FIRST, SIZE)
    tree.make(raw=True)
    return tree


@pytest.fixture
def shifted(around: Path) -> Tree:
    tree = Tree(around / "rootfs.before", FIRST, SIZE)
    tree.make(raw=False)
    return tree


def _write(tree: Tree, owner: int = FIRST) -> Json:
    def work(root: int) -> Json:
        hostile.write_below(root, MINE, "text", 0o640, folder_mode=0o755)
        return [os.fstat(root).st_uid, os.getuid()]

    return hostile.as_owner(tree, owner, work)


def test_what_is_written_has_the_ids_of_its_form(raw: Tree, shifted: Tree) -> None:
    for tree, owner in ((raw, 0), (shifted, FIRST)):
        assert _write(tree) == [FIRST, FIRST], "a child sees no difference"
        assert (tree.top / MINE).stat().st_uid == owner
        os.chown(tree.top / MINE, owner + 1000, owner + 1000)
        read = hostile.as_owner(tree, FIRST + 1000, lambda root: hostile.read_below(root, MINE))
        assert read == "text"
    assert (raw.stored_for, shifted.stored_for) == (0, FIRST)


def test_what_is_mounted_already_is_opened_there(raw: Tree, around: Path) -> None:
    place = around / "shown"
    place.mkdir()
    raw.mount_at(place)
    try:
        shown = replace(raw, shown_at=place)
        assert _write(shown) == [FIRST, FIRST]
        assert (raw.top / MINE).stat().st_uid == 0
        for owner in (0, FIRST - 1, FIRST + SIZE):
            with pytest.raises(LxcGpuError, match="compare `subid`"):
                _write(shown, owner)
        assert shown.beside("rootfs.new").shown_at is None, "another system isn't what is there"
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_mount_that_is_gone_meanwhile_is_not_needed(
    raw: Tree, around: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that is under way takes it away while our files are written for a start."""
    monkeypatch.setattr(places, "SYSTEMS", around / "systems")
    shown = attach(raw, "lqchen")
    detach("lqchen")
    assert _write(shown) == [FIRST, FIRST]
    assert (raw.top / MINE).stat().st_uid == 0
    assert not list((around / "systems/lqchen").iterdir())


@pytest.mark.parametrize("owner", [0, 1000, FIRST - 1, FIRST + SIZE])
def test_no_work_is_done_as_who_has_no_part_in_it(raw: Tree, shifted: Tree, owner: int) -> None:
    for tree in (raw, shifted):
        with pytest.raises(LxcGpuError, match="compare `subid`") as refused:
            _write(tree, owner)
        assert refused.value.code == "not-an-owner"
        assert not any(tree.top.iterdir())


def test_a_range_of_the_servers_own_accounts_is_none(around: Path) -> None:
    for first in (0, 1000, LEAST - 1):
        tree = Tree(around / f"of-{first}", first, SIZE)
        tree.make(raw=True)
        with pytest.raises(LxcGpuError) as refused:
            _write(tree, max(first, 1))
        assert refused.value.code == "not-an-owner"


def test_what_a_containers_root_does_to_its_own_makes_it_no_other_form(
    raw: Tree, shifted: Tree
) -> None:
    (shifted.slot / RAW).mkdir()
    for owner in (FIRST, FIRST + 1000, FIRST + SIZE - 1):
        os.chown(shifted.slot, owner, owner)
        shifted.slot.chmod(0o700)
        assert not shifted.raw
        os.chown(raw.top, owner - FIRST, owner - FIRST)
        raw.top.chmod(0)
        assert raw.raw
    assert shifted.stored_for == FIRST + SIZE - 1, "a wrong one is told, whatever is in it"
    shifted.keep_top()
    raw.keep_top()
    assert (raw.top.stat().st_uid, shifted.top.stat().st_uid) == (0, FIRST)


def test_a_raw_one_is_its_containers_from_the_first_start_on(raw: Tree) -> None:
    for _ in range(2):
        raw.note_range()
        assert (raw.stored_for, raw.raw) == (FIRST, True)
    with pytest.raises(LxcGpuError, match="ran with ids from 3000000 on") as refused:
        replace(raw, first=FIRST + SIZE).note_range()
    assert refused.value.code == "subid-changed"


@pytest.mark.parametrize("mode", [0o711, 0o755, 0o750, 0o4700])
def test_a_slot_of_roots_that_is_open_is_refused(raw: Tree, mode: int) -> None:
    raw.slot.chmod(mode)
    with pytest.raises(LxcGpuError) as refused:
        _write(raw)
    assert refused.value.code == "system-of-root"


def test_a_copy_that_lost_its_owners_is_no_raw_one(shifted: Tree) -> None:
    (shifted.slot / RAW).symlink_to("/etc")
    os.chown(shifted.slot, 0, 0)
    shifted.slot.chmod(0o700)
    with pytest.raises(LxcGpuError) as refused:
        _write(shifted)
    assert refused.value.code == "system-of-root"


def test_programs_find_either_at_its_slot_and_nobody_else_does(raw: Tree, shifted: Tree) -> None:
    assert over([shifted], ["true"]) == ["true"]
    resident = replace(RESIDENT, subid=FIRST)
    script = f"echo x >{raw.slot}/x; cp -a {raw.slot}/x {shifted.slot}/x; chown 7:8 {raw.slot}/x"
    argv = over([raw, shifted], mapped(resident, SIZE, ["sh", "-euc", script]))
    subprocess.run(argv, check=True)
    status = (raw.top / "x").stat()
    assert (status.st_uid, status.st_gid) == (7, 8)
    assert (shifted.slot / "x").stat().st_uid == FIRST
    assert list(raw.slot.iterdir()) == [raw.top]


def test_a_child_may_see_it_at_its_slot(raw: Tree) -> None:
    def work(root: int) -> Json:
        (raw.slot / "made").mkdir()
        return sorted(path.name for path in raw.slot.iterdir())

    seen = hostile.as_owner_at_length(
        raw.slot, FIRST, lambda root, _: work(root), lambda _: None, first=lambda: cover([raw])
    )
    assert seen == ["made"]
    assert list(raw.slot.iterdir()) == [raw.top]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A file system whose owners can't be mapped."""
    parts = [tmp_path / name for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir()
    options = "lowerdir={},upperdir={},workdir={}".format(*parts)
    mounted = ["mount", "-t", "overlay", "-o", options, "none", str(parts[3])]
    subprocess.run(mounted, check=True)
    yield parts[3]
    subprocess.run(["umount", str(parts[3])], check=True)


def test_the_kernel_is_tried_on_the_very_file_system(around: Path, overlay: Path) -> None:
    killed = around / ".lxc-gpu-probe-killed/rootfs"
    killed.mkdir(parents=True)
    can, cannot = tried(around), tried(overlay)
    assert (can.why_not, can.answered) == ("", True)
    assert (cannot.why_not, cannot.answered) == ("Invalid argument", True)
    assert not list(around.glob(".lxc-gpu-probe-*")) + list(overlay.iterdir())


def test_a_full_disk_is_no_answer_of_the_kernels(
    around: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root has a twentieth of ext4 for itself, so only the probe's own root meets its end."""
    kept = around / "raw-systems.json"
    monkeypatch.setattr(raw_support, "KEPT", kept)
    with disk("ext4", around / "disk", "64M") as full:
        full.chmod(0o777)
        fill = f"for n in 1 2 3; do dd if=/dev/zero of={full}/$n bs=1k conv=fsync; done"
        nobody = ["setpriv", f"--reuid={LEAST}", f"--regid={LEAST}", "--clear-groups"]
        subprocess.run([*nobody, "sh", "-c", fill], check=False, capture_output=True)
        view = replace(VIEW, containers=str(full))
        found = raw_support.raw_support(view)
        assert (found.why_not, found.answered) == ("No space left on device", False)
        assert not kept.exists()
        for file in "123":
            (full / file).unlink()
        assert raw_support.raw_support(view).why_not == ""
        assert kept.exists()
