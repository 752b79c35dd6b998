"""Root in a container against the server below it: it hurts itself, and nobody else.

`sudo` inside makes everybody root there, so everything in a container may be an attack.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import (
    BAIT,
    KEYS,
    Fleet,
    end_at_once,
    in_container,
    plan,
    reconcile,
    running,
    system_of,
)
from tests.patience import eventually

HOME = "home/lqchen"


@dataclass(frozen=True)
class Trap:
    """What the container's root puts where the server reads or writes, and what is said of it."""

    name: str
    laid: str
    said: str = ""
    """In the round's report; empty: the round takes it away without a word, or isn't concerned."""


NO_PLAIN = "Links and special files are not followed there: put a plain file or folder in its place"
NOT_REGULAR = "authorized_keys is not a regular file. Remove it."
READ = (
    Trap("ssh is a link to the host", f"mv .ssh ssh; ln -s {BAIT} .ssh", NO_PLAIN),
    Trap("ssh climbs out", "mv .ssh ssh; ln -s ../../../../../../../../srv/bait .ssh", NO_PLAIN),
    Trap("ssh is a pipe", "mv .ssh ssh; mkfifo .ssh", NO_PLAIN),
    Trap("ssh is a file", "mv .ssh ssh; echo >.ssh", NO_PLAIN),
    Trap("ssh is closed", "chown 0:0 .ssh; chmod 000 .ssh", NO_PLAIN),
    Trap("the home is closed", "chown 0:0 .; chmod 000 .", NO_PLAIN),
    Trap("the home is a link", f"cd ..; mv lqchen other; ln -s {BAIT} lqchen", NO_PLAIN),
    Trap("keys are a link", f"ln -sf {BAIT}/authorized_keys .ssh/authorized_keys", NO_PLAIN),
    Trap("keys are a pipe", "rm .ssh/authorized_keys; mkfifo .ssh/authorized_keys", NOT_REGULAR),
    Trap("keys are a folder", "rm .ssh/authorized_keys; mkdir .ssh/authorized_keys", NOT_REGULAR),
    Trap("keys are a terabyte", "truncate -s 1T .ssh/authorized_keys",
         "authorized_keys is larger than 1048576 bytes. Remove it."),
    Trap("a link lies in wait for the new file",
         f"ln -s {BAIT}/x .ssh/.authorized_keys.lxc-gpu-new; echo >.ssh/authorized_keys"),
    Trap("a folder lies in wait for the new file",
         "mkdir .ssh/.authorized_keys.lxc-gpu-new; echo >.ssh/authorized_keys", NO_PLAIN),
)  # fmt: skip
WRITTEN = (
    Trap("the host key is a folder", "rm etc/ssh/ssh_host_ed25519_key; mkdir "
         "etc/ssh/ssh_host_ed25519_key", "note: Below"),
    Trap("the host key is a link", f"ln -sf {BAIT}/key etc/ssh/ssh_host_ed25519_key"),
    Trap("etc/ssh is a link", f"rm -r etc/ssh; ln -s {BAIT} etc/ssh", "note: Below"),
    Trap("the resolvers are a link", f"ln -sf {BAIT}/resolv etc/resolv.conf"),
    Trap("the resolvers climb", "ln -sf ../../../../../../../srv/bait/resolv etc/resolv.conf"),
    Trap("the resolvers are a pipe", "rm -f etc/resolv.conf; mkfifo etc/resolv.conf"),
)  # fmt: skip
ATTEMPTS = (
    "ls /run/lxc-gpu", "cat /var/lib/lxc-gpu/view.json", "ls /etc/lxc-gpu",
    "date -s '2001-01-01'", "hwclock -w", "modprobe loop", "insmod /tmp/x.ko",
    "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk", "mount /dev/vda /mnt",
    "mount -t overlay -o lowerdir=/,upperdir=/proc/1/root,workdir=/tmp none /mnt",
    "echo 1 >/proc/sysrq-trigger", "echo x >/proc/sys/kernel/core_pattern",
    "echo 0 >/proc/sys/kernel/randomize_va_space", "dmesg -C", "swapoff -a && swapon /x",
    "cat /proc/kcore | head -c 1 | grep -q .", "ip link set lxcgpu0 down",
    "chroot /proc/1/root/../../.. ls /etc/lxc-gpu", "nsenter -t 1 -m ls /etc/lxc-gpu",
    "echo 1 >/sys/fs/cgroup/cpu/cpu.shares && echo $$ >/sys/fs/cgroup/cpu/tasks",
    "cat /dev/mem | head -c 1 | grep -q .", "ls -d /dev/vda* /dev/sda* /dev/dm-*",
)  # fmt: skip
"""What root in a container types to get at the server; each has to fail."""
SPOILS = f"ls -la {BAIT}; cat {BAIT}/*; sha256sum /etc/passwd /etc/shadow /etc/resolv.conf"


@pytest.fixture(scope="module")
def baited(fleet: Fleet) -> Iterator[Host]:
    """A server whose other users have a right to be served, with bait for links."""
    host = fleet.gpu17
    host.sh(f"mkdir -p {BAIT}; chmod 777 {BAIT}; echo bait >{BAIT}/authorized_keys; "
            f"chmod 666 {BAIT}/authorized_keys")  # fmt: skip
    assert plan(host) == []
    yield host
    host.sh(f"rm -r {BAIT}")


@pytest.fixture
def gpu17(baited: Host) -> Iterator[Host]:
    """The same server; no test may change a file of it."""
    before = baited.sh(SPOILS).stdout
    yield baited
    assert baited.sh(SPOILS).stdout == before, "a file of the host was changed"


@pytest.fixture(scope="class")
def healed(fleet: Fleet, baited: Host) -> Iterator[None]:
    """The container has what a start gives it; once all traps are away, a round is content."""
    assert fleet.types("ssh gpu17-manage start").ok
    yield
    done = reconcile(baited)
    assert done.ok, done.stdout


@pytest.fixture
def kept(gpu17: Host, healed: None) -> Iterator[Host]:
    """A copy of lqchen's home, which comes back afterwards."""
    in_container(gpu17, "lqchen", "rm -rf kept; cp -a home/lqchen kept; cp -a etc/ssh kept/etc-ssh")
    yield gpu17
    in_container(gpu17, "lqchen", """
        chmod 755 home/lqchen 2>&- || true; rm -rf home/lqchen home/other etc/ssh etc/resolv.conf
        mv kept/etc-ssh etc/ssh; mv kept home/lqchen""")  # fmt: skip


def inside(fleet: Fleet, script: str, check: bool = True) -> Finished:
    """Run a script as root in lqchen's container, in the way of everybody: ssh, sudo."""
    done = fleet.types(f"ssh gpu17 sudo bash -euc {shlex.quote(shlex.quote(script))}")
    assert done.ok or not check, done.stdout + done.stderr
    return done


class TestTraps:
    @pytest.mark.parametrize("trap", READ, ids=lambda trap: trap.name)
    def test_round_falls_into_none(self, fleet: Fleet, kept: Host, trap: Trap) -> None:
        in_container(kept, "lqchen", f"cd {HOME}; {trap.laid}")
        hers = f"{system_of(kept, 'ann')}/home/ann/.ssh/config"
        kept.sh(f"rm {KEYS}/ann; sed -i '/BEGIN/,/END/d' {hers}")
        done = reconcile(kept)
        assert "Traceback" not in done.stdout + done.stderr
        assert "container: update the container of ann: config" in done.stdout
        assert "authorized_keys: ann logs in" in done.stdout
        if trap.said:
            assert done.status == 1
            (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
            assert line.startswith("FAILED container lqchen: ")
            assert trap.said in line
        else:
            assert done.ok, done.stdout

    def test_container_starts_all_the_same(self, fleet: Fleet, kept: Host) -> None:
        """Its owner can mend it only from inside."""
        for trap in (READ[0], READ[8]):
            end_at_once(kept, "lqchen")
            in_container(kept, "lqchen", f"cd {HOME}; {trap.laid}")
            done = fleet.types("ssh gpu17-manage start")
            assert done.ok, done.stderr
            assert "Note: " in done.stdout
            assert running(kept, "lqchen")
            in_container(kept, "lqchen", f"cd {HOME}; rm -rf .ssh; cp -a ../../kept/.ssh .ssh")
        assert fleet.types("ssh gpu17 true").ok

    @pytest.mark.parametrize("trap", WRITTEN, ids=lambda trap: trap.name)
    def test_start_falls_into_none(self, fleet: Fleet, kept: Host, trap: Trap) -> None:
        end_at_once(kept, "lqchen")
        in_container(kept, "lqchen", trap.laid)
        # where no sshd can come up, nobody waits for it
        enough = trap.said or "Log in:"
        done = fleet.types(f"""
            rm -f said  # of the start before
            ssh gpu17-manage start >said 2>&1 & ssh=$!
            until grep -sqF '{enough}' said || ! kill -0 $ssh 2>&-; do sleep 0.05; done
            kill $ssh 2>&- || true; cat said""")
        assert "Traceback" not in done.stdout
        assert "- starting the container" in done.stdout
        assert enough in done.stdout
        eventually(lambda: running(kept, "lqchen"))
        if not trap.said:
            assert fleet.types("ssh gpu17 true").ok
        end_at_once(kept, "lqchen")

    def test_owner_of_the_root_folder_is_not_believed(self, fleet: Fleet, kept: Host) -> None:
        """Where a system lies says whose it is, and not who owns its `/`."""
        in_container(kept, "lqchen", f"chown 1000 .; rm {HOME}/.ssh/authorized_keys")
        try:
            done = reconcile(kept)
            assert done.ok, done.stdout
            owners = f"stat -c '%u %U' {system_of(kept, 'lqchen')}{{,/{HOME}/.ssh/authorized_keys}}"
            assert [line.split()[0] for line in kept.sh(owners).stdout.splitlines()] == ["1000"] * 2
        finally:
            in_container(kept, "lqchen", "chown 0 .")


@pytest.mark.usefixtures("lqchen_is_up")
class TestWalls:
    def test_programs_of_the_host_are_out_of_sight(self, fleet: Fleet, gpu17: Host) -> None:
        gpu17.sh("systemd-run --quiet --unit=bait sleep 999")
        try:
            number = gpu17.sh("systemctl show bait -p MainPID --value").stdout.strip()
            seen = inside(fleet, "ps ax -o args 2>&- || cat /proc/*/cmdline").stdout
            assert "sleep 999" not in seen
            inside(fleet, f"kill -9 {number} 2>&- || true; kill -9 -1 & sleep 0.1", check=False)
            assert gpu17.sh("systemctl is-active bait").stdout == "active\n"
        finally:
            gpu17.sh("systemctl stop bait")
        end_at_once(gpu17, "lqchen")
        assert fleet.types("ssh gpu17-manage start").ok

    def test_nothing_leads_out(self, fleet: Fleet, gpu17: Host) -> None:
        facts = "date +%Y; cat /proc/sys/kernel/core_pattern; cat /proc/modules | wc -l"
        before = gpu17.sh(facts).stdout
        tries = [
            f"bash -euc {shlex.quote(each)} </dev/null >&2 && echo {shlex.quote(each)}"
            for each in ATTEMPTS
        ]
        done = fleet.types("ssh gpu17 sudo bash -s", stdin="\n".join([*tries, "echo all tried"]))
        assert done.stdout == "all tried\n", "these were possible"
        assert gpu17.sh(facts).stdout == before

    def test_server_offers_the_container_no_more_than_the_network(
        self, fleet: Fleet, gpu17: Host
    ) -> None:
        """The bridge's address is the server's: its sshd asks for a key there, too."""
        done = inside(fleet, "timeout 5 ssh -o BatchMode=yes -o StrictHostKeyChecking=no "
                             "root@10.77.0.1 id 2>&1 || true")  # fmt: skip
        assert "uid=" not in done.stdout
        assert "Permission denied" in done.stdout


class TestOwnSystem:
    """What the unpacking has to get right."""

    @pytest.fixture(autouse=True)
    def up(self, lqchen_is_up: None) -> None:
        """The container runs."""

    def test_set_uid_bits_and_capabilities_work(self, fleet: Fleet) -> None:
        assert fleet.types("ssh gpu17 sudo id -u").stdout == "0\n"
        owners = "find / -xdev -perm -4000 -printf '%u %p\\n'"
        assert "root /usr/bin/sudo" in inside(fleet, owners).stdout.splitlines()
        capable = inside(fleet, "getcap -r /usr /bin 2>&- || /sbin/getcap -r /usr").stdout
        template = fleet.gpu17.sh("tar -tf /var/lib/lxc-gpu/templates/debian-12.tar.zst").stdout
        if "./usr/bin/ping\n" in template:
            assert "ping cap_net_raw=ep" in capable
            assert fleet.types("ssh gpu17 ping -c1 -W2 10.77.0.1").ok

    def test_every_container_is_another_system(self, fleet: Fleet) -> None:
        facts = "cat etc/machine-id etc/hostname; sha256sum <etc/ssh/ssh_host_ed25519_key.pub"
        for user in ("lqchen", "ann"):
            assert fleet.types("ssh gpu17-manage start", user=user).ok
        hers, his = (in_container(fleet.gpu17, user, facts).stdout for user in ("ann", "lqchen"))
        assert not set(hers.split()) - {"-"} & set(his.split()) - {"-"}
        view = json.loads(fleet.gpu17.read("/var/lib/lxc-gpu/view.json"))["residents"]
        assert view["ann"]["host_key"] != view["lqchen"]["host_key"]
        ids = {name: (r["subid"], r["address"], r["port"]) for name, r in view.items()}
        assert all(a != b for a, b in zip(ids["ann"], ids["lqchen"], strict=True))
        shown = fleet.types("ssh-keyscan -t ed25519 -p $(ssh -G gpu17 | sed -n 's/^port //p') "
                            "172.16.2.17 2>&-").stdout  # fmt: skip
        assert view["lqchen"]["host_key"].split()[1] in shown

    def test_neighbours_are_locked_out(self, fleet: Fleet) -> None:
        lqchens = "-o ProxyCommand=none -o StrictHostKeyChecking=no gpu17"
        port = fleet.types("ssh -G gpu17 | sed -n 's/^port //p'").stdout.strip()
        done = fleet.types(f"ssh -p {port} -l lqchen {lqchens} true", user="ann")
        assert done.status == 255

    def test_home_of_a_neighbour_is_closed(self, fleet: Fleet) -> None:
        in_container(fleet.gpu17, "lqchen", "cd home/lqchen; echo >secret; chmod 600 secret")
        place = f"{system_of(fleet.gpu17, 'lqchen')}/home/lqchen/secret"
        assert not fleet.gpu17.sh(f"runuser -u ann -- cat {place}", check=False).ok
