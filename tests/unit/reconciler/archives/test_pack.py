"""Packing with the real tar and zstd, where what reads or stores the archive fails."""

import os
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE

import pytest

from reconciler.archives.pack import _Flow, pack
from reconciler.children.hostile import HostileError, Json, as_owner_at_length
from reconciler.plan import Tell
from state import command
from tests.threads import none_to_be_had

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")
OWNER = 20_031


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A system so small that tar ends, and is waited for, before zstd gives its first byte."""
    for folder in (*tmp_path.parents[:-2], tmp_path):  # not / and /tmp
        folder.chmod(0o755)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    return tree


def _packed_into(sink: int, tree: Path) -> Json:
    def work(_: int, tell: Tell) -> Json:
        return asdict(pack(tree, list, sink, tell))

    return as_owner_at_length(tree, OWNER, work, lambda _: None, [sink])


def test_a_reader_that_has_gone_is_said_even_if_tar_ended_before(tree: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb"), pytest.raises(HostileError) as caught:
        _packed_into(writer, tree)
    assert caught.value.code == "reader-gone"


def test_a_full_disk_is_said_even_if_tar_ended_before(tree: Path) -> None:
    with Path("/dev/full").open("wb") as full, pytest.raises(HostileError) as caught:
        _packed_into(full.fileno(), tree)
    assert caught.value.code == "snapshot-disk-full"


def test_zstd_ends_if_what_feeds_it_can_not_begin(tree: Path) -> None:
    tar = ["tar", "--create", "--file=-", f"--directory={tree}", "."]
    with (
        command.started(tar) as packing,
        command.started(["zstd", "--stdout"], stdin=PIPE) as squeezing,
    ):
        with none_to_be_had(), pytest.raises(RuntimeError):
            _Flow(packing, squeezing).run()
        assert squeezing.wait(30) != 0
