"""What Git keeps, against whoever wrote it, and against a disk that lost some of it."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from state.command import run, started
from state.errors import LxcGpuError
from state.git.history import entries
from state.git.plumbing import GitError, Plumbing
from state.git.repository import Repository
from state.reading.problems import StateInvalidError
from state.trust.lineage import PLAIN_MODES, differences, first_parents
from tests.patience import eventually
from tests.unit.state.state_files import files

HEADERS = "author a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n"
EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.fixture
def remote(tmp_path: Path) -> Repository:
    path = tmp_path / "remote.git"
    run(["git", "init", "-q", "--bare", "--initial-branch=main", path])
    return Repository(path)


def stored(git: Plumbing, kind: str, content: bytes) -> str:
    """An object as somebody made it who didn't use Git."""
    return git.word("hash-object", "-w", "--literally", "-t", kind, "--stdin", stdin=content)


def tree(git: Plumbing, *entries: tuple[str, bytes, str]) -> str:
    lines = (b"%s %s\0%s" % (m.encode(), name, bytes.fromhex(what)) for m, name, what in entries)
    return stored(git, "tree", b"".join(lines))


def commit(repository: Repository, tree: str) -> str:
    """Make that the tip of main."""
    made = stored(repository.git, "commit", f"tree {tree}\n{HEADERS}".encode())
    (repository.path / "refs/heads/main").write_text(f"{made}\n")
    return made


def odd_trees(git: Plumbing) -> dict[str, tuple[str, str]]:
    """Trees by what is odd there, each with what is said of it; nothing if no fetch takes it."""
    blob, below = stored(git, "blob", b"x: 1\n"), "users"
    plain = ("100644", b"a.yaml", blob)
    users = tree(git, plain)
    deep = users
    for _ in range(100):
        deep = tree(git, ("40000", b"d", deep))

    def named(name: bytes) -> str:
        return tree(git, ("40000", b"users", tree(git, ("100644", name, blob))))

    def fleet(mode: str, what: str) -> str:
        return tree(git, (mode, b"fleet.yaml", what))

    return {
        "a line's end": (named(b"a\nb.yaml"), f"{below}/a"),
        "a quote": (named(b'a"b\t.yaml'), f'{below}/a"b'),
        "no UTF-8": (named(b"\xff\xfe.yaml"), f"{below}/"),
        "deep": (tree(git, ("40000", b"users", deep)), f"{below}/d/d"),
        "a mode of nothing": (fleet("170000", blob), "must be a plain file"),
        "mode 1": (fleet("1", blob), "must be a plain file"),
        "a link": (fleet("120000", blob), "must be a plain file"),
        "a submodule": (fleet("160000", "1" * 40), "must be a plain file"),
        "an old mode": (fleet("100664", blob), "unknown field `x`"),
        "..": (named(b".."), ""),
        ".git": (named(b".git"), ""),
        "two names in one": (tree(git, ("100644", b"users/a.yaml", blob)), ""),
        "no name": (tree(git, ("100644", b"", blob)), ""),
        "twice": (tree(git, plain, ("100644", b"a.yaml", users)), ""),
        "a tree for a file": (fleet("100644", users), ""),
        "a file for a tree": (tree(git, ("40000", b"users", blob)), ""),
        "nothing there": (fleet("100644", "1" * 40), ""),
    }


def test_trees_that_no_git_would_write_are_refused_or_said(
    remote: Repository, tmp_path: Path
) -> None:
    for name, (made, said) in odd_trees(remote.git).items():
        tip = commit(remote, made)
        path = tmp_path / f"{name}.git"
        if not said:
            with pytest.raises(GitError, match="fetch"):
                Repository.clone(f"file://{remote.path}", path)
            continue
        clone = Repository.clone(f"file://{remote.path}", path)
        with pytest.raises(StateInvalidError) as caught:
            clone.read(tip)
        assert said in str(caught.value), name
        blobs, problems = clone.trees.blobs(made)
        (changed,) = differences(clone.git, [(EMPTY, made)])
        assert blobs == {e.path: e.blob for e in changed if e.mode in PLAIN_MODES and not problems}


def emptied(content: bytes, chance: random.Random) -> bytes:
    return content[:0]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def zeroed(content: bytes, chance: random.Random) -> bytes:
    kept = cut(content, chance)
    return kept + bytes(len(content) - len(kept))


def flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


@pytest.fixture
def both(remote: Repository, tmp_path: Path) -> tuple[Path, Path]:
    """A repository with three revisions, its objects in files of their own, and in one pack."""
    work, packed = tmp_path / "work", tmp_path / "packed.git"
    run(["git", "clone", "-q", remote.path, work])
    author = ["-c", "user.name=a", "-c", "user.email=a@x"]
    for number in range(3):
        for path, content in files().items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(content + b"# %d\n" % number)
        run(["git", "-C", work, "add", "-A"])
        run(["git", "-C", work, *author, "commit", "-qm", "x"])
    run(["git", "-C", work, "push", "-q", "origin", "main"])
    shutil.copytree(remote.path, packed)
    run(["git", "-C", packed, "gc", "-q"])
    return remote.path, packed


@pytest.mark.parametrize("damage", [emptied, cut, zeroed, flipped])
def test_what_a_disk_lost_is_never_read_as_something_else(
    damage: Callable[[bytes, random.Random], bytes], both: tuple[Path, Path], tmp_path: Path
) -> None:
    chance, remote = random.Random(damage.__name__), Repository(both[0])
    tip = remote.tip()
    whole = remote.read(tip), first_parents(remote.git, tip), entries(remote)
    for number in range(6):
        broken = tmp_path / f"broken-{number}.git"
        shutil.copytree(both[number % 2], broken)
        there = (p for p in broken.rglob("*") if p.is_file() and p.stat().st_size)
        lost = chance.choice(sorted(p for p in there if "hooks" not in p.parts))
        lost.chmod(0o644)
        lost.write_bytes(damage(lost.read_bytes(), chance))
        clone = Repository(broken)
        try:
            found = clone.read(tip), first_parents(clone.git, tip), entries(clone)
        except LxcGpuError:
            continue
        assert found == whole, lost


def test_what_is_left_of_a_commit_graph_is_not_believed(both: tuple[Path, Path]) -> None:
    """Git doesn't look at its digest, and would find other parents there (git-commit-graph(1))."""
    clone = Repository(both[1])
    graph, tip = clone.path / "objects/info/commit-graph", clone.tip()
    whole = first_parents(clone.git, tip)
    content = graph.read_bytes()
    graph.chmod(0o644)
    for kept in range(100, len(content), 200):
        graph.write_bytes(content[:kept] + bytes(len(content) - kept))
        assert first_parents(clone.git, tip) == whole


def test_what_a_sysadmin_likes_to_see_of_a_log_is_not_read_as_commits(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    """/etc/gitconfig counts: proxies stand there."""
    clone, key = Repository(both[0]), tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    signs = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}.pub"]
    author = ["-c", "user.name=a", "-c", "user.email=a@x"]
    work = tmp_path / "work"
    run(["git", "-C", work, *author, *signs, "commit", "-qS", "--allow-empty", "-m", "signed"])
    run(["git", "-C", work, "push", "-q", "origin", "main"])
    for setting in ("log.showSignature", "log.showRoot", "log.follow", "color.ui", "log.decorate"):
        run(["git", "-C", clone.path, "config", setting, "true"])
    newest, *_ = entries(clone)
    assert newest.commit.revision == clone.tip()


def test_a_blob_that_went_while_it_was_asked_for_is_said_to_be_lost(
    remote: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may make a damaged clone anew between two calls of Git."""
    blob = stored(remote.git, "blob", b"x: 1\n")
    place = remote.path / "objects" / blob[:2] / blob[2:]
    own = tmp_path / "bin" / "git"
    own.parent.mkdir()
    lines = f'case "$*" in *--batch) rm -f {place};; esac\nexec /usr/bin/git "$@"\n'
    own.write_text(f"#!/bin/sh\n{lines}")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:{os.environ['PATH']}")
    with pytest.raises(GitError, match="damaged"):
        remote.trees.content(blob)


def test_what_a_program_left_running_ends_with_its_family(tmp_path: Path) -> None:
    """Git may be killed, and the ssh that it started go on."""
    leaves = ["sh", "-c", "sleep 600 & echo $!"]
    with started(leaves, family=True) as child:
        assert child.stdout is not None
        left = int(child.stdout.readline())
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        os.kill(left, 0)
    status = Path(f"/proc/{left}/cmdline")
    eventually(lambda: not status.exists() or not status.read_bytes())  # gone, or a zombie
    assert child.returncode != -signal.SIGKILL, "it had ended by itself"
