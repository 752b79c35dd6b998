"""Many containers: coming back after a reboot, and a round while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

from laboratory.hosts import Host, Lab

from tests.bench.figures.rounds import ROUND, state_of, timed
from tests.bench.measure import Figure, in_turn
from tests.lab.archives import small_template
from tests.lab.fleet import CONTAINERS

CONTAINERS_UP = 60
DEBIANS_UP = 20
"""Sixty fit into 24 GiB, with 34 MB for each; but to make and remove as many takes minutes."""
SERVER = "gpu18"
WIDTH = 4
"""How many start at the same time: AT_ONCE of shells/units/come_back.py."""
Template = AbstractContextManager[object]
"""Containers are made of it for as long as the block."""
SMALLEST_INIT = """
rm usr/sbin/init
cat >usr/sbin/init <<'END'
#!/bin/sh
# ends as systemd does in a container, by SIGRTMIN+3
trap 'exit 0' 37
perl -MSocket -e '
    socket S, PF_INET, SOCK_STREAM, 0; bind S, sockaddr_in 22, INADDR_ANY; listen S, 9;
    while (accept C, S) { send C, "SSH-2.0-none\\r\\n", 0; close C }
' &
sleep 1000000 & wait
END
chmod 755 usr/sbin/init
mkdir -p dev proc sys run tmp
"""
"""What a container's own system takes is not measured; a start waits for sshd's first words."""
WANTED = (
    "./usr/sbin/init ./usr/bin/sh ./usr/bin/dash ./usr/bin/sleep ./dev ./proc ./sys ./run ./tmp"
    " ./usr/bin/perl ./usr/lib/*/perl-base ./usr/lib/*/libm.so.6 ./usr/lib/*/libcrypt.so.*"
)
ANSWERED = r"""
for address in $(sed -n 's|^lxc.net.0.ipv4.address = \(.*\)/.*|\1|p' /run/lxc-gpu/user*.config); do
    until exec 4<>/dev/tcp/$address/22 && read -ru 4 banner && [[ $banner == SSH-2.0-* ]]; do
        sleep 0.01
    done 2>/dev/null
done
"""
"""Until each sshd has said its first words: where both ours and the floor end."""
DOWN = """
systemctl list-units --plain --no-legend 'lxc-gpu@user*' 'bare@user*' | cut -d ' ' -f 1 |
    xargs --no-run-if-empty --max-args=8 systemctl stop
while grep -q veth /proc/net/dev; do sleep 0.1; done
sync
"""
"""A few at a time, so that each shuts down in order; until their networks are gone."""
BARE_UNIT = """
sed '/^ExecSt.*P/d' /etc/systemd/system/lxc-gpu@.service >/run/systemd/system/bare@.service
systemctl daemon-reload
"""
"""The unit of containers, with its limits, and nothing that runs before lxc-start or after it."""
SHOW = f"""
for user in $(cd {CONTAINERS}; ls -d user*); do /usr/local/lib/lxc-gpu/attach $user; done
"""
"""lxc-start alone begins with the same trees; they go with a container of ours."""
BARE_START = f"""
start() {{
    systemctl start bare@$1
    main=$(systemctl show --property=MainPID --value bare@$1)
    exec 3<> <(:)
    until read -rd " " init <"/proc/$main/task/$main/children" &&
            [[ ! /proc/$init/ns/net -ef /proc/self/ns/net ]] &&
            mapfile sockets <"/proc/$init/net/sockstat" &&
            [[ ${{sockets[*]}} == *'TCP: inuse '[1-9]* ]]; do
        ! read -rt 0.01 -u 3
    done 2>/dev/null
}}
export -f start
cd {CONTAINERS}
ls -d user* | xargs --max-procs={WIDTH} --replace bash -c 'start {{}}'
{ANSWERED}
"""
"""A place is free again when something listens inside, as it is for `start`. Before a child of
lxc-start has a network of its own, the server's sshd would seem to be its. The loop starts no
program, and counts sockets: to list them, the kernel goes through all that there could be."""
CPU_TIME = """
cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null ||
    sed -n 's/^usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat
"""
"""Nanoseconds, of control groups of the first or of the second version."""
CAME_BACK = f"/usr/local/lib/lxc-gpu/come-back; {ANSWERED}"
REGISTERED = f"""
cd {CONTAINERS}
for user in user*; do
    ssh-keygen -q -t ed25519 -N '' -C '' -f ../host_keys/$user
    rm ../host_keys/$user.pub
    touch ../running/$user
done
"""
"""What registrations and starts leave there."""
LEAVE = f"""
rm -f /run/systemd/system/bare@.service; systemctl daemon-reload
for user in $(cd {CONTAINERS}; ls -d user*); do
    umount --quiet /run/lxc-gpu/systems/$user || :
    rm -rf {CONTAINERS}/$user /var/lib/lxc-gpu/*/$user /run/lxc-gpu/$user.config
done
"""


@contextmanager
def _up(lab: Lab, count: int, template: Callable[[Host], Template] = nullcontext) -> Iterator[Host]:
    """A server of which as many containers run, made of a template: the lab's, or another one."""
    host = lab.host(SERVER)
    with state_of(host, count), template(host):
        try:
            host.sh(f"{ROUND} --kind container --kind containers_folder", timeout=1800)
            host.sh(REGISTERED)
            host.sh(CAME_BACK, timeout=600)
            yield host
        finally:
            host.sh(f"{DOWN}{LEAVE}", timeout=600)


def _smallest(host: Host) -> Template:
    return small_template(host, SMALLEST_INIT, WANTED)


def empty_round(lab: Lab, runs: int = 7) -> Figure:
    """Nothing to do, with what looks into containers that run."""
    kinds = "container limits lxcfs cpu_set device"
    more = f"{ROUND} {' '.join(f'--kind {kind}' for kind in kinds.split())}"
    with _up(lab, CONTAINERS_UP, _smallest) as host:
        timed(host, more)
        medians = in_turn(lambda: timed(host, more), lambda: timed(host, ROUND), runs)
    return Figure(
        f"round with nothing to do, {CONTAINERS_UP} containers that run",
        *medians,
        f"the same without {kinds}",
        "0.6 s more: 10 ms for each",
    )


def smallest(lab: Lab, runs: int = 3) -> Iterator[Figure]:
    """Systems that do nothing: what a start itself takes."""
    with _up(lab, CONTAINERS_UP, _smallest) as host:
        yield from _figures(host, f"{CONTAINERS_UP} containers that come back", runs)


def debian(lab: Lab, runs: int = 3) -> Iterator[Figure]:
    """Whole systems of the lab's template, with systemd: what people wait for after a reboot."""
    with _up(lab, DEBIANS_UP) as host:
        yield from _figures(host, f"{DEBIANS_UP} systems of Debian that come back", runs)


def _figures(host: Host, what: str, runs: int) -> Iterator[Figure]:
    """From the unit that brings them back until the sshd of each answers."""
    host.sh(BARE_UNIT)
    pairs = [(*_again(host, CAME_BACK), *_again(host, BARE_START, SHOW)) for _ in range(runs)]
    ours, ours_cpu, floor, floor_cpu = map(median, zip(*pairs, strict=True))
    of_floor = f"lxc-start of the same, {WIDTH} at a time, in units with the same limits"
    yield Figure(what, ours, floor, of_floor, "within 1.2")
    yield Figure(f"{what}: CPU time", ours_cpu, floor_cpu, of_floor, "within 1.2")


def _again(host: Host, script: str, before: str = "") -> tuple[float, float]:
    """Seconds that it takes while none of them runs, and seconds of CPU time of the server."""
    host.sh(f"{DOWN}{before}", timeout=300)
    before_it = _cpu_time(host)
    taken = timed(host, script)
    return taken, _cpu_time(host) - before_it


def _cpu_time(host: Host) -> float:
    """Seconds of CPU time that the server took so far."""
    return int(host.sh(CPU_TIME).stdout) / 1e9
