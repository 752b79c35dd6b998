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
from reconciler.requests.container_use import DiskUse, counted
from shells.verbs.status import disk_in_words
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
