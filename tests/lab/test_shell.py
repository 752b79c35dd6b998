"""`ssh gpu17-manage shell`: root in one's container, without the container's sshd."""

from __future__ import annotations

import shlex

import pytest

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, in_container, running
from tests.patience import eventually

TYPIST = """
import fcntl, os, pty, struct, sys, termios, time
def size(rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
def until(text):
    global said
    while text not in said:
        said += os.read(master, 4096).decode()
    said = said.partition(text)[2]
child, master = pty.fork()
if child == 0:
    os.execv("/usr/local/lib/lxc-gpu/login-shell", ["login-shell", "-c", "shell"])
said = ""
size(31, 97)
until("root@")
os.write(master, b"stty size; tty; readlink /proc/$$/fd/0; echo $TERM\\r")
until("31 97\\r\\n/dev/pts/"); until("/dev/pts/"); until("vt220\\r\\n")
size(41, 107)
os.write(master, b"until stty size | grep -x '41 107'; do sleep 0.1; done\\r")
until("41 107\\r\\n")
os.write(master, b"sh -c 'echo r$(echo eady); exec cat'\\r")
until("ready\\r\\n")
os.write(master, b"\\x03")
until("root@")
os.write(master, b"echo still-$((1 + 1))\\r")
until("still-2\\r\\n")
os.write(master, b"exit 5\\r")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Somebody at a terminal, who resizes it; as sshd would start the login shell for them."""
CONFINED = """
readlink /proc/self/ns/[!pt]*; cat /proc/self/cgroup; grep -E '^(Cap|NoNewPrivs)' /proc/self/status
"""


def shell(fleet: Fleet, command: str, stdin: str = "") -> Finished:
    """Run a command in lqchen's container by the verb."""
    return fleet.types(f"ssh gpu17-manage {shlex.quote(f'shell {command}')}", stdin=stdin)


def runs(fleet: Fleet, program: str) -> bool:
    """Whether a program of that command line runs, in a container or not."""
    return fleet.gpu17.run(["pgrep", "-fx", program], check=False).ok


@pytest.mark.usefixtures("lqchen_is_up")
class TestShell:
    """F: entered by its namespaces, as confined as it is."""

    def test_what_was_typed_arrives_and_the_status_comes_back(self, fleet: Fleet) -> None:
        done = shell(fleet, "printf '%s|' 'a  b' \"$HOME\" \\$x `id -u`; echo e >&2; exit 7")
        assert (done.status, done.stdout, done.stderr) == (7, "a  b|/root|$x|0|", "e\n")
        done = shell(fleet, "cat; kill -9 $$", stdin="from\nafar")
        assert (done.status, done.stdout) == (137, "from\nafar")
        many = fleet.types("head -c 3000000 /dev/zero | ssh gpu17-manage shell cat | wc -c")
        assert many.stdout.strip() == "3000000"
        done = fleet.types("ssh gpu17-manage shell", stdin="hostname")
        assert done.stdout == "lqchen-gpu17\n"
        assert done.stderr.startswith("No terminal: what comes is run line by line.")

    def test_confined_as_the_container_is(self, fleet: Fleet) -> None:
        theirs = fleet.types(f"ssh gpu17 sudo bash -c {shlex.quote(CONFINED)}").stdout
        init = shell(fleet, CONFINED.replace("/proc/self", "/proc/1")).stdout
        ours = shell(fleet, CONFINED).stdout
        assert ours == init
        assert [line for line in theirs.splitlines() if ":[" in line] == [
            line for line in ours.splitlines() if ":[" in line
        ]
        given = shell(fleet, "env; ls -l /proc/self/fd").stdout.splitlines()
        assert {line.split("=")[0] for line in given if "=" in line} <= {
            "HOME", "USER", "LOGNAME", "PATH", "LANG", "PWD"
        }  # fmt: skip
        links = [line.split(" -> ")[1].split("[")[0] for line in given if " -> " in line]
        assert [each for each in links if "/fd" not in each] == ["pipe:"] * 3

    def test_a_terminal_of_its_own(self, fleet: Fleet) -> None:
        done = fleet.gpu17.sh(
            f"TERM=vt220 timeout 50 python3 -c {shlex.quote(TYPIST)}", user="lqchen"
        )
        assert done.stdout == "5\n", done.stderr

    def test_it_ends_with_its_connection(self, fleet: Fleet) -> None:
        fleet.types("""
            ssh gpu17-manage shell 'trap "" HUP; echo up; sleep 414' </dev/null >said &
            until grep -qs up said; do sleep 0.05; done; kill $!; rm said""")
        eventually(lambda: not runs(fleet, "sleep 414"))
        listing = "systemctl list-units --plain --no-legend 'lxc-gpu-root@*'"
        eventually(lambda: not fleet.gpu17.sh(listing).stdout)

    def test_so_many_at_a_time(self, fleet: Fleet) -> None:
        done = fleet.types("""
            for n in 1 2 3 4; do
                ssh gpu17-manage shell 'echo up; exec sleep 415' </dev/null >said-$n &
            done
            for n in 1 2 3 4; do until grep -qs up said-$n; do sleep 0.05; done; done
            ssh gpu17-manage shell id || true; kill $(jobs -p); rm said-*""")
        assert "4 shells of yours are open on this server" in done.stderr
        eventually(lambda: not runs(fleet, "sleep 415"))

    def test_the_sysadmins_way(self, fleet: Fleet) -> None:
        """docs/sysadmins/daily.md: with the user's rights; also in a tmux that outlived its ssh."""
        for given in ("", "SSH_CONNECTION='192.0.2.1 9 192.0.2.2 22' "):
            done = fleet.gpu17.sh(f"{given}su lqchen -c 'shell hostname; id -u'")
            assert done.stdout == "lqchen-gpu17\n0\n"


def test_a_stopped_container_without_an_sshd_is_entered(fleet: Fleet) -> None:
    """F: the way in when there is no other one; nobody waits for an sshd that isn't there."""
    end_at_once(fleet.gpu17, "lqchen")
    in_container(fleet.gpu17, "lqchen", "mv usr/sbin/sshd usr/sbin/.sshd")
    try:
        done = shell(fleet, "mv /usr/sbin/.sshd /usr/sbin/sshd && echo mended")
        assert (done.status, done.stdout) == (0, "mended\n"), done.stderr
        assert "- starting the container\n" in done.stderr
        assert "waiting for the container's sshd" not in done.stderr
        assert running(fleet.gpu17, "lqchen")
    finally:
        in_container(
            fleet.gpu17, "lqchen", "test ! -e usr/sbin/.sshd || mv usr/sbin/.sshd usr/sbin/sshd"
        )
