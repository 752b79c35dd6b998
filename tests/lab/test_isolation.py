"""Root in one container against the others and the server, by way of the network.

The attacker is lqchen, the victim ann, both on gpu17. Attacks run with the container's own powers
over the network (its user and network namespaces), but with the host's Python: templates have none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from laboratory.hosts import Host

from reconciler.network.filters import MOST_SSH, mac_of
from tests.lab import attacker
from tests.lab.fleet import Fleet, end_at_once, reconcile, running
from tests.patience import eventually

PROGRAM = Path(attacker.__file__).read_text()
GATEWAY, LAN, OTHER_SERVER = "10.77.0.1", "172.16.2.17", "172.16.2.18"
SERVICE = 5000
"""A port on which servers listen for the world in these tests."""
FLUSH = "nft delete table bridge lxc-gpu"
BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-iptables"
"""Whether iptables sees bridged frames, too: so it is where Docker is (br_netfilter)."""


@dataclass(frozen=True)
class Place:
    """A user's container on gpu17, as the network knows it."""

    host: Host
    user: str
    address: str
    port: int

    @property
    def mac(self) -> str:
        return mac_of(self.address)

    def enter(self, *argv: str) -> list[str]:
        """The words that run `argv` with the powers of the container's root over the network."""
        find = f"ps -o pid= --ppid $(systemctl show -P MainPID lxc-gpu@{self.user})"
        return ["sh", "-euc", f'exec nsenter -t $({find}) -U -n "$@"', "sh", *argv]

    def runs(self, lines: str) -> str:
        """What the attacker's program prints in there."""
        argv = self.enter("/usr/bin/python3", "-")
        return self.host.run(argv, stdin=f"{PROGRAM}\n{lines}", timeout=60).stdout.strip()

    def types(self, script: str) -> str:
        """What a shell script prints there."""
        return self.host.run(self.enter("sh", "-euc", script)).stdout

    def connects(self, address: str, port: int) -> str:
        return self.runs(f"connect({address!r}, {port})")


def place(host: Host, user: str) -> Place:
    resident = json.loads(host.read("/var/lib/lxc-gpu/view.json"))["residents"][user]
    return Place(host, user, resident["address"], resident["port"])


@pytest.fixture
def gpu17(fleet: Fleet, converged: Host) -> Host:
    """A server on which both run; as it was, and both as they were, afterwards."""
    for user in ("lqchen", "ann"):
        if not running(fleet.gpu17, user):
            assert fleet.types("ssh gpu17-manage start", user=user).ok
    return converged


@pytest.fixture
def lqchen(gpu17: Host) -> Place:
    return place(gpu17, "lqchen")


@pytest.fixture
def ann(gpu17: Host) -> Place:
    return place(gpu17, "ann")


@pytest.fixture
def spoilt(fleet: Fleet, lqchen: Place) -> Iterator[Place]:
    """lqchen's container, whose network a test turns inside out: it is started anew."""
    yield lqchen
    end_at_once(fleet.gpu17, "lqchen")
    assert fleet.types("ssh gpu17-manage start").ok


@pytest.fixture(params=["bridged frames pass iptables", "bridged frames don't"])
def iptables_too(request: pytest.FixtureRequest, gpu17: Host) -> Iterator[None]:
    """Both ways of a kernel."""
    before = gpu17.read(BRIDGED)
    gpu17.sh(f"echo {int('pass' in request.param)} >{BRIDGED}")
    yield
    gpu17.sh(f"echo {before.strip()} >{BRIDGED}")


# Each sends frames that its container has no right to send; `me`, `her`, `gateway` are MACs.
ATTACKS = {
    "straight-to-her": "frame(me, her, IPV4, udp(ME, HER))",
    "her-address": "frame(me, gateway, IPV4, udp(HER, GATEWAY))",
    "her-mac": "frame(her, gateway, IPV4, udp(HER, GATEWAY))",
    "her-mac-my-address": "frame(her, gateway, IPV4, udp(ME, GATEWAY))",
    "the-gateways-address": "frame(me, her, IPV4, udp(GATEWAY, HER))",
    "the-gateways-mac": "frame(gateway, her, IPV4, udp(GATEWAY, HER))",
    "nobodys-address": "frame(me, gateway, IPV4, udp('10.77.99.99', GATEWAY))",
    "the-worlds-address": "frame(me, gateway, IPV4, udp('172.16.2.18', GATEWAY))",
    "to-everybody": "frame(me, EVERYBODY, IPV4, udp(ME, '255.255.255.255'))",
    "multicast": "frame(me, '01:00:5e:00:00:fb', IPV4, udp(ME, '224.0.0.251'))",
    "arp-i-am-the-gateway": "arp(me, GATEWAY, HER)",
    "arp-i-am-the-gateway-only-for-her": "arp(me, GATEWAY, HER, target=her)",
    "arp-i-am-she": "arp(me, HER, GATEWAY, target=gateway)",
    "arp-gratuitous": "arp(me, HER, HER, REQUEST)",
    "arp-she-is-at-my-mac": "arp(her, HER, GATEWAY, inner=me)",
    "arp-i-am-at-her-mac": "arp(me, ME, GATEWAY, inner=her)",
    "arp-where-are-you": "arp(me, ME, HER, REQUEST)",
    "arp-of-nobody": "arp(me, '0.0.0.0', HER, REQUEST)",
    "router-advertisement": "frame(me, '33:33:00:00:00:01', IPV6, router_advertisement())",
    "vlan": "frame(me, gateway, VLAN, b'\\0\\7\\x08\\0' + udp(ME, GATEWAY))",
    "vlan-arp": "frame(me, EVERYBODY, VLAN, b'\\0\\0\\x08\\6' + arp(me, GATEWAY, HER)[14:])",
    "dhcp-offer": "frame(me, gateway, IPV4, udp(ME, '255.255.255.255', 67, 68))",
    "spanning-tree": "frame(me, '01:80:c2:00:00:00', 38, b'BB\\3' + bytes(35))",
    "lldp-under-her-mac": "frame(her, '01:80:c2:00:00:0e', 0x88CC, bytes(46))",
    "another-protocol": "frame(me, EVERYBODY, OTHER, bytes(46))",
}


def attack(lqchen: Place, ann: Place) -> str:
    """The lines that send all of ATTACKS, each with its name."""
    names = f"me, her, gateway = {lqchen.mac!r}, {ann.mac!r}, {mac_of(GATEWAY)!r}\n"
    names += f"ME, HER, GATEWAY = {lqchen.address!r}, {ann.address!r}, {GATEWAY!r}\n"
    return names + "".join(f"send('token-{name}', {made})\n" for name, made in ATTACKS.items())


@dataclass(frozen=True)
class Ear:
    """Who listens, and how it learns that all was sent."""

    listens: Callable[[str], str]
    """Has the attacker's program run there; what it printed."""
    device: str
    told: Callable[[], object]
    """Sends it END, which is allowed to arrive."""


def ear_in(place: Place) -> Ear:
    """In a container; the server tells it the end."""
    end = sends_end(GATEWAY, place.address, "lxcgpu0")
    return Ear(place.runs, "eth0", lambda: on_server(place.host, end))


def ear_on_server(other: Place) -> Ear:
    """On the server's side of the bridge; a container tells it the end."""
    end = sends_end(other.address, GATEWAY, "eth0")
    return Ear(lambda lines: on_server(other.host, lines), "lxcgpu0", lambda: other.runs(end))


def sends_end(source: str, target: str, device: str) -> str:
    """A line that sends END from one address to another, as both are allowed to."""
    packet = f"udp({source!r}, {target!r})"
    made = f"frame({mac_of(source)!r}, {mac_of(target)!r}, IPV4, {packet})"
    return f"send(END, {made}, device={device!r})"


def on_server(host: Host, lines: str) -> str:
    """What the attacker's program prints on the server itself."""
    return host.run(["/usr/bin/python3", "-"], stdin=f"{PROGRAM}\n{lines}").stdout


@contextmanager
def ears(host: Host, heard: dict[str, set[str]], **listeners: Ear) -> Iterator[None]:
    """Listen at these places meanwhile, until all of it has arrived."""
    files = {name: f"/tmp/listens-{name}" for name in listeners}
    host.sh(f"rm -f {' '.join(files.values())}")
    with ThreadPoolExecutor() as pool:
        listening = {
            name: pool.submit(ear.listens, f"listen({files[name]!r}, {ear.device!r})")
            for name, ear in listeners.items()
        }
        eventually(lambda: host.sh(f"ls {' '.join(files.values())}", check=False).ok)
        yield
        for name, ear in listeners.items():
            ear.told()
            heard[name] = set(listening[name].result().split()) - {attacker.END}


def interface(host: Host, user: str) -> str:
    """The host's end of a user's port."""
    uid = host.run(["id", "-u", user]).stdout.strip()
    links = json.loads(host.run(["ip", "-json", "link", "show", "master", "lxcgpu0"]).stdout)
    (name,) = (link["ifname"] for link in links if link["ifname"].startswith(f"veth{uid}_"))
    return str(name)


def learned(host: Host, user: str) -> list[str]:
    """The MACs that the bridge believes to be behind a user's port, beside the port's own."""
    argv = ["bridge", "-json", "fdb", "show", "dev", interface(host, user)]
    entries = json.loads(host.run(argv).stdout)
    return [e["mac"] for e in entries if e.get("state") != "permanent"]


class TestFrames:
    @pytest.mark.usefixtures("iptables_too")
    def test_no_frame_of_another_kind_arrives(self, gpu17: Host, lqchen: Place, ann: Place) -> None:
        # as after a restart with `nft list ruleset` saved
        gpu17.sh(f"nft list table bridge lxc-gpu >/tmp/saved; {FLUSH}; nft -f /tmp/saved")
        heard: dict[str, set[str]] = {}
        with ears(gpu17, heard, ann=ear_in(ann), server=ear_on_server(lqchen)):
            lqchen.runs(attack(lqchen, ann))
            lqchen.runs("flood(3000)")
        assert heard["ann"] == set()
        # "where is ann?" is the server's to answer
        assert heard["server"] <= {"token-arp-where-are-you"}
        assert set(learned(gpu17, "lqchen")) <= {lqchen.mac}
        known = gpu17.run(["ip", "neigh", "show", "dev", "lxcgpu0"]).stdout
        assert all(ann.mac in line for line in known.splitlines() if line.startswith(ann.address))
        assert lqchen.connects(OTHER_SERVER, 22) == "open", "its own frames pass"

    def test_the_same_frames_arrive_where_nothing_judges(
        self, gpu17: Host, lqchen: Place, ann: Place
    ) -> None:
        """So the test above can fail."""
        before = gpu17.read(BRIDGED)
        gpu17.sh(f"{FLUSH}; echo 0 >{BRIDGED}")
        heard: dict[str, set[str]] = {}
        try:
            with ears(gpu17, heard, ann=ear_in(ann), server=ear_on_server(lqchen)):
                lqchen.runs(attack(lqchen, ann))
            assert {"token-arp-i-am-the-gateway", "token-router-advertisement",
                    "token-straight-to-her", "token-to-everybody"} <= heard["ann"]  # fmt: skip
            assert {"token-her-mac", "token-vlan", "token-arp-i-am-she"} <= heard["server"]
            lqchen.runs("flood(100)")
            assert len(learned(gpu17, "lqchen")) > 50
        finally:
            gpu17.sh(f"echo {before.strip()} >{BRIDGED}; lxc-gpu reconcile; ip neigh flush all; "
                     "echo 1 >/sys/class/net/lxcgpu0/bridge/flush")  # fmt: skip
        for poisoned in (lqchen, ann):
            poisoned.types("ip neigh flush all")
        assert ann.connects(OTHER_SERVER, 22) == "open"

    def test_frames_for_somebody_who_stopped_go_to_nobody(
        self, fleet: Fleet, gpu17: Host, lqchen: Place, ann: Place
    ) -> None:
        """The bridge floods what it knows no port for."""
        gpu17.sh(f"ip neigh replace {ann.address} lladdr {ann.mac} nud permanent dev lxcgpu0")
        end_at_once(gpu17, "ann")
        send = f"import socket\nsocket.socket(2, 2).sendto(b'token-hers.', ({ann.address!r}, 9))"
        try:
            heard: dict[str, set[str]] = {}
            with ears(gpu17, heard, lqchen=ear_in(lqchen)):
                gpu17.run(["/usr/bin/python3", "-"], stdin=send)
            assert heard["lqchen"] == set()
        finally:
            gpu17.sh(f"ip neigh del {ann.address} dev lxcgpu0")
        assert fleet.types("ssh gpu17-manage start", user="ann").ok


# What root in a container types to be somebody else; ADDRESS and MAC are ann's.
DISGUISES = {
    "her address beside mine": "ip address add ADDRESS/16 dev eth0",
    "her address instead of mine": "ip address flush dev eth0; ip address add ADDRESS/16 dev eth0; "
                                   "ip route add default via 10.77.0.1",
    "her address and MAC": "ip link set eth0 down; ip link set eth0 address MAC; ip address flush "
                           "dev eth0; ip address add ADDRESS/16 dev eth0; ip link set eth0 up; "
                           "ip route add default via 10.77.0.1",
    "a macvlan": "ip link add link eth0 name hers address MAC type macvlan mode bridge; "
                 "ip address flush dev eth0; ip address add ADDRESS/16 dev hers; "
                 "ip link set hers up; ip route add default via 10.77.0.1",
    "a bridge of one's own": "ip link add own type bridge; ip address flush dev eth0; "
                             "ip link set eth0 master own; ip link set own address MAC up; "
                             "ip address add ADDRESS/16 dev own; "
                             "ip route add default via 10.77.0.1",
}  # fmt: skip


class TestDisguises:
    @pytest.mark.parametrize("disguise", DISGUISES)
    def test_nobody_becomes_ann(
        self, fleet: Fleet, gpu17: Host, spoilt: Place, ann: Place, disguise: str
    ) -> None:
        """While she runs, everybody still reaches her; while she is away, nobody answers.

        The attacker's own sshd would: it listens at every address that its container has.
        """
        spoilt.types(DISGUISES[disguise].replace("ADDRESS", ann.address).replace("MAC", ann.mac))
        assert ann.address in spoilt.types("ip -4 address")
        gets_out = f"gets_out({ann.address!r}, {OTHER_SERVER!r}, 22)"
        with ThreadPoolExecutor() as pool:
            out = pool.submit(spoilt.runs, gets_out)
            done = fleet.types("ssh gpu17 hostname", user="ann")
            assert done.stdout == "ann-gpu17\n", done.stderr
            assert out.result() == ""
            end_at_once(gpu17, "ann")
            gpu17.sh(f"ip neigh flush to {ann.address} dev lxcgpu0")
            out = pool.submit(spoilt.runs, gets_out)
            asked = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{LAN}/{ann.port}; head -c3 <&3'"
            answers = pool.map(lambda host: host.sh(asked, check=False), (gpu17, fleet.laptop))
            assert all("SSH" not in answer.stdout for answer in answers)
            assert out.result() == ""
        assert fleet.types("ssh gpu17-manage start", user="ann").ok
        assert fleet.types("ssh gpu17 hostname", user="ann").stdout == "ann-gpu17\n"


@pytest.fixture
def services(fleet: Fleet) -> Iterator[None]:
    """Both servers have a listener for the world, and ann's container one."""
    serve = ["systemd-run", "-q", "--unit=test-service", "/usr/bin/python3", "-m", "http.server"]
    for host in (fleet.gpu17, fleet.gpu18):
        host.run([*serve, str(SERVICE)])
    fleet.gpu17.sh("ip route replace 169.254.0.0/16 via 172.16.2.100")  # the lab has no way out
    yield
    fleet.gpu17.sh("ip route del 169.254.0.0/16")
    for host in (fleet.gpu17, fleet.gpu18):
        host.run(["systemctl", "stop", "test-service"])


class TestReach:
    def reached(self, lqchen: Place, ann: Place) -> dict[str, str]:
        """What lqchen's container reaches, by name."""
        targets = {
            "ann's ssh": (ann.address, 22),
            "ann's closed port": (ann.address, 81),
            "ann's mapped ssh": (LAN, ann.port),
            "own mapped ssh": (LAN, lqchen.port),
            "server's ssh, gateway": (GATEWAY, 22),
            "server's ssh, LAN": (LAN, 22),
            "server's service, gateway": (GATEWAY, SERVICE),
            "server's service, LAN": (LAN, SERVICE),
            "the other server's ssh": (OTHER_SERVER, 22),
            "the other server's service": (OTHER_SERVER, SERVICE),
            "the cloud's metadata": ("169.254.169.254", 80),
        }
        lines = "".join(f"connect({address!r}, {port})\n" for address, port in targets.values())
        return dict(zip(targets, lqchen.runs(lines).splitlines(), strict=True))

    @pytest.mark.usefixtures("services", "iptables_too")
    def test_only_what_the_fleet_allows(self, lqchen: Place, ann: Place) -> None:
        reached = self.reached(lqchen, ann)
        assert {name for name, how in reached.items() if how == "open"} == {
            "ann's mapped ssh", "own mapped ssh", "server's ssh, gateway", "server's ssh, LAN",
            "the other server's ssh", "the other server's service",
        }  # fmt: skip
        assert set(reached.values()) == {"open", "refused"}, "nobody waits for nothing"

    @pytest.mark.usefixtures("services")
    def test_a_commit_widens_it_and_another_one_takes_it_back(
        self, fleet: Fleet, gpu17: Host, lqchen: Place, ann: Place
    ) -> None:
        widen = f"printf 'reach:\\n  containers: true\\n  server: [22, {SERVICE}]\\n' >>fleet.yaml"
        fleet.commits("Let containers reach each other and a service", widen)
        try:
            assert reconcile(gpu17).ok
            reached = self.reached(lqchen, ann)
            assert {name for name, how in reached.items() if how != "open"} == {
                "ann's closed port", "the cloud's metadata",
            }  # fmt: skip
            heard: dict[str, set[str]] = {}
            with ears(gpu17, heard, ann=ear_in(ann)):
                lqchen.runs(attack(lqchen, ann))
            assert heard["ann"] == set(), "under their own names only"
        finally:
            fleet.commits("Back", "git revert -n HEAD")
            assert reconcile(gpu17).ok
        assert self.reached(lqchen, ann)["ann's ssh"] == "refused"
        assert self.reached(lqchen, ann)["server's service, LAN"] == "refused"

    def test_the_server_answers_names_where_it_is_the_resolver(
        self, fleet: Fleet, gpu17: Host, lqchen: Place
    ) -> None:
        serve = "s = socket.socket(2, 2); s.bind(('0.0.0.0', 53)); s.settimeout(20)\n"
        serve += "while True: s.sendto(b'answer', s.recvfrom(99)[1])"
        ask = "s = socket.socket(2, 2); s.settimeout(2)\n"
        ask += f"try:\n  s.sendto(b'?', ({LAN!r}, 53)); print(s.recv(9).decode())\n"
        ask += "except OSError: print('nothing')"
        unit = ["systemd-run", "-q", "--unit=test-names", "/usr/bin/python3", "-c"]
        gpu17.run([*unit, f"import socket; {serve}".replace("; s = ", "\ns = ")])
        try:
            assert lqchen.runs(ask) == "nothing"
            fleet.commits("The server resolves", f"printf 'nameservers: [{LAN}]\\n' >>fleet.yaml")
            assert reconcile(gpu17).ok
            assert lqchen.runs(ask) == "answer"
            named = gpu17.sh("lxc-gpu doctor | grep 'resolvers changed after'").stdout
            assert "lqchen" in named, "it runs with the resolvers of its start"
        finally:
            gpu17.sh("systemctl stop test-names")
            fleet.commits("Back", "git revert -n HEAD")
            assert reconcile(gpu17).ok

    def test_nobody_routes_past_the_mapped_ports(self, fleet: Fleet, lqchen: Place) -> None:
        """Somebody in the server's own network knows where the containers are."""
        fleet.laptop.sh(f"ip route add {lqchen.address} via {LAN}")
        try:
            tried = f"timeout 4 bash -c 'exec 3<>/dev/tcp/{lqchen.address}/22' 2>&1"
            assert "refused" in fleet.laptop.sh(tried, check=False).stdout
        finally:
            fleet.laptop.sh(f"ip route del {lqchen.address}")


class TestSilentConnections:
    """D3: who opens connections and says nothing keeps nobody else from their server."""

    HOLDS, READY = "/run/silent", "/tmp/silent-ready"
    STATUS = """
        cd $(mktemp -d)
        ask() { ssh gpu17-manage status >$1 2>&1 && touch $1.answered; }
        for each in $(seq 40); do ask $each & done
        wait
        ls | grep -c answered || cat *"""
    """40 at once, as a script does that looks at something; how many were answered."""

    @contextmanager
    def held(self, gpu17: Host, lqchen: Place) -> Iterator[list[int]]:
        """130 to each address of LAN, GATEWAY, OTHER_SERVER; in the end, how many each took."""
        got: list[int] = []
        gpu17.sh(f"rm -f {self.READY}; touch {self.HOLDS}")
        lines = "".join(
            f"kept{number} = silent({address!r}, 22, 130)\n"
            for number, address in enumerate((LAN, GATEWAY, OTHER_SERVER))
        )
        lines = f"{PROGRAM}\n{lines}hold({self.READY!r}, {self.HOLDS!r})\n"
        argv = lqchen.enter("/usr/bin/python3", "-")
        with ThreadPoolExecutor(1) as pool:
            attacks = pool.submit(gpu17.run, argv, stdin=lines, timeout=300)
            try:
                eventually(lambda: gpu17.sh(f"test -e {self.READY}", check=False).ok)
                yield got
            finally:
                gpu17.sh(f"rm -f {self.HOLDS} {self.READY}")
                got += [int(number) for number in attacks.result().stdout.split()]

    def test_keep_nobody_out(self, fleet: Fleet, gpu17: Host, lqchen: Place, ann: Place) -> None:
        with self.held(gpu17, lqchen) as got:
            assert lqchen.connects(LAN, 22) == "refused", "by itself it may have no more"
            both = f"greeting({LAN!r}, 22)\ngreeting({OTHER_SERVER!r}, 22)"
            assert ann.runs(both) == "SSH-\nSSH-"
            answered = fleet.types(self.STATUS, user="ann", wait=240)
            assert answered.stdout.split() == ["40"]
        here, at_the_bridge, elsewhere = got
        assert (here + at_the_bridge, elsewhere) == (MOST_SSH, MOST_SSH)
        eventually(lambda: lqchen.connects(LAN, 22) == "open")


class TestWithoutTheTable:
    """nft flush ruleset, or the time before the first round: closed, not open."""

    def test_nothing_gets_out_and_a_start_puts_it_back(
        self, fleet: Fleet, gpu17: Host, lqchen: Place
    ) -> None:
        gpu17.sh(FLUSH)
        assert lqchen.connects(OTHER_SERVER, 22) == "timeout"
        assert lqchen.connects(GATEWAY, 22) == "timeout"
        end_at_once(gpu17, "lqchen")
        assert fleet.types("ssh gpu17-manage start").ok
        assert place(gpu17, "lqchen").connects(OTHER_SERVER, 22) == "open"
        assert "lqchen" in gpu17.run(["nft", "list", "table", "bridge", "lxc-gpu"]).stdout

    def test_doctor_says_so(self, gpu17: Host) -> None:
        gpu17.sh(FLUSH)
        done = gpu17.run(["lxc-gpu", "doctor"], check=False)
        assert "The nftables table bridge lxc-gpu is missing" in done.stdout
        assert reconcile(gpu17).ok
        for set_ in ("ports", "identities"):
            gpu17.sh(f"nft flush set bridge lxc-gpu {set_}")
            done = gpu17.run(["lxc-gpu", "doctor"], check=False)
            assert "wrong MAC or address for ann, lqchen" in done.stdout
            assert reconcile(gpu17).ok

    def test_a_start_fails_where_nft_does(self, fleet: Fleet, gpu17: Host) -> None:
        end_at_once(gpu17, "lqchen")
        gpu17.sh(f"{FLUSH}; mv /usr/sbin/nft /usr/sbin/nft.away")
        try:
            done = fleet.types("ssh gpu17-manage start")
            assert not done.ok
            assert "nft" in done.stderr
            assert not running(gpu17, "lqchen")
        finally:
            gpu17.sh("mv /usr/sbin/nft.away /usr/sbin/nft")
        assert fleet.types("ssh gpu17-manage start").ok
