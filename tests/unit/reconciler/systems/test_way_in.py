"""What sshd would refuse on the way to the keys, and what becomes of it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from reconciler.container import home_files
from reconciler.mounts.tree import Tree
from reconciler.systems.way_in import Mending, PathPart, mend, mendings
from tests.unit.reconciler.views import RESIDENT, VIEW

(USER,) = VIEW.residents

FOLDER, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
SOUND = (
    PathPart(0, 0, FOLDER | 0o755), PathPart(1, 0, FOLDER | 0o755),
    PathPart(2, 1000, FOLDER | 0o711),
    PathPart(3, 1000, FOLDER | 0o2755), PathPart(4, 1000, FILE | 0o644),
)  # fmt: skip


def test_what_is_sound_is_left_alone() -> None:
    assert mendings(SOUND) == ()


@pytest.mark.parametrize(
    ("step", "mending"),
    [(PathPart(0, 0, FOLDER | 0o700), Mending(0, 0o755, owner=False)),
     (PathPart(1, 0, FOLDER | 0o750), Mending(1, 0o755, owner=False)),
     (PathPart(1, 7, FOLDER | 0o1777), None),
     (PathPart(2, 1000, FOLDER | 0o777), Mending(2, 0o755, owner=False)),
     (PathPart(2, 0, FOLDER | 0o700), Mending(2, 0o700, owner=True)),
     (PathPart(2, -5, FOLDER | 0o755), Mending(2, 0o755, owner=True)),
     (PathPart(3, 1000, FOLDER | 0o3770), Mending(3, 0o3750, owner=False)),
     (PathPart(3, 1000, FOLDER), Mending(3, 0o700, owner=False)),
     (PathPart(3, 0, LINK | 0o777), None),
     (PathPart(4, 1000, FILE | 0o666), Mending(4, 0o644, owner=False)),
     (PathPart(4, 0, FILE | 0o400), Mending(4, 0o600, owner=True)),
     (PathPart(4, 0, stat.S_IFIFO | 0o666), None)],
)  # fmt: skip
def test_what_sshd_refuses_is_mended(step: PathPart, mending: Mending | None) -> None:
    assert mendings([step]) == (() if mending is None else (mending,))


@pytest.fixture
def tree() -> Iterator[Tree]:
    """A system with a sound way to the keys."""
    with TemporaryDirectory(dir="/var/tmp") as outside:
        Path(outside).chmod(0o711)
        tree = Tree(Path(outside) / "rootfs", RESIDENT.subid, VIEW.subid_size)
        home = tree.slot / home_files.folder(USER)
        home.mkdir(parents=True)
        for depth, folder in enumerate((tree.slot, tree.slot / "home", home.parent, home)):
            uid = RESIDENT.subid + (home_files.UID if depth >= 2 else 0)
            os.chown(folder, uid, uid)
        yield tree


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives folders away")
class TestMend:
    def test_nothing_is_said_to_be_work_where_a_look_is_enough(self, tree: Tree) -> None:
        said = list[str]()
        assert mend(VIEW, USER, RESIDENT, tree, lambda: said.append("work")) == ()
        assert said == []

    def test_work_is_said_before_it_is_done(self, tree: Tree) -> None:
        (tree.slot / "home").chmod(0o700)
        modes = list[int]()
        home = tree.slot / "home"
        notes = mend(VIEW, USER, RESIDENT, tree, lambda: modes.append(home.stat().st_mode & 0o777))
        assert [note.split(" ke")[0] for note in notes] == ["/home (owner 0, mode 0700)"]
        assert modes == [0o700]
