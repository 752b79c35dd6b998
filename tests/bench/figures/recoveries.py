"""recover and registration, beside the bare tar of the same archive in the same id map."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from laboratory.demo.story import NAME
from laboratory.hosts import Host, Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.figures.logins import start
from tests.bench.figures.snapshots import FILL, empty, fill
from tests.bench.measure import Figure, in_turn, seconds
from tests.lab.fleet import CONTAINERS

HERE = f"{CONTAINERS}/{NAME}"
NOTE = f"/var/lib/lxc-gpu/made/{NAME}"
"""Says that it was made: what is gone then is not made anew."""
STORE = f"{CONTAINERS}/.spares"
SPARES = "lxc-gpu-spares.service"
TEMPLATE = "/var/lib/lxc-gpu/templates/debian-12.tar.zst"
BARE = f"""
rm -rf /var/lib/lxc-gpu/bare.gone
ids=$(sed -n 's/^{NAME}://p' /etc/subuid)
mkdir /var/lib/lxc-gpu/bare; chown ${{ids%:*}}:${{ids%:*}} /var/lib/lxc-gpu/bare
sync --file-system /var/lib/lxc-gpu
"""
UNPACK = f"""
ids=$(sed -n 's/^{NAME}://p' /etc/subuid)
setpriv --reuid={NAME} --regid={NAME} --init-groups lxc-usernsexec -m b:0:$ids -- \\
    tar --extract --zstd --directory=/var/lib/lxc-gpu/bare --numeric-owner --same-permissions \\
    --xattrs --xattrs-include='*' --acls <$ARCHIVE
sync --file-system /var/lib/lxc-gpu/bare
"""
"""Until it is on the disk: a system that a power loss leaves empty is none."""
GONE = "mv /var/lib/lxc-gpu/bare /var/lib/lxc-gpu/bare.gone; rm -rf /var/lib/lxc-gpu/bare.gone"
OF_FLOOR = "tar --zstd -x of the same archive in the same id map, and sync"


def _bare(host: Host, archive: str) -> float:
    """Seconds of the bare unpacking; what it makes is removed afterwards."""
    host.sh(BARE, timeout=300)
    taken = seconds(lambda: host.sh(f"ARCHIVE={archive}\n{UNPACK}", timeout=600))
    host.sh(GONE, timeout=300)
    return taken


def of_3_gb(lab: Lab, runs: int = 3) -> Figure:
    """`recover` of a stopped container, as its user types it."""
    host = lab.host("gpu17")
    start(lab)
    fill(host)
    types(lab, "snapshot bench")
    types(lab, "stop")
    archive = f"/var/lib/lxc-gpu/snapshots/{NAME}/bench.tar.zst"

    def ours() -> float:
        host.sh(f"rm -rf {HERE}/rootfs.before; sync --file-system {HERE}", timeout=300)
        token = re.findall(r"--confirm (\w{8})", types(lab, "recover bench"))[-1]
        return seconds(lambda: types(lab, f"recover bench --confirm {token}"))

    try:
        medians = in_turn(ours, lambda: _bare(host, archive), runs)
    finally:
        empty(host)
        gone = f"/var/lib/lxc-gpu/snapshots/{NAME}/bench.* {HERE}/rootfs.before"
        host.sh(f"rm -rf {gone}", timeout=300)
        start(lab)
    return Figure("recover a 3 GB container", *medians, OF_FLOOR, "within 1.1")


def rebuild(lab: Lab, runs: int = 5) -> Figure:
    """`rebuild` of a container that runs, until its sshd answers; a system is ready.

    The floor is what can't be had for less: its own shutdown, and a sync of the file system.
    """
    host = lab.host("gpu17")

    def ours() -> float:
        ready = f"systemctl start {SPARES}; ls {STORE}/*/system >/dev/null"
        again = f"rm -rf {HERE}/rootfs.before; {ready}; sync --file-system {HERE}"
        host.sh(again, timeout=300)
        start(lab)
        token = re.findall(r"--confirm (\w{8})", types(lab, "rebuild"))[-1]
        return seconds(lambda: types(lab, f"rebuild --confirm {token}"))

    def floor() -> float:
        start(lab)
        down = f"systemctl stop lxc-gpu@{NAME}; sync --file-system {HERE}"
        return seconds(lambda: host.sh(down, timeout=300))

    try:
        medians = in_turn(ours, floor, runs)
    finally:
        host.sh(f"rm -rf {HERE}/rootfs.before", timeout=300)
        start(lab)
    return Figure("rebuild, container running, until sshd answers", *medians,
                  "the container's own shutdown, and syncfs", "1.0 s more")  # fmt: skip


def registration(lab: Lab, runs: int = 3) -> Figure:
    """A round that makes one container, from the story's template."""
    with _unpacking(lab):
        return _registration(lab, "registration, 280 MB template", runs)


def registration_3_gb(lab: Lab, runs: int = 3) -> Iterator[Figure]:
    """The same with generated files beside the template's, 3.1 GB; then with a system ready."""
    host = lab.host("gpu17")
    large = "/srv/large.tar.zst"
    host.sh(
        f"""
        mkdir /srv/large && cd /srv/large && tar -x --zstd --numeric-owner -f {TEMPLATE}
        python3 - <<'END'\n{FILL}\nEND
        cd /srv/large && tar -c --numeric-owner --exclude='./dev/*' . | zstd -q -T0 >{large}
        rm -rf /srv/large
        mount --bind {large} {TEMPLATE}""",
        timeout=900,
    )  # the lab's own can't be written to
    try:
        with _unpacking(lab):
            yield _registration(lab, "registration, 3 GB template", runs)
        yield from _taking(lab, "3 GB template, spare ready", runs)
    finally:
        host.sh(f"systemctl stop {SPARES}; umount {TEMPLATE}; rm {large}")  # it reads there


@contextmanager
def _unpacking(lab: Lab) -> Iterator[None]:
    """No system is ready, and none is made."""
    host = lab.host("gpu17")
    drop_in = f"/run/systemd/system/{SPARES}.d"
    host.sh(f"mkdir -p {drop_in}; printf '[Unit]\nConditionPathExists=!/\n' >{drop_in}/bench.conf; "
            f"systemctl daemon-reload; systemctl stop {SPARES}; rm -rf {STORE}/*",
            timeout=300)  # fmt: skip
    try:
        yield
    finally:
        host.sh(f"rm -r {drop_in}; systemctl daemon-reload")


def _taking(lab: Lab, what: str, runs: int) -> Iterator[Figure]:
    """When a system is ready: what its user types, and what of that the system itself takes."""
    host = lab.host("gpu17")

    def registers() -> float:
        line = f"ssh register@gpu17-manage {NAME} 2>&1"
        return seconds(lambda: lab.host("laptop").sh(line, user=LAPTOP_USER, timeout=600))

    def makes() -> float:
        argv = ["lxc-gpu", "reconcile", "--user", NAME, "--kind", "container"]
        return seconds(lambda: host.run(argv, timeout=600))

    def anew(act: Callable[[], float]) -> float:
        again = f"rm -rf {HERE} {NOTE}; systemctl start {SPARES}; ls {STORE}/*/system"
        host.sh(f"{again}; sync --file-system {CONTAINERS}", timeout=900)
        return act()

    with _put_aside(lab):
        typed = in_turn(lambda: anew(registers), registers, runs)
        system = in_turn(lambda: anew(makes), makes, runs)
    yield Figure(f"registration, {what}", *typed, "the same when the container is there", "1.0 s")
    yield Figure(f"the system of a registration, {what}", *system,
                 "the same round, with nothing to do", "0.1 s more")  # fmt: skip


@contextmanager
def _put_aside(lab: Lab) -> Iterator[None]:
    """The story's container is away meanwhile."""
    host, aside = lab.host("gpu17"), f"{CONTAINERS}/.{NAME}-of-bench"
    host.sh(f"systemctl stop lxc-gpu@{NAME}; mv {HERE} {aside}")
    try:
        yield
    finally:
        host.sh(f"rm -rf {HERE}; mv {aside} {HERE}", timeout=300)
        start(lab)


def _registration(lab: Lab, what: str, runs: int) -> Figure:
    host = lab.host("gpu17")

    def ours() -> float:
        host.sh(f"rm -rf {HERE} {NOTE}; sync --file-system {CONTAINERS}", timeout=300)
        argv = ["lxc-gpu", "reconcile", "--user", NAME, "--kind", "container"]
        return seconds(lambda: host.run(argv, timeout=600))

    with _put_aside(lab):
        medians = in_turn(ours, lambda: _bare(host, TEMPLATE), runs)
    return Figure(what, *medians, OF_FLOOR, "within 1.1")


def types(lab: Lab, verb: str) -> str:
    """What the researcher types, and all that is said."""
    line = f"ssh gpu17-manage {verb} 2>&1 || test $? = 3"
    return lab.host("laptop").sh(line, user=LAPTOP_USER, timeout=900).stdout
