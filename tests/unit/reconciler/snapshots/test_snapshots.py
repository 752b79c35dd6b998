"""The folder of a user's snapshots is hostile: what is planted there counts for nothing."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.snapshots import user_archives as snapshots
from reconciler.snapshots.user_archives import Snapshot, describe, look, parse

OWNER = 20_031
GOOD = Snapshot("a", "gpu17", 1_795_307_960.5, 4, 10_240, "0" * 64, own_name=True)


def _said(**changes: object) -> str:
    return json.dumps({**json.loads(describe(GOOD)), **changes})


def test_what_is_described_is_parsed() -> None:
    assert parse("a", describe(GOOD)) == GOOD


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "[" * 100_000, "{", _said(server="../x"), _said(server=None),
     _said(taken="now"), _said(taken=float("nan")), _said(taken=float("inf")), _said(taken=-1),
     _said(taken=True), _said(taken=1e300), _said(packed=-1), _said(packed=True),
     _said(packed=1 << 80), _said(unpacked=1.5), _said(unpacked=None), _said(sha256="0" * 63),
     _said(sha256="0" * 64 + "\n"), _said(sha256=7), _said(own_name="yes"), _said(own_name=1)],
)  # fmt: skip
def test_what_is_no_description_is_none(text: str) -> None:
    assert parse("a", text) is None


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with one good snapshot."""
    for each in (*tmp_path.parents[:-2], tmp_path):  # not / and /tmp
        each.chmod(0o711)
    folder = tmp_path / "lqchen"
    folder.mkdir(mode=0o700)
    _put(folder, GOOD, b"zstd")
    os.chown(folder, OWNER, OWNER)
    return folder


def _put(folder: Path, snapshot: Snapshot, archive: bytes) -> None:
    (folder / f"{snapshot.name}.tar.zst").write_bytes(archive)
    (folder / f"{snapshot.name}.json").write_text(describe(snapshot))
    for path in folder.iterdir():
        os.chown(path, OWNER, OWNER, follow_symlinks=False)


def _look(folder: Path) -> tuple[list[str], list[str]]:
    def work(descriptor: int) -> object:
        archives = look(descriptor)
        return [[each.name for each in archives.whole], list(archives.broken)]

    whole, broken = hostile.as_owner(folder, OWNER, work)
    return whole, broken


@needs_root
def test_snapshots_are_in_the_order_of_their_taking(folder: Path) -> None:
    _put(folder, replace(GOOD, name="0", taken=GOOD.taken + 1), b"zstd")
    _put(folder, replace(GOOD, name="b", taken=GOOD.taken - 1), b"zstd")
    assert _look(folder) == (["b", "a", "0"], [])


def _link(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"zstd")
    (folder / "b.tar.zst").symlink_to(secret)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "b.tar.zst")


def _other_size(folder: Path) -> None:
    (folder / "b.tar.zst").write_bytes(b"zstd and more")


@needs_root
@pytest.mark.parametrize("plant", [_link, _pipe, _other_size, lambda _: None])
def test_an_archive_that_is_not_what_is_described_does_not_count(
    folder: Path, plant: Callable[[Path], None]
) -> None:
    plant(folder)
    (folder / "b.json").write_text(describe(replace(GOOD, name="b")))
    os.chown(folder / "b.json", OWNER, OWNER)
    assert _look(folder) == (["a"], ["b"])


@needs_root
def test_descriptions_that_are_no_files_or_huge_do_not_count(folder: Path) -> None:
    for name in "bcdefg":
        (folder / f"{name}.tar.zst").write_bytes(b"zstd")
    os.mkfifo(folder / "b.json")
    (folder / "c.json").symlink_to(folder / "a.json")
    (folder / "d.json").mkdir()
    with (folder / "e.json").open("wb") as stream:
        stream.truncate(1 << 40)
    (folder / "f.json").symlink_to("/dev/zero")
    assert _look(folder) == (["a"], ["b", "c", "d", "e", "f", "g"])


@needs_root
def test_odd_names_are_nobodys(folder: Path) -> None:
    for name in ("..json", "-rf.json", "A.json", "x y.json", "a\n.json", f"{'a' * 61}.json"):
        (folder / name).write_text(describe(GOOD))
    assert _look(folder) == (["a"], [])


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(OWNER + 1, 0o777), (OWNER, 0o770), (OWNER, 0o702)])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, owner: int, mode: int) -> None:
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    with pytest.raises(HostileError, match="isn't yours alone"):
        _look(folder)


@needs_root
def test_a_link_in_place_of_the_folder_is_not_followed(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to("moved")
    with pytest.raises(HostileError, match="Not a directory"):
        _look(folder)


@needs_root
def test_what_servers_are_writing_is_told_apart(folder: Path) -> None:
    for name in (".gpu17~b.new", ".gpu18~c.new", ".gpu18~.new", "gpu18~c.new"):
        (folder / name).write_bytes(b"12345")

    def work(descriptor: int) -> object:
        return sorted(look(descriptor).begun)

    assert hostile.as_owner(folder, OWNER, work) == [["gpu17", "b", 5], ["gpu18", "c", 5]]


@needs_root
def test_a_removal_removes_a_link_and_not_what_it_leads_to(folder: Path) -> None:
    from reconciler.snapshots.take import _remove

    secret = folder.parent / "secret"
    secret.write_text("kept")
    (folder / "b.json").symlink_to(secret)
    hostile.as_owner(folder, OWNER, lambda fd: _remove(fd, "b"))
    assert secret.read_text() == "kept"
    assert not (folder / "b.json").is_symlink()


@pytest.mark.parametrize("text", [b"", b"zstd", b"\x00" * 100])
@needs_root
def test_names_are_kept_inside(folder: Path, text: bytes) -> None:
    (folder.parent / "b.tar.zst").write_bytes(text)
    (folder.parent / "b.json").write_text(describe(replace(GOOD, packed=len(text))))

    def work(descriptor: int) -> bool:
        return snapshots.read(descriptor, "../b") is None

    assert hostile.as_owner(folder, OWNER, work)
