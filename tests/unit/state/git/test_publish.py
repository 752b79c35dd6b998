"""Edits become commits and are pushed: real Git, real races."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from state.command import run
from state.edits.edit import Edit
from state.edits.users import add_key, disable, save_keys, set_keys
from state.errors import LxcGpuError
from state.git.publish import Base, RefusedError, UnansweredError, publish
from state.git.repository import Repository
from state.model.documents import State
from state.reading.problems import StateInvalidError
from tests.unit.state.git.repositories import ANN, git
from tests.unit.state.keyring import ed25519


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


def test_a_commit_waits_for_another_of_the_same_clone(clone: Repository) -> None:
    with clone.alone():
        work = (clone, add_key("ann", ed25519("n")), ANN)
        thread = threading.Thread(target=publish, args=work)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
    assert len(clone.read("main").users["ann"].keys) == 2


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
