"""What a hostile container makes du(1) and mountinfo say; no more memory is taken for it."""

import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from reconciler.mounts import sources
from reconciler.mounts.tree import Tree
from reconciler.requests import container_use
from reconciler.requests.container_use import DiskUse, counted, counted_by_du
from shells.verbs.status import disk_in_words
from state.errors import LxcGpuError
from state.view import Limits
from tests.patience import HANGS

MB = 1 << 20


@contextmanager
def said(*parts: bytes, end: bool = True) -> Iterator[int]:
    """A pipe into which somebody writes these."""
    reader, writer = os.pipe()

    def write() -> None:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(writer, left) :]
        if end:
            os.close(writer)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield reader
    finally:
        writing.join()
        os.close(reader)
        if not end:
            os.close(writer)


@contextmanager
def within(most: int) -> Iterator[None]:
    """No more memory than that is taken meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_sizes_are_added_whatever_the_names_are() -> None:
    lines = b"4096\t./a\n9\tb\x008192\t./\t7\x00bad\tx\x0012\t" + b"1" * 70_000 + b"\x001\t.\x00"
    for size in (1, 7, 65_536):
        parts = [lines[at : at + size] for at in range(0, len(lines), size)]
        with said(*parts) as stream:
            assert counted(stream, 60) == (4096 + 8192 + 12 + 1, True)


def test_names_take_no_memory() -> None:
    name = b"4096\t" + b"x" * (2 * MB) + b"\0"
    with said(*[name] * 32) as stream, within(MB):
        assert counted(stream, 60) == (32 * 4096, True)


def test_what_stands_still_is_left_with_what_it_said() -> None:
    begun = time.monotonic()
    with said(b"4096\t.\x005", end=False) as stream:
        assert counted(stream, 0.3) == (4096, False)
    assert time.monotonic() - begun < HANGS


def test_folders_in_folders_are_counted_as_du_does(tmp_path: Path) -> None:
    """Deeper than any path may be long."""
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(300):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        Path("file").write_bytes(b"x" * MB)
    finally:
        os.chdir(here)
    argv = ["du", "--null", "--block-size=1", "--separate-dirs", str(tmp_path)]
    with Popen(argv, stdout=PIPE) as du, within(MB):
        assert du.stdout is not None
        used, whole = counted(du.stdout.fileno(), 60)
    assert whole
    assert used >= MB  # folders count, too, but on a tmpfs they are 0 large
    with Popen(["rm", "-rf", str(tmp_path)]):  # pytest can't
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes id maps")
class TestSystem:
    """A whole system is counted as its own root, whoever has closed what."""

    @pytest.fixture(params=[True, False], ids=["raw", "shifted"])
    def system(self, request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
        for folder in (*tmp_path.parents[:-2], tmp_path):
            folder.chmod(0o711)
        tree = Tree(tmp_path / "rootfs", 2_001_000_000, 262_144)
        tree.make(raw=request.param)
        home, owner = tree.top / "home", (0 if request.param else tree.first) + 1000
        home.mkdir(mode=0o700)
        (home / "\n\tlarge").write_bytes(b"x" * MB)
        (home / "out").symlink_to("/usr")
        for path in (home, *home.iterdir()):
            os.chown(path, owner, owner, follow_symlinks=False)
        return tree

    def test_closed_folders_count_and_links_lead_nowhere(self, system: Tree) -> None:
        use = counted_by_du(system)()
        assert MB <= use.used < 2 * MB
        assert not use.at_least

    def test_what_is_counted_when_the_time_is_over_is_called_a_part(
        self, system: Tree, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(container_use, "PATIENCE", 0)  # timeout(1) takes that for no limit
        monkeypatch.setattr(container_use, "GRACE", 0)
        assert counted_by_du(system)() == DiskUse(0, at_least=True)

    def test_no_system_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(LxcGpuError, match="There is no "):
            counted_by_du(Tree(tmp_path / "rootfs", 2_001_000_000, 262_144))


def test_nothing_counted_is_not_called_zero() -> None:
    assert disk_in_words(DiskUse(0, at_least=True), Limits()).startswith("not known: ")
    assert disk_in_words(DiskUse(MB, at_least=True), Limits()) == "at least 1.0 MiB"
    assert disk_in_words(DiskUse(0), Limits()) == "0 B"


def test_a_hundred_thousand_mounts_are_not_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    line = "36 35 98:0 / /{} rw,nodev - ext4 /dev/root rw\n"
    mountinfo.write_text("".join(line.format(f"{n}-{'x' * 200}") for n in range(100_000)))
    with within(8 * sources.MOST_INSIDE):
        found = sources._points(mountinfo, sources.MOST_INSIDE)
    assert 10_000 < len(found) < 100_000
    assert all(len(point) > 200 for point in found), "the line that was cut off counts"
