"""Programs of a template, run in a system made of it; needs root, to become the system's root."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.archives.id_map import run_inside
from reconciler.mounts.tree import Tree
from state.errors import LxcGpuError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes id maps")
FIRST, SIZE = 2_001_000_000, 262_144
SHELL = "/bin/sh"


@pytest.fixture(params=[True, False], ids=["raw", "shifted"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """A system with a shell."""
    for folder in (*tmp_path.parents[:-2], tmp_path):
        folder.chmod(0o711)
    tree = Tree(tmp_path / "rootfs", FIRST, SIZE)
    tree.make(raw=request.param)
    needs = subprocess.run(["ldd", SHELL], check=True, capture_output=True, text=True).stdout
    for path in (SHELL, *re.findall(r"(/\S+) \(", needs)):
        place = tree.top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tree


def test_it_is_the_system_s_root_and_sees_nothing_else(system: Tree) -> None:
    says = "umask >/made; test ! -e /proc && cd .. && : >here"
    run_inside(system, [SHELL, "-c", says])
    owner = 0 if system.raw else FIRST
    for name in ("made", "here"):
        there = (system.top / name).stat()
        assert (there.st_uid, there.st_gid, there.st_mode & 0o777) == (owner, owner, 0o644)
    assert (system.top / "made").read_text() == "0022\n"


def test_what_it_says_last_is_the_error(system: Tree) -> None:
    with pytest.raises(LxcGpuError, match="failed with status 3: no such group") as failed:
        run_inside(system, [SHELL, "-c", "echo no such group >&2; exit 3"])
    assert failed.value.code == "command-failed"


def test_a_program_that_is_not_there_is_an_error(system: Tree) -> None:
    with pytest.raises(LxcGpuError, match="useradd"):
        run_inside(system, ["/usr/sbin/useradd"])
