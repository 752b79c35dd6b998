"""What sshd would refuse on the way to the keys, and what becomes of it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from reconciler.container import home_files
from reconciler.mounts.tree import Tree
from reconciler.systems.way_in import Mending, PathPart, is_clear, mend, mendings, seen
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


def test_the_way_is_clear_only_if_it_was_seen_and_nothing_is_to_be_mended() -> None:
    parts = [(part.uid, part.mode) for part in SOUND]
    assert is_clear(parts)
    assert is_clear(parts[:3])  # no keys yet
    assert not is_clear([*parts[:2], (1000, FOLDER | 0o777), *parts[3:]])
    assert not is_clear([])


def test_no_link_on_the_way_is_followed_and_no_file_opened(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o750)
    os.mkfifo(tmp_path / "home/keys", 0o600)
    (tmp_path / "home/link").symlink_to("/")
    top = os.open(tmp_path, os.O_PATH)
    before = len([*Path("/proc/self/fd").iterdir()])
    modes = [oct(mode) for _, mode in seen(top, ["home", "keys"])]
    assert modes[1:] == [oct(FOLDER | 0o750), oct(stat.S_IFIFO | 0o600)]
    assert [stat.S_IFMT(mode) for _, mode in seen(top, ["home", "link", "etc"])][2:] == [LINK]
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    os.close(top)


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
