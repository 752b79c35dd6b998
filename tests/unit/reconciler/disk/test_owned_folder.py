"""A user's folder is there as a whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.disk.owned_folder import make_owned_at


def test_it_has_owner_and_mode_and_what_a_kill_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / ".chen.lxc-gpu-new").mkdir()
    make_owned_at(tmp_path / "chen", os.getuid(), 0o711)
    status = (tmp_path / "chen").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.getuid(), 0o711)
    assert list(tmp_path.iterdir()) == [tmp_path / "chen"]


def test_what_is_there_is_not_replaced_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "chen").mkdir()
    (tmp_path / "chen/thesis").touch()
    with pytest.raises(OSError, match="not empty"):
        make_owned_at(tmp_path / "chen", os.getuid())
    assert list(tmp_path.iterdir()) == [tmp_path / "chen"]
    assert (tmp_path / "chen/thesis").exists()
