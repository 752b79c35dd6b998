"""A login that can't work is noticed by `start`: mended where that is ours, told where it isn't."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from tests.lab.fleet import Fleet, end_at_once, in_container, plan
from tests.patience import eventually

HOME = "/home/lqchen"
KEPT = "kept sshd from your keys: mended."


def as_root(fleet: Fleet, command: str) -> None:
    """Something that a container's root does to it."""
    done = fleet.types(f"ssh gpu17-manage {shlex.quote(f'shell {command}')}")
    assert done.ok, done.stderr


def logs_in(fleet: Fleet, command: str = "true") -> bool:
    """Whether `ssh gpu17` runs a command."""
    return fleet.types(f"ssh gpu17 {command}").ok


@pytest.mark.usefixtures("lqchen_is_up")
class TestWay:
    """F: modes and owners on the way to our keys are mended."""

    @pytest.mark.parametrize(
        "broken",
        [f"chmod 777 {HOME} {HOME}/.ssh/authorized_keys",
         f"chmod 700 / /home; chown -R root {HOME}; chmod 0 {HOME}"],
    )  # fmt: skip
    def test_of_a_container_that_runs(self, fleet: Fleet, broken: str) -> None:
        as_root(fleet, broken)
        done = fleet.types("ssh gpu17-manage")
        assert done.ok
        assert KEPT in done.stdout
        assert "Log in:  ssh gpu17" in done.stdout
        assert logs_in(fleet)
        as_root(fleet, f"chown -R lqchen: {HOME}")
        assert KEPT not in fleet.types("ssh gpu17-manage").stdout
        assert plan(fleet.gpu17) == []

    def test_of_a_stopped_one(self, fleet: Fleet) -> None:
        end_at_once(fleet.gpu17, "lqchen")
        in_container(fleet.gpu17, "lqchen", f"chmod 777 .{HOME}; chown 0 .{HOME}/.ssh")
        assert KEPT in fleet.types("ssh gpu17-manage").stdout
        assert logs_in(fleet)

    def test_links_lead_nowhere(self, fleet: Fleet) -> None:
        """What is mended isn't what a link of the container's names."""
        fleet.gpu17.sh("mkdir -p /srv/trap/.ssh; chmod 777 /srv/trap /srv/trap/.ssh")
        as_root(fleet, f"mv {HOME} /home/aside; ln -s /srv/trap {HOME}")
        try:
            fleet.types("ssh gpu17-manage")
            assert (
                fleet.gpu17.sh("stat -c %a:%u /srv/trap /srv/trap/.ssh").stdout.split()
                == ["777:0"] * 2
            )
        finally:
            as_root(fleet, f"rm {HOME}; mv /home/aside {HOME}")
            fleet.gpu17.sh("rm -r /srv/trap")


@pytest.fixture
def shell_again(fleet: Fleet, lqchen_is_up: None) -> Iterator[None]:
    """lqchen's shell and its start-up files are afterwards what they were."""
    as_root(fleet, f"cp -a {HOME}/.bashrc {HOME}/.bashrc-kept")
    yield
    as_root(fleet, f"mv {HOME}/.bashrc-kept {HOME}/.bashrc; usermod -s /bin/bash lqchen")


@pytest.mark.usefixtures("shell_again")
class TestShell:
    """F: what isn't ours is told, with ways out."""

    @pytest.mark.parametrize(
        ("broken", "said"),
        [("usermod -s /usr/bin/zsh lqchen",
          "Your login shell, /usr/bin/zsh, can't be run: No such file or directory."),
         ("usermod -s /usr/sbin/nologin lqchen", "Your login shell is /usr/sbin/nologin"),
         (f"echo exit 3 >>{HOME}/.bashrc", "Your login shell, /bin/bash, ends with status 3")],
    )  # fmt: skip
    def test_that_lets_nobody_in(self, fleet: Fleet, broken: str, said: str) -> None:
        as_root(fleet, broken)
        done = fleet.types("ssh gpu17-manage")
        assert done.ok
        assert "Your container on gpu17 runs already, but you can't log in." in done.stdout
        assert said in done.stdout
        for way_out in ("-manage shell`", "recover NAME`", "rebuild --keep-home`"):
            assert way_out in done.stdout
        assert "Log in:" not in done.stdout
        assert (
            said in fleet.gpu17.run(["lxc-gpu", "doctor", "--user", "lqchen"], check=False).stdout
        )

    def test_that_works_is_not_suspected(self, fleet: Fleet) -> None:
        """One that is slow, or makes room for another program, isn't called broken."""
        for line in ("exec sh", "sleep 60", '[ -z "$TMUX" ] && exec false', "false"):
            as_root(fleet, f"cp {HOME}/.bashrc-kept {HOME}/.bashrc; echo {shlex.quote(line)} "
                           f">>{HOME}/.bashrc")  # fmt: skip
            facts = json.loads(fleet.types("ssh gpu17-manage start --json").stdout)
            assert facts["login_fails"] == [], line
        left = fleet.gpu17.run(["pgrep", "-fx", "sleep 60"], check=False)
        assert not left.ok, "what was tried isn't left running"


def test_an_sshd_that_is_gone_is_named(fleet: Fleet, lqchen_is_up: None) -> None:
    """F: not "did not answer within 60 s", and the way out is one line."""
    as_root(fleet, "mv /usr/sbin/sshd /usr/sbin/.sshd; systemctl stop ssh.socket ssh.service")
    try:
        done = fleet.types("ssh gpu17-manage")
        assert done.status == 1
        assert "there is no sshd in it any more, so nobody can log in" in done.stderr
        assert "apt-get install -y openssh-server" in done.stderr
    finally:
        as_root(fleet, "mv /usr/sbin/.sshd /usr/sbin/sshd; systemctl start ssh.service")
    eventually(lambda: logs_in(fleet))


def test_a_new_system_doesn_t_take_the_fault_along(fleet: Fleet, lqchen_is_up: None) -> None:
    """F: `rebuild --keep-home` of a home that is everybody's."""
    as_root(fleet, f"chmod 777 {HOME}; chown root {HOME}/.ssh")
    asked = fleet.types("ssh gpu17-manage rebuild --keep-home").stderr.split()[-1]
    done = fleet.types(f"ssh gpu17-manage rebuild --keep-home --confirm {asked}", wait=300)
    assert done.ok, done.stderr
    assert KEPT in done.stdout
    assert logs_in(fleet)


def test_namespaces_inside_mount_a_proc_of_their_own(fleet: Fleet, lqchen_is_up: None) -> None:
    """Sandboxes and rootless engines do: the kernel wants one in sight that nothing is over."""
    for who in ("", "sudo "):
        words = "unshare --user --map-root-user --pid --fork --mount-proc test -e /proc/1"
        done = fleet.types(f"ssh gpu17 {who}{words}")
        assert done.ok, done.stderr
