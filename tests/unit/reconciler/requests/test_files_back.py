import os
from itertools import islice
from pathlib import Path, PurePosixPath

import pytest

from reconciler.requests.files_back import names, nearest, not_there, wanted
from state.errors import LxcGpuError


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["thesis"], ["home/ann/thesis"]),
        (["~/thesis", "~", "./x/"], ["home/ann"]),
        (["/etc//fstab", "//etc/./fstab"], ["etc/fstab"]),
        (["/etc/x", "/etc", "/etcetera"], ["etc", "etcetera"]),
        (["-rf", "~bob", "*"], ["home/ann/-rf", "home/ann/~bob", "home/ann/*"]),
    ],
)
def test_paths_begin_at_home_and_a_folder_is_all_that_is_in_it(
    words: list[str], paths: list[str]
) -> None:
    assert [str(path) for path in wanted(words, "ann")] == paths


@pytest.mark.parametrize("word", ["..", "/", "//", "/etc/../..", "~/../bob", "x/../y"])
def test_what_leads_elsewhere_is_refused(word: str) -> None:
    with pytest.raises(LxcGpuError, match="can't be a file to bring back"):
        wanted(["thesis", word], "ann")


def test_no_link_is_followed_to_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "etc/deep").mkdir(parents=True)
    (tmp_path / "etc/out").symlink_to("/etc")
    os.mkfifo(tmp_path / "etc/pipe")
    ways = ("etc/out", "etc/pipe", "etc/out/passwd", "etc/pipe/x", "etc/deep/a/b", "none/x")
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        missing = nearest(top, [PurePosixPath(way) for way in (*ways, "n" * 300)])
    finally:
        os.close(top)
    assert {str(path): str(there) for path, there in missing.items()} == {
        "etc/out/passwd": "etc/out", "etc/pipe/x": "etc/pipe", "etc/deep/a/b": "etc/deep",
        "none/x": ".", "n" * 300: ".",
    }  # fmt: skip


def test_who_misses_something_reads_what_is_there_and_where_the_others_are() -> None:
    missing = {PurePosixPath("etc/x/y"): PurePosixPath("etc"), PurePosixPath("a"): PurePosixPath()}
    said = "The snapshot monday has no /etc/x/y (there is /etc), no /a (there is /); "
    assert not_there("monday", missing).message == f"{said}nothing was brought back."
    come = PurePosixPath("/recovered/monday")
    assert not_there("monday", missing, come).message == f"{said}the others are in {come}."


def test_the_next_folder_has_a_number() -> None:
    assert list(islice(names("monday"), 3)) == ["monday", "monday-2", "monday-3"]
