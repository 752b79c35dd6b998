"""Clones that a power cut or a kill damaged, and leftovers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from state.edits.users import add_key
from state.git.commits import Committed
from state.git.healing import healing
from state.git.plumbing import GitError, RemoteError
from state.git.publish import publish
from state.git.repository import Repository
from tests.unit.state.git.repositories import ANN, git, save
from tests.unit.state.keyring import ed25519


def emptied(path: Path) -> None:
    """After a power cut, the file system has the file, but not its content."""
    for file in (each for each in path.rglob("*") if each.is_file()):
        file.chmod(0o644)
        file.write_bytes(b"")


@pytest.mark.parametrize("lost", ["objects", "refs", "HEAD", "config", "objects/pack", "gone"])
def test_a_damaged_clone_is_made_again(clone: Repository, remote: Path, lost: str) -> None:
    def name(word: str) -> Committed:
        edit = add_key("ann", ed25519(word))
        return healing(str(remote), clone.path, lambda: publish(clone, edit, ANN), tell=told.append)

    told: list[Exception] = []
    assert name("before").changed
    git(clone.path, "gc", "-q")
    if lost == "gone":
        shutil.rmtree(clone.path / "objects")
    elif (clone.path / lost).is_dir():
        emptied(clone.path / lost)
    else:
        (clone.path / lost).write_bytes(b"")
    assert name("after").changed
    assert len(told) == (lost != "refs")  # packed refs stand in a file beside
    assert Repository(clone.path).whole()
    assert [path.name for path in clone.path.parent.glob(".clone.git.*")] == [".clone.git.flock"]
    assert clone.git.run("fsck") == b""


def test_damage_is_not_taken_for_a_remote_that_is_down(
    clone: Repository, remote: Path, tmp_path: Path
) -> None:
    """The other side is cut off by it, and complains; ids may hold any number."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        f"git-upload-pack {remote}\n"
        "echo 'fatal: the remote end hung up unexpectedly: 403' >&2\n"
    )
    ssh.chmod(0o755)
    through = Repository(clone.path, str(ssh))
    git(clone.path, "config", "remote.origin.url", "ssh://h/x")
    emptied(clone.path / "objects")
    with pytest.raises(GitError) as caught:
        through.fetch()
    assert not isinstance(caught.value, RemoteError)
    healing("ssh://h/x", clone.path, through.fetch, str(ssh))
    assert through.whole()


def test_one_lost_object_is_noticed_when_it_is_needed(clone: Repository, remote: Path) -> None:
    blob = git(clone.path, "rev-parse", "main:users/ann.yaml")
    pack = next((clone.path / "objects/pack").glob("*.pack"), None)
    if pack is not None:
        moved = pack.rename(clone.path / "all.pack")
        pack.with_suffix(".idx").unlink()
        clone.git.run("unpack-objects", "-q", stdin=moved.read_bytes())
    clone.read("main")  # from now on, known without the object
    (clone.path / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitError, match="damaged"):
        publish(clone, add_key("ann", ed25519("n")), ANN)
    edit = add_key("ann", ed25519("n"))
    assert healing(str(remote), clone.path, lambda: publish(clone, edit, ANN)).changed


def test_trouble_that_is_not_the_clones_leaves_it_alone(clone: Repository, remote: Path) -> None:
    before = clone.path.stat().st_ino
    remote.rename(remote.with_name("elsewhere"))
    edit = add_key("ann", ed25519("n"))
    with pytest.raises(RemoteError):
        healing(str(remote), clone.path, lambda: publish(clone, edit, ANN))
    emptied(clone.path / "objects")
    with pytest.raises(GitError):
        healing(str(remote), clone.path, lambda: publish(clone, edit, ANN))
    assert clone.path.stat().st_ino == before  # a fresh one could not be made: it is all there is


def test_leftovers_of_a_kill_are_no_obstacle(clone: Repository, work: Path) -> None:
    for name in ("packed-refs.lock", "refs/heads/main.lock", "config.lock", "HEAD.lock"):
        (clone.path / name).write_text("")
    new = save(work, {"README.md": b"new"})
    assert Repository(clone.path).fetch() == new
    assert publish(Repository(clone.path), add_key("ann", ed25519("n")), ANN).changed


def test_a_kill_in_the_middle_is_healed(tmp_path: Path, remote: Path) -> None:
    """Kill programs that commit, wherever they happen to be; the next commit must do."""
    script = (
        "import sys; from pathlib import Path; from state.git.repository import Repository\n"
        "from state.git.commits import Author; from state.edits.users import rename_person\n"
        "from state.git.publish import publish\n"
        "r = Repository(Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "for n in range(1000): publish(r, rename_person('ann', f'Ann {n}'), Author('a', 'a@b'))\n"
    )
    clone = Repository.clone(str(remote), tmp_path / "c")
    for delay in (0.0, 0.05, 0.11):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(clone.path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(delay)
            child.kill()
        assert publish(Repository(clone.path), add_key("ann", ed25519(delay)), ANN).changed
    clone.fetch()
    assert len(clone.read("main").users["ann"].keys) == 4
