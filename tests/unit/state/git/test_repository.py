"""The clone of the state repository: fetched, read, and refused what it can't be."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from state.command import run
from state.edits.users import add_key
from state.errors import LxcGpuError
from state.git.commits import Author
from state.git.plumbing import RemoteError
from state.git.publish import publish
from state.git.repository import Repository
from state.reading.problems import StateInvalidError
from tests.patience import HANGS, eventually
from tests.unit.state.git.repositories import ANN, git, save
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files


def test_a_clone_reads_what_was_pushed(clone: Repository, work: Path) -> None:
    assert clone.tip() == git(work, "rev-parse", "HEAD")
    state = clone.read(clone.tip())
    assert list(state.users) == ["ann", "lqchen"]
    assert clone.tree_id(clone.tip()) == git(work, "rev-parse", "HEAD^{tree}")
    assert not (clone.path / "hooks").exists()


def test_fetch_brings_what_is_new(clone: Repository, work: Path) -> None:
    old = clone.tip()
    new = save(work, {"users/eve.yaml": files()["former/bob.yaml"]}, "oops")
    assert clone.tip() == old
    assert clone.fetch() == new == clone.tip()
    assert clone.is_ancestor(old, new)
    assert not clone.is_ancestor(new, old)
    assert clone.read(old)
    with pytest.raises(StateInvalidError, match=r"former/bob\.yaml:4: uid 20002 is also that of"):
        clone.read(new)


def test_history(clone: Repository, work: Path) -> None:
    publish(clone, add_key("ann", ed25519("n", "x")), Author("Ann <Ünïcode>\n", "a@b"))
    whole = clone.history()
    assert [commit.subject.split(":")[0] for commit in whole] == ["ann", "by hand"]
    assert (whole[0].name, whole[0].email) == ("Ann Ünïcode", "a@b")
    assert whole[0].revision.startswith(whole[0].short)
    assert abs(whole[0].when.timestamp() - time.time()) < 100
    assert len(clone.history("users/ann.yaml")) == 2
    assert len(clone.history("users/lqchen.yaml", "former/lqchen.yaml")) == 1
    assert clone.history("users/*.yaml") == ()
    assert clone.history("--output=/tmp/pwned") == ()
    assert len(clone.history(limit=1)) == 1


@pytest.mark.parametrize(
    "revision", ["--help", "-x", "", "a b", "main..HEAD", "x\n", "@{upstream}", ":users/ann.yaml"]
)
def test_a_revision_is_no_option(clone: Repository, revision: str) -> None:
    with pytest.raises(LxcGpuError, match="isn't a revision"):
        clone.read(revision)


def test_an_unknown_revision_is_said(clone: Repository) -> None:
    with pytest.raises(LxcGpuError, match="There is no revision"):
        clone.read("0" * 40)
    with pytest.raises(LxcGpuError, match="failed"):
        clone.is_ancestor("0" * 40, "main")


@pytest.mark.parametrize(
    "url", ["", "--upload-pack=x", "ext::sh -c x", "relative", "http://x/y", "a\nb:c", "fd::1"]
)
def test_an_address_is_no_command(tmp_path: Path, url: str) -> None:
    with pytest.raises(LxcGpuError, match="isn't the address"):
        Repository.clone(url, tmp_path / "c")
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(
    ("url", "script", "code"),
    [
        ("ssh://h/x", "echo 'ssh: connect to host h port 22: Connection refused' >&2", "unreach"),
        ("git@h:x", "echo 'git@h: Permission denied (publickey).' >&2", "denied"),
        ("ssh://h/x", "echo 'Host key verification failed.' >&2", "host-key"),
    ],
)
def test_a_remote_that_is_down_is_an_error_in_words(
    tmp_path: Path, url: str, script: str, code: str
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\n{script}\nexit 255\n")
    ssh.chmod(0o755)
    with pytest.raises(RemoteError) as caught:
        Repository.clone(url, tmp_path / "c", ssh_command=str(ssh))
    assert caught.value.code.startswith(f"state-{code}")
    assert not (tmp_path / "c").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.flock", "ssh"]


def test_a_silent_remote_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 200\n")
    ssh.chmod(0o755)
    monkeypatch.setattr("state.git.repository.REMOTE_LIMIT", 0.3)
    began = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        Repository.clone("ssh://h/x", tmp_path / "c", ssh_command=str(ssh))
    assert caught.value.code == "state-unreachable"
    assert time.monotonic() - began < HANGS


def test_a_remote_that_is_not_there(tmp_path: Path, clone: Repository, remote: Path) -> None:
    remote.rename(tmp_path / "elsewhere")
    with pytest.raises(RemoteError) as caught:
        clone.fetch()
    assert caught.value.code == "state-missing"
    assert clone.read(clone.tip())


def test_a_remote_that_lost_its_main(clone: Repository, remote: Path) -> None:
    before = clone.tip()
    run(["git", "-C", remote, "update-ref", "-d", "refs/heads/main"])
    with pytest.raises(LxcGpuError, match="no branch `main` any more"):
        clone.fetch()
    assert clone.tip() == before


def test_no_clone_is_said(tmp_path: Path) -> None:
    with pytest.raises(LxcGpuError, match="isn't a Git repository"):
        Repository(tmp_path / "nowhere").tip()
    with pytest.raises(LxcGpuError, match="isn't a Git repository"):
        Repository(tmp_path / "nowhere").fetch()


def test_cloning_again_goes_on_with_what_is_there(
    tmp_path: Path, clone: Repository, remote: Path
) -> None:
    leftover = tmp_path / ".clone.git.clone-dead"
    leftover.mkdir()
    again = Repository.clone(str(remote), clone.path)
    assert again.tip() == clone.tip()
    clone.path.rename(tmp_path / "moved")
    assert Repository.clone(str(remote), clone.path).read("main").users
    assert not leftover.exists()


def test_those_who_make_a_clone_at_once_leave_each_other_alone(
    tmp_path: Path, remote: Path
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nsleep 0.5\nexec git-upload-pack {remote}\n")
    ssh.chmod(0o755)
    leftover = tmp_path / ".c.clone-dead"
    leftover.mkdir()
    failed: list[BaseException] = []

    def make() -> None:
        try:
            assert Repository.clone("ssh://h/x", tmp_path / "c", str(ssh)).read("main").users
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert failed == []
    assert not leftover.exists()


def test_errors_have_lines_though_the_files_were_parsed_before(
    clone: Repository, work: Path
) -> None:
    clone.read("main")
    moved = files()["former/bob.yaml"].replace(b"22002", b"22001")
    save(work, {"former/bob.yaml": moved})
    clone.fetch()
    for repository in (clone, Repository(clone.path)):
        with pytest.raises(StateInvalidError) as caught:
            repository.read("main")
        assert [str(problem) for problem in caught.value.problems] == [
            "former/bob.yaml:5: port 22001 is also that of users/lqchen.yaml"
        ]


def test_links_submodules_and_huge_files_are_problems(clone: Repository, work: Path) -> None:
    (work / "users" / "link.yaml").symlink_to("/etc/passwd")
    (work / "users" / "huge.yaml").write_bytes(b"#" * 5_000_000)
    (work / "users" / "wr\nong.yaml").write_bytes(b"")
    (work / "README-link").symlink_to("/etc/passwd")
    commit = git(work, "rev-parse", "HEAD")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},servers/sub.yaml")
    save_index = ["commit", "-qm", "bad"]
    git(work, "add", "users", "README-link")
    git(work, *save_index)
    git(work, "push", "-q", "origin", "main")
    clone.fetch()
    with pytest.raises(StateInvalidError) as caught:
        clone.read("main")
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == 4
    assert "servers/sub.yaml: must be a plain file, no link or submodule" in found
    assert "users/link.yaml: must be a plain file, no link or submodule" in found
    assert "users/huge.yaml: the file is larger than 64 KiB" in found
    assert any("wr�ong" in each for each in found)


def test_a_folder_that_is_a_file_is_a_problem(clone: Repository, work: Path) -> None:
    git(work, "rm", "-rq", "former")
    save(work, {"former": b"x"})
    clone.fetch()
    with pytest.raises(StateInvalidError, match="former: must be a folder"):
        clone.read("main")


def test_configuration_in_the_clone_starts_nothing(
    clone: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    (clone.path / "hooks").mkdir()
    for hook in ("reference-transaction", "pre-push", "post-index-change"):
        (clone.path / "hooks" / hook).symlink_to(script)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\n\tfsmonitor = {script}\n\thooksPath = {tmp_path}\n[url "ext::{script}"]\n'
        f"\tinsteadOf = {tmp_path}\n[commit]\n\tgpgSign = true\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    clone.fetch()
    publish(clone, add_key("ann", ed25519("n")), ANN)
    assert not trap.exists()


def test_what_is_up_to_date_is_fetched_by_one_program_and_read_by_one(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clone-again.git"
    Repository.clone(str(remote), path)
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    Repository.clone(str(remote), path).tip()
    begun = re.findall(r"trace: built-in: git (\S+)", trace.read_text())
    assert [name for name in begun if name in ("fetch", "rev-parse", "config", "version")] == [
        "fetch", "rev-parse"]  # fmt: skip


def test_what_is_up_to_date_is_found_so_without_gitpython(remote: Path, tmp_path: Path) -> None:
    path = tmp_path / "clone-again.git"
    Repository.clone(str(remote), path)
    looks = f"""
import sys; from pathlib import Path; from state.git.repository import Repository
Repository.clone({str(remote)!r}, Path({str(path)!r})).tip(); print("git" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_a_fetch_started_ends_with_it(
    clone: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, ssh = tmp_path / "pid", tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ >{said}\nexec sleep 60\n")
    ssh.chmod(0o755)
    clone.git.run("config", "remote.origin.url", "ssh://nowhere.invalid/state.git")
    monkeypatch.setattr("state.git.repository.REMOTE_LIMIT", 2)
    with pytest.raises(RemoteError, match="can't be reached"):
        Repository(clone.path, str(ssh)).fetch()
    program = Path(f"/proc/{int(said.read_text())}/cmdline")
    eventually(lambda: not program.exists() or not program.read_text())  # gone, or a zombie


def test_a_clone_follows_its_remote_to_another_address(remote: Path, tmp_path: Path) -> None:
    path, moved = tmp_path / "clone-again.git", tmp_path / "moved.git"
    Repository.clone(str(remote), path)
    remote.rename(moved)
    assert Repository.clone(str(moved), path).tip()
