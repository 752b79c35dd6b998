"""`port`: ports of a server that lead to containers because their users asked, from everywhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host

from reconciler.network.forwards import MOST, Forwards, from_json
from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, plan, reconcile
from tests.patience import eventually

KEPT = "/var/lib/lxc-gpu/forwards.json"
HERE, THERE = "172.16.2.17", "172.16.2.18"
LOCK = "/run/lxc-gpu/locks/accounts"
LISTENER = r"""
use IO::Socket::INET; use IO::Select;
my $tcp = IO::Socket::INET->new(LocalPort => 8888, Listen => 9, ReuseAddr => 1) or die;
my $udp = IO::Socket::INET->new(LocalPort => 8888, Proto => "udp") or die;
chomp(my $host = `hostname`);
while (my @ready = IO::Select->new($tcp, $udp)->can_read) {
    for my $end (@ready) {
        if ($end == $udp) { $udp->recv(my $said, 99); $udp->send("udp $host\n"); next }
        my $visitor = $tcp->accept or next;
        sysread $visitor, my $said, 9999;
        print $visitor "HTTP/1.0 200 OK\r\n\r\ntcp $host\n"; close $visitor;
    }
}
"""
"""What listens in a container: it answers with its own name. (There is no Python inside.)"""
VISIT = "curl -sS --max-time 3 http://{place}/"
KNOCK = "exec 3<>/dev/udp/{place}; echo >&3; timeout 3 head -n1 <&3"
CLEAN = f"rm -f {KEPT}; lxc-gpu reconcile --kind port_map --kind forward"


@pytest.fixture(scope="module")
def without_ports(fleet: Fleet) -> Iterator[Host]:
    """A server on which nobody has a port but ssh; in the end, a round has nothing to do."""
    fleet.gpu17.sh(CLEAN)
    yield fleet.gpu17
    assert plan(fleet.gpu17) == []


@pytest.fixture
def gpu17(without_ports: Host, lqchen_is_up: None) -> Iterator[Host]:
    """The same server, from which the ports that a test gave are taken."""
    yield without_ports
    without_ports.sh(CLEAN)


def port(fleet: Fleet, request: str = "", user: str = "lqchen") -> Finished:
    """`ssh gpu17-manage port ...`."""
    return fleet.types(f"ssh gpu17-manage port {request}", user=user)


def number(fleet: Fleet, request: str, user: str = "lqchen") -> int:
    """Which port of the server `port ...` gave."""
    done = port(fleet, f"{request} --json", user)
    assert done.ok, done.stderr
    return int(json.loads(done.stdout)["forward"]["port"])


def kept(host: Host) -> Forwards:
    """What the server remembers."""
    return from_json(host.read(KEPT))


def rules(host: Host) -> list[str]:
    """Our mappings but those of ssh."""
    saved = host.run(["iptables-save", "-t", "nat"]).stdout
    return [line for line in saved.splitlines() if re.search(r"--dport 26\d\d\d ", line)]


def listen(fleet: Fleet, user: str = "lqchen") -> None:
    """Have the listener run in somebody's container, until that stops."""
    run = f"sudo systemd-run -q --collect --unit=listener perl -e {shlex.quote(LISTENER)}"
    run = f"systemctl is-active -q listener || {run}"
    done = fleet.types(f"ssh gpu17 {shlex.quote(run)}", user=user)
    assert done.ok, done.stderr
    ready = "grep -c ':22B8 ' /proc/net/tcp /proc/net/udp"
    eventually(lambda: fleet.types(f"ssh gpu17 {shlex.quote(ready)}", user=user).ok)


class TestReach:
    def test_from_everywhere(self, fleet: Fleet, gpu17: Host) -> None:
        """From outside, inside the server, another container, and the container itself."""
        assert fleet.types("ssh gpu17-manage", user="ann").ok
        listen(fleet)
        done = port(fleet, "8888")
        assert done.stdout.splitlines() == [
            f"{HERE}:26000 leads to port 8888 of your container.",
            f"For a web page: http://{HERE}:26000",
        ]
        assert number(fleet, "8888 --udp") == 26000, "both protocols get the same number"
        visit = VISIT.format(place=f"{HERE}:26000")
        knock = f"bash -c {shlex.quote(KNOCK.format(place=f'{HERE}/26000'))}"
        for act, said in ((visit, "tcp lqchen-gpu17\n"), (knock, "udp lqchen-gpu17\n")):
            assert fleet.types(act).stdout == said
            assert gpu17.sh(act).stdout == said
            for user in ("ann", "lqchen"):
                done = fleet.types(f"ssh gpu17 {shlex.quote(act)}", user=user)
                assert done.stdout == said, (user, act, done.stderr)

    def test_other_servers_are_left_alone(self, fleet: Fleet, gpu17: Host) -> None:
        """gpu18 has something of its own at that port: nobody on gpu17 lands in a container."""
        listen(fleet)
        assert number(fleet, "8888") == 26000
        run = "systemd-run -q --collect --unit=own python3 -m http.server 26000 --directory /srv"
        fleet.gpu18.sh(f"echo gpu18 >/srv/index.html; {run}")
        visit = VISIT.format(place=f"{THERE}:26000")
        try:
            eventually(lambda: fleet.gpu18.run(["bash", "-c", visit], check=False).ok)
            assert fleet.types(f"ssh gpu17 {shlex.quote(visit)}").stdout == "gpu18\n"
            assert gpu17.sh(visit).stdout == "gpu18\n"
        finally:
            fleet.gpu18.sh("systemctl stop own; rm /srv/index.html")

    def test_stays_the_same_whatever_happens(self, fleet: Fleet, gpu17: Host) -> None:
        listen(fleet)
        visit = VISIT.format(place=f"{HERE}:{number(fleet, '8888')}")
        before = rules(gpu17)
        assert len(before) == 1
        end_at_once(gpu17, "lqchen")
        said = port(fleet, "8888").stdout
        assert "26000 leads to port 8888" in said
        assert "Nothing answers there until the container runs: ssh gpu17-manage" in said
        assert "26000 -> 8888" in fleet.types("ssh gpu17-manage status").stdout
        gpu17.sh("iptables -t nat -F; iptables -t nat -X")  # as after a reboot of the server
        assert any("26000 to lqchen's container" in line for line in plan(gpu17))
        said = fleet.types("ssh gpu17-manage").stdout
        assert said.endswith("Ports:   26000 -> 8888\n")
        listen(fleet)
        assert fleet.types(visit).stdout == "tcp lqchen-gpu17\n"
        gpu17.sh("iptables -t nat -F LXC-GPU-DNAT")
        assert reconcile(gpu17).ok
        assert rules(gpu17) == before
        assert fleet.types(visit).stdout == "tcp lqchen-gpu17\n"


NONSENSE = (
    ("0", "✗ `0` can't be: a port is a number from 1 to 65535."),
    ("65536", "✗ `65536` can't be: a port is a number from 1 to 65535."),
    ("-- -1", "✗ `port` takes no `--`."),
    ("http", "✗ `http` can't be: a port is a number from 1 to 65535."),
    ("٨٨٨٨", "✗ `٨٨٨٨` can't be: a port is a number from 1 to 65535."),
    ("8888 9999", "✗ `port` takes no `9999`."),
    ("22", "✗ Port 22 of your container is mapped already: it is your ssh port, "),
    ("--udp", "✗ Which port of your container?"),
    ("--remove", "✗ Which port of your container?"),
    ("--remove 8888", "✗ No port of gpu17 leads to tcp port 8888 of your container."),
    ("--remove 22", "✗ No port of gpu17 leads to tcp port 22 of your container."),
    ("8888 --user=ann", "✗ `port` takes no `--user=ann`."),
)
"""What nobody is given a port for, and how that is said."""


class TestWords:
    def test_list_and_remove(self, fleet: Fleet, gpu17: Host) -> None:
        assert "More:  ssh gpu17-manage port 8888\n" in port(fleet).stdout
        number(fleet, "8888")
        number(fleet, "60001 --udp")
        assert [line.split() for line in port(fleet).stdout.splitlines()[2:]] == [
            [f"{HERE}:26000", "tcp", "port", "8888", f"http://{HERE}:26000"],
            [f"{HERE}:26001", "udp", "port", "60001"],
        ]
        facts = json.loads(port(fleet, "--json").stdout)
        assert facts["forwards"][1] == {
            "protocol": "udp", "host": HERE, "port": 26001, "to_port": 60001}  # fmt: skip
        assert port(fleet, "--remove 60001").status == 1, "that is UDP"
        assert port(fleet, "--remove 8888").ok
        assert port(fleet, "--remove 60001 --udp").ok
        assert rules(gpu17) == []
        assert number(fleet, "8888") == 26002, "who bookmarked 26000 doesn't land elsewhere so soon"

    def test_nonsense_changes_nothing(self, fleet: Fleet, gpu17: Host) -> None:
        for request, said in NONSENSE:
            done = port(fleet, request)
            assert (done.status, done.stdout) == (1, ""), request
            assert done.stderr.startswith(said), request
            assert rules(gpu17) == [], request
            assert gpu17.run(["test", "-e", KEPT], check=False).status == 1, request


class TestTogether:
    def test_two_at_once_and_no_more_than_is_fair(self, fleet: Fleet, gpu17: Host) -> None:
        """Both ask again and again, while rounds run and somebody flushes the chain."""

        def ask(wish: tuple[str, int]) -> int:
            return number(fleet, str(wish[1]), wish[0])

        def disturb() -> None:
            for _ in range(3):
                gpu17.sh("iptables -t nat -F LXC-GPU-DNAT; lxc-gpu reconcile --kind forward")

        wishes = [("ann", 1000 + n) for n in range(6)]
        wishes += [("lqchen", 1000 + n) for n in range(MOST)]
        wishes.sort(key=lambda wish: wish[1])
        with ThreadPoolExecutor(5) as pool:
            rounds = pool.submit(disturb)
            given = list(pool.map(ask, wishes))
            rounds.result()
        assert sorted(given) == [*range(26000, 26000 + len(wishes))]
        assert sum(map(len, kept(gpu17).of.values())) == len(wishes)
        assert len(rules(gpu17)) == len(wishes), "no round undid what was given while it ran"
        done = port(fleet, "8888")
        assert done.status == 1
        assert "You have 20 ports mapped here" in done.stderr
        assert ask(wishes[1]) == given[1], "what is there can still be asked for"

    def test_a_round_that_began_before_does_not_undo_it(self, fleet: Fleet, gpu17: Host) -> None:
        """It waits for the lock under which, meanwhile, somebody gets a port."""
        number(fleet, "8888")
        more = '{"protocol": "tcp", "port": 26001, "to_port": 9999}'
        gpu17.sh(f"""
            exec 9>{LOCK}; flock 9
            iptables -t nat -F LXC-GPU-DNAT
            lxc-gpu reconcile --kind forward 9>&- & sleep 2
            sed -i 's/}}]/}}, {more}]/' {KEPT}
            exec 9>&-
            wait""")
        assert [re.search(r"--dport (\d+)", rule)[1] for rule in rules(gpu17)] == [  # type: ignore[index]
            "26000", "26001"]  # fmt: skip

    def test_a_full_range_and_what_the_server_itself_uses(self, fleet: Fleet, gpu17: Host) -> None:
        """Three ports, at one of which a program of the server listens."""
        run = "systemd-run -q --collect --unit=own python3 -m http.server 26001"
        fleet.commits("Few ports", "echo 'forwards: {first: 26000, last: 26002}' >>fleet.yaml")
        try:
            assert reconcile(gpu17).ok
            gpu17.sh(run)
            eventually(lambda: gpu17.sh("grep -c ':6591 ' /proc/net/tcp || true").stdout != "0\n")
            assert number(fleet, "1") == 26000
            assert number(fleet, "2", "ann") == 26002
            done = port(fleet, "3")
            assert done.status == 1
            assert "All ports from 26000 to 26002 of this server are taken." in done.stderr
            assert port(fleet, "--remove 2", "ann").ok
            assert number(fleet, "3") == 26002
        finally:
            gpu17.sh("systemctl stop own")
            fleet.commits("Many ports", "sed -i '/^forwards:/d' fleet.yaml")
            fleet.rounds()


class TestTrouble:
    def test_a_damaged_list_loses_nothing(self, fleet: Fleet, gpu17: Host) -> None:
        assert number(fleet, "8888") == 26000
        before, good = rules(gpu17), gpu17.read(KEPT)
        text = good[: len(good) // 2]
        gpu17.write(KEPT, text, 0o600)
        for request in ("", "8888", "9999", "--remove 8888"):
            done = port(fleet, request)
            assert (done.status, done.stdout) == (1, "")
            assert "The list of mapped ports on this server can't be read." in done.stderr
            assert KEPT in done.stderr
        done = reconcile(gpu17)
        assert done.status == 1
        assert "FAILED forward: The list of mapped ports" in done.stdout
        assert "forward: The list of mapped ports" in " ".join(plan(gpu17))
        assert fleet.types("ssh gpu17-manage status").ok
        assert "Note: The list of mapped ports" in fleet.types("ssh gpu17-manage").stdout
        assert (rules(gpu17), gpu17.read(KEPT)) == (before, text)
        gpu17.write(KEPT, good, 0o600)
        assert reconcile(gpu17).ok
        assert rules(gpu17) == before

    def test_who_leaves_keeps_the_port_until_purged(self, fleet: Fleet, gpu17: Host) -> None:
        assert number(fleet, "8888", "ann") == 26000
        fleet.commits("ann left", "mkdir -p former; git mv users/ann.yaml former/")
        try:
            assert reconcile(gpu17).ok
            assert rules(gpu17) == []
            assert number(fleet, "8888") == 26001
        finally:
            fleet.commits("ann is back", "git mv former/ann.yaml users/")
        assert reconcile(gpu17).ok
        assert number(fleet, "8888", "ann") == 26000
        assert len(rules(gpu17)) == 2

    def test_nobody_else_s(self, fleet: Fleet, gpu17: Host) -> None:
        assert number(fleet, "8888", "ann") == 26000
        assert port(fleet, "--remove 8888").status == 1
        assert "26000" not in port(fleet).stdout
        assert kept(gpu17).of.keys() == {"ann"}
