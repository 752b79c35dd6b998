"""What sshd would refuse on the way to the keys, and what becomes of it."""

import stat

import pytest

from reconciler.systems.way_in import Mending, PathPart, mendings

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
