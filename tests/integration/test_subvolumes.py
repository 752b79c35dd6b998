"""Subvolumes, on a real btrfs: made, copied, and removed with whatever was made in them."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.children import denied
from reconciler.disk import subvolumes
from reconciler.disk.removal import remove_tree
from tests.integration.disks import disk

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts a disk image: needs root")


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk("btrfs", tmp_path_factory.mktemp("subvolumes") / "disk") as at:
        yield at


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make(path: Path) -> Path:
    with opened(path.parent) as parent:
        subvolumes.make(parent, path.name)
    return path


def snapshot(source: Path, target: Path, *, read_only: bool) -> Path:
    with opened(source) as there, opened(target.parent) as parent:
        subvolumes.snapshot(there, parent, target.name, read_only=read_only)
    return target


def make_deep(place: Path) -> None:
    """Make a subvolume where no path leads to that the kernel could tell."""
    folder, name = os.open(place, os.O_RDONLY), "x" * 80
    for _ in range(60):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    subvolumes.make(folder, "end")
    os.close(folder)


def all_of(disk: Path) -> list[str]:
    """Every subvolume that btrfs itself knows."""
    argv = ["btrfs", "subvolume", "list", str(disk)]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(line.rpartition(" path ")[2] for line in lines)


def test_what_is_a_subvolume(btrfs: Path, tmp_path: Path) -> None:
    folder = btrfs / "folder"
    folder.mkdir()
    with opened(make(btrfs / "tree")) as tree, opened(folder) as plain, opened(tmp_path) as other:
        assert subvolumes.is_subvolume(tree)
        assert not subvolumes.is_subvolume(plain)
        assert subvolumes.on_btrfs(plain)
        assert not subvolumes.on_btrfs(other)
        assert subvolumes.number(tree) != subvolumes.number(plain)
    subvolumes.delete(btrfs / "tree")


def test_a_copy_is_of_one_moment_and_its_copy_can_be_written_to(btrfs: Path) -> None:
    tree = make(btrfs / "tree")
    (tree / "file").write_text("then")
    os.chown(tree / "file", 1234, 5678)
    (tree / "file").chmod(0o4755)
    frozen = snapshot(tree, btrfs / "frozen", read_only=True)
    (tree / "file").write_text("now")
    with pytest.raises(OSError, match="Read-only"):
        (frozen / "file").write_text("else")
    again = snapshot(frozen, btrfs / "again", read_only=False)
    status = (again / "file").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 5678, 0o4755)
    (again / "file").write_text("else")
    texts = [(each / "file").read_text() for each in (tree, frozen, again)]
    assert texts == ["now", "then", "else"]
    for each in (tree, frozen, again):
        subvolumes.delete(each)
    assert all_of(btrfs) == []


def test_a_name_leads_nowhere_and_nothing_is_replaced(btrfs: Path) -> None:
    (btrfs / "way").symlink_to("/tmp")
    for name in ("", ".", "..", "a/b", "/a", "x" * 256, "a\0b"):
        with opened(btrfs) as parent, pytest.raises(OSError, match="Invalid argument"):
            subvolumes.make(parent, name)
    for there in ("way", "file"):
        (btrfs / "file").write_text("")
        with pytest.raises(FileExistsError):
            make(btrfs / there)
    with pytest.raises(NotADirectoryError):
        subvolumes.delete(btrfs / "way")
    (btrfs / "way").unlink()
    (btrfs / "file").unlink()


def test_what_somebody_made_in_a_tree_goes_with_it(btrfs: Path) -> None:
    """Read-only, deep, foreign, in each other, in a folder or a subvolume: and nothing beside."""
    beside = make(btrfs / "beside")
    make(beside / "stays")
    for tree in (make(btrfs / "tree"), btrfs / "folder"):
        tree.mkdir(exist_ok=True)
        (tree / "var/lib").mkdir(parents=True)
        inner = make(tree / "var/lib/machines")
        make(inner / "a")
        os.chown(make(inner / "a/b"), 4321, 4321)
        snapshot(beside, inner / "a/c", read_only=True)
        (tree / "link").symlink_to(beside)
        make_deep(tree)
    subvolumes.delete(btrfs / "tree")
    subvolumes.delete(btrfs / "folder")
    assert all_of(btrfs) == ["beside", "beside/stays"]
    assert not (btrfs / "tree").exists()
    assert (btrfs / "folder" / "link").is_symlink()
    remove_tree(btrfs / "folder")
    remove_tree(beside)
    assert all_of(btrfs) == []
    assert list(btrfs.iterdir()) == []


def test_elsewhere_there_is_nothing_to_remove(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    subvolumes.delete(tmp_path / "folder")
    assert (tmp_path / "folder").is_dir()
    with opened(tmp_path) as parent, pytest.raises(OSError, match="Inappropriate"):
        subvolumes.make(parent, "tree")


def test_who_is_denied_them_makes_none(btrfs: Path) -> None:
    """As a program that `shell` or a login check puts into a container is."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            denied.take_on(ctypes.CDLL(None, use_errno=True), denied.program())
            with opened(btrfs) as folder:
                subvolumes.make(folder, "denied")
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.ENOTTY
    assert not (btrfs / "denied").exists()
