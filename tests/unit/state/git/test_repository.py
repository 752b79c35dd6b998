"""The repository: real Git, real races, real leftovers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from state.command import run
from state.edits.edit import Edit
from state.edits.users import add_key, disable, save_keys, set_keys
from state.errors import LxcGpuError
from state.git.commits import Author, Committed
from state.git.healing import healing
from state.git.plumbing import GitError, RemoteError
from state.git.publish import Base, RefusedError, UnansweredError, publish
from state.git.repository import Repository
from state.model.documents import State
from state.reading.problems import StateInvalidError
from tests.patience import HANGS, eventually
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files

ANN = Author("Ann Example", "ann@example.org")


def git(folder: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME",)}
    identity |= {"GIT_AUTHOR_EMAIL": "t@x", "GIT_COMMITTER_EMAIL": "t@x"}
    return run(["git", "-C", folder, *words], env=identity).stdout.strip()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote, a sysadmin's clone with the fleet pushed, and our clone, made once."""
    base = tmp_path_factory.mktemp("made")
    remote, work = base / "remote.git", base / "work"
    run(["git", "init", "-q", "--bare", "--initial-branch=main", remote])
    run(["git", "init", "-q", "--initial-branch=main", work])
    git(work, "remote", "add", "origin", str(remote))
    save(work, files())
    Repository.clone(str(remote), base / "clone.git")
    return base


def copied(made: Path, name: str, tmp_path: Path) -> Path:
    """A copy of one of the repositories in `made`, with the remote of this test."""
    path = tmp_path / name
    shutil.copytree(made / name, path, symlinks=True)
    for config in (path / "config", path / ".git" / "config"):
        if config.is_file():
            config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.git"
    run(["git", "init", "-q", "--bare", "--initial-branch=main", path])
    return path


@pytest.fixture
def remote(tmp_path: Path, made: Path) -> Path:
    return copied(made, "remote.git", tmp_path)


@pytest.fixture
def work(tmp_path: Path, made: Path, remote: Path) -> Path:
    return copied(made, "work", tmp_path)


@pytest.fixture
def clone(tmp_path: Path, made: Path, remote: Path) -> Repository:
    return Repository(copied(made, "clone.git", tmp_path))


def save(work: Path, changed: dict[str, bytes], message: str = "by hand") -> str:
    for path, content in changed.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content)
    git(work, "add", "-A")
    git(work, "commit", "-qm", message)
    git(work, "push", "-q", "origin", "main")
    return git(work, "rev-parse", "HEAD")


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


def test_a_commit_says_who_and_what(clone: Repository, work: Path) -> None:
    key = ed25519("new", "laptop")
    done = publish(clone, add_key("ann", key), ANN)
    assert done.changed
    assert done.revision == clone.tip()
    assert key in done.state.users["ann"].keys
    git(work, "pull", "-q", "origin", "main")
    assert git(work, "rev-parse", "HEAD") == done.revision
    assert git(work, "log", "-1", "--format=%an <%ae> %cn %P") == (
        f"Ann Example <ann@example.org> lxc-gpu {git(work, 'rev-parse', 'HEAD^')}"
    )
    assert git(work, "log", "-1", "--format=%B") == f"ann: add SSH key {key.fingerprint} (laptop)"
    assert git(work, "diff", "--stat=200", "HEAD^", "HEAD").splitlines()[-1].strip() == (
        "1 file changed, 1 insertion(+)"
    )


def test_nothing_to_commit(clone: Repository) -> None:
    before = clone.tip()
    keys = clone.read(before).users["ann"].keys
    done = publish(clone, set_keys("ann", keys), ANN)
    assert (done.changed, done.revision) == (False, before)
    assert clone.tip() == before


def test_leaving_moves_the_file_and_its_text(clone: Repository, work: Path) -> None:
    publish(clone, disable("ann"), ANN)
    git(work, "pull", "-q", "origin", "main")
    assert git(work, "show", "--format=", "--name-status", "-M", "HEAD") == (
        "R100\tusers/ann.yaml\tformer/ann.yaml"
    )


def test_the_very_first_commit(tmp_path: Path, empty: Path) -> None:
    clone = Repository.clone(str(empty), tmp_path / "c")
    with pytest.raises(LxcGpuError, match="empty"):
        clone.tip()
    assert clone.history() == ()
    done = publish(clone, save_keys("Ann", "Ann E", "id-1", [ed25519(1)]), ANN)
    assert done.changed
    assert (done.state.users["ann"].uid, done.state.users["ann"].port) == (20000, 22000)
    assert clone.read(clone.tip()) == done.state
    assert len(clone.history()) == 1


def test_the_loser_of_a_race_applies_again(tmp_path: Path, remote: Path) -> None:
    one = Repository.clone(str(remote), tmp_path / "one")
    two = Repository.clone(str(remote), tmp_path / "two")
    edit = save_keys("eve", "Eve", None, [ed25519("eve")])
    calls: list[State] = []

    def late(state: State) -> State:
        if not calls:
            publish(two, save_keys("zoe", "Zoe", None, [ed25519("zoe")]), ANN)
        calls.append(state)
        return edit.apply(state)

    done = publish(one, Edit(late), ANN)
    assert len(calls) == 2
    users = done.state.users
    assert users["zoe"].uid == 20003
    assert users["eve"].uid == 20004
    assert one.is_ancestor(two.tip(), one.tip())
    assert one.read(one.tip()).users == users


def test_who_has_read_the_newest_state_pushes_without_a_fetch(
    clone: Repository, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base(clone.tip(), clone.read(clone.tip()))
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    done = publish(clone, add_key("ann", ed25519("new")), ANN, base=base)
    monkeypatch.delenv("GIT_TRACE")
    begun = re.findall(r"trace: built-in: git (\S+)", trace.read_text())
    assert [name for name in begun if name in ("fetch", "push")] == ["push"]
    assert done.revision == clone.tip() == git(remote, "rev-parse", "main")
    assert clone.read(done.revision) == done.state


def test_what_was_the_newest_state_is_not_taken_for_it(
    clone: Repository, remote: Path, tmp_path: Path
) -> None:
    begun = clone.tip()
    base = Base(begun, clone.read(begun))
    keys = base.state.users["ann"].keys
    other = Repository.clone(str(remote), tmp_path / "other")
    newer = publish(other, add_key("ann", ed25519("newer")), ANN)
    done = publish(clone, add_key("ann", ed25519("new")), ANN, base=base)
    assert done.state.users["ann"].keys == (*keys, ed25519("newer"), ed25519("new"))
    assert clone.is_ancestor(newer.revision, done.revision)
    done = publish(clone, set_keys("ann", keys), ANN, base=base)  # nothing to do, at `base`
    assert done.changed
    publish(other, disable("ann"), ANN)
    with pytest.raises(LxcGpuError, match="ann"):
        publish(clone, set_keys("ann", keys), ANN, base=base)
    git(remote, "update-ref", "refs/heads/main", begun)  # as a backup that was put back
    late = Base(newer.revision, newer.state)
    done = publish(clone, add_key("ann", ed25519("new")), ANN, base=late)
    assert done.state.users["ann"].keys == (*keys, ed25519("new"))


def test_many_at_once_never_share_a_number(tmp_path: Path, remote: Path) -> None:
    clones = [Repository.clone(str(remote), tmp_path / f"c{n}") for n in range(2)]
    failed: list[BaseException] = []

    def save_some(clone: Repository, who: int) -> None:
        try:
            for n in range(4):
                name = f"u{who}x{n}"
                publish(clone, save_keys(name, name, None, [ed25519(name)]), ANN)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=save_some, args=(clone, 2 * at + twin))
        for at, clone in enumerate(clones)
        for twin in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    clones[0].fetch()
    users = clones[0].read(clones[0].tip()).users
    assert len(users) == 2 + 16
    assert len({user.uid for user in users.values()}) == 18
    assert len(clones[0].history(limit=100)) == 17
    run(["git", "-C", remote, "fsck", "--strict"])


def test_a_signed_commit_verifies(tmp_path: Path, clone: Repository, remote: Path) -> None:
    key = tmp_path / "signer"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    allowed = tmp_path / "allowed"
    allowed.write_text(f"* {key.with_suffix('.pub').read_text()}")
    done = publish(clone, add_key("ann", ed25519("n")), ANN, key)
    verify = ["-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", done.revision]
    assert run(["git", "-C", remote, *verify]).ok
    before = clone.tip()
    with pytest.raises(LxcGpuError, match="could not be signed"):
        publish(clone, add_key("ann", ed25519("m")), ANN, tmp_path / "missing")
    assert clone.tip() == before


def test_what_breaks_the_rules_is_not_committed(clone: Repository) -> None:
    def clash(state: State) -> State:
        port = state.users["lqchen"].port
        ann = state.users["ann"].model_copy(update={"port": port})
        return type(state)(**{**vars(state), "users": {**state.users, "ann": ann}})

    before = clone.tip()
    with pytest.raises(StateInvalidError, match=r"users/lqchen\.yaml:5: port 22001 is also"):
        publish(clone, Edit(clash), ANN)
    assert clone.fetch() == before


def test_the_hooks_words_are_passed_on(clone: Repository, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    before = clone.tip()
    with pytest.raises(RefusedError, match="not on a Friday") as caught:
        publish(clone, add_key("ann", ed25519("n")), ANN)
    assert caught.value.code == "state-refused"
    assert clone.tip() == before


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


def emptied(path: Path) -> None:
    """As after a power cut, when the file system never saw the content."""
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


def test_a_commit_waits_for_another_of_the_same_clone(clone: Repository) -> None:
    with clone.alone():
        work = (clone, add_key("ann", ed25519("n")), ANN)
        thread = threading.Thread(target=publish, args=work)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
    assert len(clone.read("main").users["ann"].keys) == 2


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


def hook(remote: Path, name: str, line: str) -> None:
    """Have the remote do this, before or after it moves `main`."""
    file = remote / "hooks" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("killed", ["$PPID", "$(ps -o ppid= -p $PPID)"], ids=["it", "its-parent"])
def test_a_push_that_arrived_is_saved_though_no_answer_came(
    clone: Repository, remote: Path, killed: str
) -> None:
    hook(remote, "post-receive", f"kill -9 {killed}")
    done = publish(clone, add_key("ann", ed25519("n")), ANN)
    assert done.changed
    assert clone.tip() == done.revision == git(remote, "rev-parse", "main")


def test_a_push_without_an_answer_is_not_said_to_be_lost(
    clone: Repository, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(remote, "pre-receive", "sleep 60")
    monkeypatch.setattr("state.git.publish.REMOTE_LIMIT", 1)
    with pytest.raises(UnansweredError, match="isn't known") as caught:
        publish(clone, add_key("ann", ed25519("n")), ANN)
    assert caught.value.code == "state-unanswered"
    assert "Timeout" in caught.value.details


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
