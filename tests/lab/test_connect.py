"""`connect`: with the other ssh configuration, everything works on a container that is stopped."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host
from laboratory.layout import DOMAIN

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, reconcile, running
from tests.patience import eventually

STARTING = "- starting the container\n"
NO_MAPPING = "mangle {} PREROUTING -d 172.16.2.17 -p tcp -m multiport --dports 22000:25999 -j DROP"
"""Drops whatever would reach a container by its mapped ssh port."""
SERVE = r"""
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8888", Listen => 9) or die;
while (my $visitor = $server->accept) {
    sysread $visitor, my $said, 9999;
    print $visitor "HTTP/1.0 200 OK\r\n\r\ninside\n"; close $visitor;
}
"""
"""A page at the container's own localhost, as Jupyter's and VS Code's are."""


@pytest.fixture(scope="module")
def through(fleet: Fleet) -> Iterator[Fleet]:
    """lqchen saved the other configuration; mapped ports lead nowhere, so it can't be those."""
    fleet.gpu17.sh(f"iptables -t {NO_MAPPING.format('-I')}")
    fetch = f"curl -fsS http://iam.{DOMAIN}/user/lqchen/.ssh/config-connect -o"
    fleet.types(f"{fetch} ~/.ssh/lxc-gpu.config && chmod 600 ~/.ssh/lxc-gpu.config")
    direct = "ssh -o ConnectTimeout=2 -o ProxyCommand=none gpu17 true"
    assert "timed out" in fleet.types(direct).stderr
    yield fleet
    fleet.gpu17.sh(f"iptables -t {NO_MAPPING.format('-D')}")
    fleet.fetch_ssh_files("lqchen")


@pytest.fixture
def stopped(through: Fleet) -> Fleet:
    """The container is down when the test begins."""
    end_at_once(through.gpu17, "lqchen")
    return through


def passing(host: Host) -> int:
    """How many connections pass through the server just now."""
    return int(host.sh("pgrep -c -u lqchen -f login-shell || true").stdout)


def good(done: Finished) -> Finished:
    """What ended well."""
    assert done.ok, done.stderr
    return done


class TestStopped:
    def test_log_in(self, stopped: Fleet) -> None:
        done = good(stopped.types("ssh gpu17 hostname"))
        assert done.stdout == "lqchen-gpu17\n"
        assert STARTING in done.stderr
        done = good(stopped.types("ssh gpu17 hostname"))
        assert (done.stdout, done.stderr) == ("lqchen-gpu17\n", ""), "nothing to say this time"

    def test_copy(self, stopped: Fleet) -> None:
        """scp both ways, sftp, tar; every byte arrives, and nothing but the bytes."""
        done = good(
            stopped.types("""
            head -c 5000000 /dev/urandom >there
            scp -q there gpu17:copied && scp -q gpu17:copied back && cmp there back
            printf 'get copied sftped\\nrm copied\\n' | sftp -q -b - gpu17 >&2 && cmp there sftped
            tar c there | ssh gpu17 'rm -rf in; mkdir in; cd in; tar x; tar c there' >packed
            rm -rf out && mkdir out && tar x -C out <packed && cmp there out/there
            echo all the same""")
        )
        assert done.stdout == "all the same\n"
        assert STARTING in done.stderr

    def test_many_at_once(self, stopped: Fleet) -> None:
        """As editors do: several connections, when the container isn't even up."""
        with ThreadPoolExecutor() as pool:
            done = list(pool.map(stopped.types, [f"ssh gpu17 echo {n}" for n in range(5)]))
        assert [each.stdout for each in done] == [f"{n}\n" for n in range(5)], done

    def test_what_editors_need(self, stopped: Fleet) -> None:
        """A script on stdin, forwarded ports, and a SOCKS proxy, over one connection each."""
        script = (
            f"sudo systemd-run -q --collect --unit=page perl -e {shlex.quote(SERVE)}\necho $0\n"
        )
        assert good(stopped.types("ssh -T gpu17 bash -s", stdin=script)).stdout == "bash\n"
        done = good(stopped.types("""
            ssh -N -L 9998:localhost:8888 -D 9997 gpu17 & trap "kill $!" EXIT
            page() { until curl -sS --max-time 20 "$@"; do test $SECONDS -lt 60; sleep 0.2; done }
            page http://localhost:9998/
            page --socks5-hostname localhost:9997 http://localhost:8888/""", wait=120))  # fmt: skip
        assert done.stdout == "inside\ninside\n"


class TestEnds:
    def test_the_end_of_what_is_said_is_passed_on(self, through: Fleet) -> None:
        """The container still answers after the laptop has said everything."""
        ask = "printf abc | ssh gpu17 'cat; sleep 1; echo; echo end; exit 7'"
        done = good(through.types(f"{ask} || echo $?"))
        assert done.stdout == "abc\nend\n7\n"

    def test_when_the_container_dies(self, through: Fleet) -> None:
        assert through.types("ssh gpu17 true").ok
        with ThreadPoolExecutor() as pool:
            session = pool.submit(through.types, "ssh gpu17 sleep 100")
            eventually(lambda: passing(through.gpu17))
            time.sleep(1)
            begun = time.monotonic()
            end_at_once(through.gpu17, "lqchen")
            assert session.result().status == 255
        assert time.monotonic() - begun < 20
        eventually(lambda: not passing(through.gpu17))

    def test_when_the_laptop_dies(self, through: Fleet) -> None:
        assert through.types("ssh gpu17 true").ok
        done = through.types("timeout --signal=KILL 3 ssh gpu17 'sleep 54321'")
        assert done.status == 137
        eventually(lambda: not passing(through.gpu17))


class TestManyOfThem:
    def test_beyond_fifty_are_refused_in_words_and_no_neighbour_notices(
        self, through: Fleet
    ) -> None:
        gpu17 = through.gpu17
        good(through.types("ssh gpu17 true"))
        eventually(lambda: not passing(gpu17))
        transfer = "login-shell -c internal-sftp"
        refused_transfer = f"runuser -u lqchen -- /usr/local/lib/lxc-gpu/{transfer}"
        gpu17.sh(f"""
            systemd-run -q --unit=crowd sh -c '
                for n in $(seq 50); do sleep infinity | {refused_transfer} >/dev/null & done; wait'
            """)  # fmt: skip
        try:
            crowd = f"pgrep -u lqchen -f '{transfer}' | xargs -r ps -o comm= -p"
            count = f"{crowd} | grep -c login-shell || true"
            eventually(lambda: gpu17.sh(count).stdout == "50\n")
            done = through.types("ssh gpu17 true")
            assert done.status == 255, done
            assert "✗ 50 connections of yours pass through this server" in done.stderr
            good(through.types("ssh gpu17-manage status"))  # verbs go on
            good(through.types("ssh -T gpu17-manage connect </dev/null", user="ann"))
        finally:
            gpu17.sh("systemctl stop crowd")
        eventually(lambda: not passing(gpu17))
        good(through.types("ssh gpu17 true"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("ssh -tt gpu17-manage connect", "`connect` is for ssh itself, as a ProxyCommand"),
            ("ssh gpu17-manage connect ann", "✗ `connect` takes no `ann`."),
            ("ssh gpu17-manage connect --json", "✗ `connect` takes no `--json`."),
        ],
    )
    def test_by_hand(self, through: Fleet, line: str, said: str) -> None:
        done = through.types(line)
        assert done.status == 1
        assert said in done.stderr + (done.stdout if "-tt" in line else "")
        assert done.stdout == "" or "-tt" in line

    def test_who_has_left(self, through: Fleet) -> None:
        through.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former/")
        try:
            assert reconcile(through.gpu17).ok
            done = through.types("ssh gpu17 true")
            assert done.status == 255
            assert "Permission denied (publickey)" in done.stderr
            assert not running(through.gpu17, "lqchen")
        finally:
            through.commits("lqchen is back", "git mv former/lqchen.yaml users/")
            assert reconcile(through.gpu17).ok
        assert through.types("ssh gpu17 true").ok

    def test_a_host_key_that_isn_t_the_container_s(self, through: Fleet) -> None:
        """What answers behind the pipe is judged as strictly as without it."""
        spoil = "sed -i '/^gpu17,/s/AAAA.*/AAAAC3NzaC1lZDI1NTE5AAAAI"
        spoil += "BuHrozSwXnaBNRAQ3rhR3YpOaTYIx6G5cfqYd7tdJMj/' ~/.ssh/lxc-gpu.known_hosts"
        through.types(f"cp ~/.ssh/lxc-gpu.known_hosts kept; {spoil}")
        try:
            done = through.types("ssh gpu17 true")
            assert done.status == 255
            assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
        finally:
            through.types("mv kept ~/.ssh/lxc-gpu.known_hosts")
