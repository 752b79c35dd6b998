"""Who leaves is locked out at once, and loses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from laboratory.hosts import Host

from tests.lab.fleet import (
    KEYS,
    SYSTEM,
    Fleet,
    at_work_on,
    in_container,
    plan,
    reconcile,
    running,
)
from tests.patience import eventually

IN_HOME = f"{SYSTEM}/home/lqchen"


def _is_locked_out(fleet: Fleet, gpu17: Host) -> None:
    assert not running(gpu17, "lqchen")
    assert gpu17.run(["test", "-e", f"{KEYS}/lqchen"], check=False).status == 1
    assert "lqchen" not in gpu17.read(f"{KEYS}/register")
    assert gpu17.sh("getent shadow lqchen | cut -d: -f8").stdout == "1\n"
    assert "lqchen" not in gpu17.run(["iptables-save", "-t", "nat"]).stdout
    inside = gpu17.read(f"{IN_HOME}/.ssh/authorized_keys")
    assert "ssh-ed25519" not in inside
    assert "mine\n" in inside
    for line in ("ssh gpu17-manage", "ssh register@gpu17-manage lqchen", "ssh gpu17 true"):
        assert fleet.types(f"{line} 2>&1").status == 255, line


def test_who_leaves_is_locked_out_and_loses_nothing(
    fleet: Fleet, converged: Host, lqchen_is_up: None
) -> None:
    assert fleet.types("ssh gpu17 'echo kept >file; echo mine >>~/.ssh/authorized_keys'").ok
    converged.sh("echo kept >/home/lqchen/file")
    fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former/")
    try:
        assert any("disable the account lqchen" in line for line in plan(converged))
        done = reconcile(converged)
        assert done.ok, done.stdout
        assert "account: disable the account lqchen" in done.stdout
        assert "container: stop the container of lqchen and take the keys out" in done.stdout
        assert plan(converged) == []
        _is_locked_out(fleet, converged)
        assert converged.read("/home/lqchen/file") == "kept\n"
        assert converged.read(f"{IN_HOME}/file") == "kept\n"
        assert converged.sh("grep -c ^lqchen: /etc/subuid").stdout == "1\n"
    finally:
        fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
    assert reconcile(converged).ok
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17 cat file").stdout == "kept\n"


def test_sessions_that_are_open_end(fleet: Fleet, converged: Host, lqchen_is_up: None) -> None:
    """One into the container, one on the host that waits for its turn."""
    with ThreadPoolExecutor() as pool:
        try:
            with at_work_on(converged, "lqchen"):
                inside = pool.submit(fleet.types, "ssh gpu17 'echo in; sleep 300'")
                outside = pool.submit(fleet.types, "ssh gpu17-manage restart")
                eventually(lambda: "lqchen" in converged.run(["loginctl", "list-users"]).stdout)
                eventually(lambda: converged.sh("pgrep -u lqchen -f login-shell", check=False).ok)
                fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former")
                round_ = pool.submit(reconcile, converged)
                assert outside.result().status == 255
                assert not round_.done(), "it still waits for the container's turn"
                assert not converged.sh("pgrep -u lqchen -f login-shell", check=False).ok
            assert round_.result().ok
            ended = inside.result()
            assert (ended.status, ended.stdout) == (255, "in\n")
        finally:
            fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
    assert reconcile(converged).ok
    assert fleet.types("ssh gpu17-manage").ok


def test_who_hides_the_keys_is_stopped_all_the_same(
    fleet: Fleet, converged: Host, lqchen_is_up: None
) -> None:
    assert fleet.types("ssh gpu17 'cp -a .ssh ssh; rm .ssh/authorized_keys;"
                       " mkdir .ssh/authorized_keys'").ok  # fmt: skip
    fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former/")
    try:
        assert reconcile(converged).ok
        assert not running(converged, "lqchen")
    finally:
        fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
    in_container(converged, "lqchen", "cd home/lqchen; rm -r .ssh; mv ssh .ssh")
    assert reconcile(converged).ok
