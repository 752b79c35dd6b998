"""Sixty containers: coming back after a reboot, and a round while they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from laboratory.hosts import Host, Lab

from tests.bench.figures.rounds import ROUND, state_of, timed
from tests.bench.measure import Figure, in_turn
from tests.lab.archives import small_template
from tests.lab.fleet import CONTAINERS

CONTAINERS_UP = 60
SERVER = "gpu18"
WIDTH = 4
"""How many start at the same time: AT_ONCE of shells/units/come_back.py."""
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
ALL_UP = f"until [ $(pgrep -fxc '/bin/sh /sbin/init') = {CONTAINERS_UP} ]; do sleep 0.05; done"
DOWN = "systemctl stop 'lxc-gpu@user*' 'bare-user*' 2>&-; sync"
MAKE_BARE = f"""
for user in $(cd {CONTAINERS}; ls -d user*); do
    ids=$(sed -n "s/^$user://p" /etc/subuid)
    bare=/var/lib/lxc-gpu/bare/$user
    mkdir -p $bare; chown ${{ids%:*}}:${{ids%:*}} $bare
    setpriv --reuid=$user --regid=$user --init-groups lxc-usernsexec -m b:0:$ids -- \\
        tar --extract --zstd --directory=$bare --numeric-owner --same-permissions \\
        </var/lib/lxc-gpu/templates/small
    sed "s|^lxc.rootfs.path = .*|lxc.rootfs.path = dir:$bare|" /run/lxc-gpu/$user.config \\
        >/run/lxc-gpu/$user.bare
done
"""
"""The same systems for lxc-start alone, unpacked as tar(1) does."""
BARE_START = f"""
start() {{
    systemd-run --quiet --unit=bare-$1 --uid=$1 --slice=lxc-gpu.slice --property=Delegate=yes \\
        --property=KillSignal=SIGRTMIN+3 --property=KillMode=mixed \\
        lxc-start --foreground --name=$1 --rcfile=/run/lxc-gpu/$1.bare
    main=$(systemctl show --property=MainPID --value bare-$1)
    until read -rd " " init <"/proc/$main/task/$main/children" &&
            grep -q ':0016 00000000:0000 0A' "/proc/$init/net/tcp"; do sleep 0.01; done 2>&-
}}
export -f start
ls /var/lib/lxc-gpu/bare | xargs --max-procs={WIDTH} --replace bash -c 'start {{}}'
{ALL_UP}
"""
"""A place is free again when something listens at the port of sshd, as it is for `start`."""
CAME_BACK = f"/usr/local/lib/lxc-gpu/come-back; {ALL_UP}"
REGISTERED = f"""
cd {CONTAINERS}
for user in user*; do
    echo 'no key' >../host_keys/$user
    touch ../running/$user
done
"""
"""What registrations and starts leave there."""
LEAVE = f"""
rm -rf /var/lib/lxc-gpu/bare /run/lxc-gpu/user*.bare
for user in $(cd {CONTAINERS}; ls -d user*); do
    rm -rf {CONTAINERS}/$user /var/lib/lxc-gpu/*/$user
done
"""


@contextmanager
def _sixty_up(lab: Lab) -> Iterator[Host]:
    """A server of which as many containers run."""
    host = lab.host(SERVER)
    with state_of(host, CONTAINERS_UP), small_template(host, SMALLEST_INIT, WANTED):
        try:
            host.sh(f"{ROUND} --kind container --kind containers_folder", timeout=600)
            host.sh(REGISTERED)
            host.sh(CAME_BACK, timeout=600)
            yield host
        finally:
            host.sh(f"{DOWN}; {LEAVE}", timeout=600)


def empty_round(lab: Lab, runs: int = 7) -> Figure:
    """Nothing to do, with what looks into containers that run."""
    kinds = "container limits lxcfs cpu_set device"
    more = f"{ROUND} {' '.join(f'--kind {kind}' for kind in kinds.split())}"
    with _sixty_up(lab) as host:
        timed(host, more)
        medians = in_turn(lambda: timed(host, more), lambda: timed(host, ROUND), runs)
    return Figure(
        f"round with nothing to do, {CONTAINERS_UP} containers that run",
        *medians,
        f"the same without {kinds}",
        "0.6 s more: 10 ms for each",
    )


def sixty(lab: Lab, runs: int = 3) -> Figure:
    """From the unit that brings them back until the init of each runs."""
    with _sixty_up(lab) as host:
        host.sh(f"{DOWN}; {MAKE_BARE}", timeout=600)
        medians = in_turn(lambda: _again(host, CAME_BACK), lambda: _again(host, BARE_START), runs)
    return Figure(
        f"{CONTAINERS_UP} containers that come back",
        *medians,
        f"lxc-start of as many, {WIDTH} at a time",
        "within 1.2",
    )


def _again(host: Host, script: str) -> float:
    """Seconds that it takes while none of them runs."""
    host.sh(f"{DOWN} || :", timeout=300)
    return timed(host, script)
