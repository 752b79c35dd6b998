"""Programs of a template, run in a system made of it; needs root, to become the system's root."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.archives import id_map
from reconciler.archives.id_map import begun_at, run_inside
from reconciler.mounts.tree import Tree
from state.errors import LxcGpuError
from tests.patience import HANGS, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes id maps")
FIRST, SIZE = 2_001_000_000, 262_144
SHELL, SLEEP = "/bin/sh", "/bin/sleep"


@pytest.fixture(params=[True, False], ids=["raw", "shifted"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """A system with a shell and sleep(1)."""
    for folder in (*tmp_path.parents[:-2], tmp_path):
        folder.chmod(0o711)
    tree = Tree(tmp_path / "rootfs", FIRST, SIZE)
    tree.make(raw=request.param)
    needs = subprocess.run(["ldd", SHELL, SLEEP], check=True, capture_output=True, text=True).stdout
    for path in (SHELL, SLEEP, *re.findall(r"(/\S+) \(", needs)):
        place = tree.top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (tree.top / "dev").mkdir()
    (tree.top / "dev/null").touch()  # what a shell starts with `&` reads from there
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


@pytest.mark.parametrize("in_time", [True, False])
def test_what_it_started_ends_with_it(
    system: Tree, in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_map, "PATIENCE", 1.0)
    begins = f"{SLEEP} 600 & echo $! >/left"
    if in_time:
        run_inside(system, [SHELL, "-c", begins])
    else:
        with pytest.raises(LxcGpuError, match="did not end within 1 s") as late:
            run_inside(system, [SHELL, "-c", f"{begins}; {SLEEP} 600"])
        assert late.value.code == "command-timeout"
    left = int((system.top / "left").read_text())
    eventually(lambda: not Path(f"/proc/{left}/exe").exists())


def test_a_program_may_say_more_than_a_pipe_holds(
    system: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_map, "PATIENCE", 20.0)
    says = f"i=0; while [ $i -lt 2000 ]; do echo {'x' * 60}; i=$((i+1)); done; echo last; exit 3"
    with pytest.raises(LxcGpuError, match="failed with status 3: last"):
        run_inside(system, [SHELL, "-c", says])


def test_a_program_of_the_server_s_works_in_the_folder_as_its_root(system: Tree) -> None:
    says = "id -u; ls -dn . | cut -d' ' -f3; cat /proc/self/uid_map; echo wrong >&2; exit 3"
    ended = begun_at(system, ["sh", "-c", says]).wait(HANGS)
    assert ended.status == 3
    assert ended.said.split() == ["0", "0", "0", str(FIRST), str(SIZE)]
