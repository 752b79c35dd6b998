"""What of lxcfs a container sees, by its mounts: some of it, or a trap of its root's."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.mounts import lxcfs
from reconciler.mounts.lxcfs import FILES, unfit

MEMINFO, UPTIME = "/proc/meminfo", "/proc/uptime"


def mount(device: str, point: str, root: str = "", kind: str = "fuse.lxcfs") -> str:
    return f"900 800 {device} {root or point} {point} rw,nosuid shared:7 - {kind} lxcfs rw\n"


ALL = "".join(mount("0:50", point) for point in (*FILES, UPTIME))


def test_files_of_one_that_ended_are_to_be_exchanged() -> None:
    assert unfit(ALL, "0:60") == unfit(ALL, None) == {*FILES, UPTIME}
    assert unfit(ALL, "0:50") == frozenset()
    assert unfit(ALL + mount("0:60", MEMINFO), "0:60") == {*FILES, UPTIME} - {MEMINFO}


def test_one_that_a_killed_exchange_took_away_comes_back_with_the_others() -> None:
    killed = "".join(mount("0:50", point) for point in FILES if point != MEMINFO)
    assert unfit(killed, "0:60") == frozenset(FILES)
    over = mount("0:9", MEMINFO, kind="tmpfs")
    assert unfit(killed + over, "0:60") == frozenset(FILES) - {MEMINFO}, "its root's own"
    assert unfit(killed, "0:50") == frozenset(), "its root took it away"


def test_who_has_none_is_given_all_once_there_is_one() -> None:
    proc = mount("0:4", "/proc", "/", "proc")
    assert unfit(proc, "0:60") == frozenset(FILES)
    assert unfit(proc, None) == frozenset()


@pytest.mark.parametrize("theirs", [
    mount("0:9", MEMINFO, kind="tmpfs"),  # put over it: below, it may be as dead as it likes
    mount("0:50", "/proc/../etc/passwd"), mount("0:50", "/etc/passwd"),
    mount("0:50", "/etc/passwd", "/proc/stat"), mount("0:50", "/proc/1/mem"),
    mount("0:50", "/sys/devices/system/cpu/cpu0/online"), "900 800\n", "\udcff - fuse.lxcfs\n",
])  # fmt: skip
def test_what_its_root_mounted_is_left_alone(theirs: str) -> None:
    others = "".join(mount("0:60", point) for point in (*FILES, UPTIME) if point != MEMINFO)
    assert unfit(mount("0:50", MEMINFO) + others + theirs, "0:60") <= {MEMINFO}


def test_whether_one_answers_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a child with a time limit."""
    monkeypatch.setattr(lxcfs, "LXCFS", tmp_path)
    assert not lxcfs.answers(), "it is not there"
    (tmp_path / "proc").mkdir()
    assert lxcfs.answers()
