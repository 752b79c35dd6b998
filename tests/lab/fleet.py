"""The lab as a fleet with people in it: what a test types, on which machine, as whom."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import pytest
from laboratory.hosts import Host, Lab
from laboratory.layout import AD, DOMAIN, OPENLDAP
from laboratory.wiring import CLONE, GPU_SERVERS

from state.command import Finished
from state.errors import LxcGpuError
from tests.patience import eventually

KEY = ".ssh/id_ed25519"
BARE = "/var/lib/lxc-gpu/state.git"
CONTAINERS = "/var/lib/lxc-gpu/containers"
SYSTEM = f"{CONTAINERS}/lqchen/rootfs/system"
"""What lqchen's container has as `/`, where the server's root finds it: it is stored raw."""
MARKER = ".lxc-gpu-containers"
"""Says, in that folder, whose containers these are."""
BAIT = "/srv/bait"
"""A folder of a server that everybody may write to: the worst case for a link that is followed."""
KEYS = "/etc/lxc-gpu/authorized_keys"
STARTS_ROUNDS = "lxc-gpu-reconcile.timer lxc-gpu-watch.service"
"""What has rounds run by itself on a server; so do nudges, with the key of `iam`."""
LOOKS = "lxc-gpu-reservations.timer"
"""Looks each minute at who is on reserved GPUs: asks NVML, and would tell people of other tests."""
SPARES_WANTED = "/run/lxc-gpu/spares-of-tests"
"""While this file is there, a server makes systems ready."""
SPARES_ASIDE = f"""
mkdir -p /run/systemd/system/lxc-gpu-spares.service.d
cat >/run/systemd/system/lxc-gpu-spares.service.d/tests.conf <<'END'
[Unit]
ConditionPathExists={SPARES_WANTED}
[Service]
CPUSchedulingPolicy=other
IOSchedulingClass=best-effort
END
systemctl daemon-reload
systemctl stop lxc-gpu-spares || true
"""
"""Systems are made ready in the tests that are about them only: they would read and write below
what others mount and unmount. There it takes its share, or it would get none while tests run."""
NO_TERMINAL = "Pseudo-terminal will not be allocated because stdin is not a terminal.\n"
"""What ssh says because nobody sits at the laptop."""
PEOPLE = {"lqchen": ("Lequn Chen", "LQChen"), "ann": ("Ann Example", "ann")}
"""Whom the tests know, with full name and login; both have a container on gpu17."""
EXTRA_PASSWD = "/var/lib/extrausers/passwd"
OTHER_SOURCE = "sed -i '/^passwd:/s/$/ extrausers/' /etc/nsswitch.conf"
"""Has a server look accounts up in EXTRA_PASSWD, too, as in a directory (libnss-extrausers)."""
NO_OTHER_SOURCE = f"sed -i 's/ extrausers//' /etc/nsswitch.conf; rm -f {EXTRA_PASSWD}"
in_both_directories = pytest.mark.parametrize(
    "fleet", [OPENLDAP, pytest.param(AD, marks=pytest.mark.matrix)], indirect=True
)
"""For tests of what the page does with a directory; the second one under --all only."""
SERVICES = {OPENLDAP: "slapd", AD: "samba-ad-dc"}
"""What runs on the machines of a directory."""
WATCHED = """
sha256sum /etc/passwd /etc/shadow /etc/group /etc/subuid /etc/subgid /etc/lxc/lxc-usernet
sha256sum /etc/lxc-gpu/authorized_keys/* /var/lib/lxc-gpu/host_keys/* /var/lib/lxc-gpu/view.json
for table in nat filter; do iptables-save -t $table | grep -v '^[#:]'; done
nft list table bridge lxc-gpu
ip -brief -4 address show dev lxcgpu0
systemctl list-units --plain --no-legend 'lxc-gpu@*' | sort
ls -ln /var/lib/lxc-gpu/containers /home
"""
"""Prints whatever of a server a refused request could have changed."""


@dataclass(frozen=True)
class Fleet:
    """The lab's machines, and what people do on them."""

    lab: Lab

    @cached_property
    def laptop(self) -> Host:
        """Where everybody types."""
        return self.lab.host("laptop")

    @cached_property
    def iam(self) -> Host:
        """Where the state repository is."""
        return self.lab.host("iam")

    @cached_property
    def gpu17(self) -> Host:
        """Where lqchen and ann have their containers."""
        return self.lab.host("gpu17")

    @cached_property
    def gpu18(self) -> Host:
        """Where nobody has one, unless a test makes it."""
        return self.lab.host("gpu18")

    def types(
        self, line: str, *, user: str = "lqchen", stdin: str | bytes | None = None, wait: float = 60
    ) -> Finished:
        """What a person at the laptop gets for a line."""
        done = self.laptop.sh(line, user=user, stdin=stdin, timeout=wait, check=False)
        return Finished(done.argv, done.status, done.stdout, done.stderr.replace(NO_TERMINAL, ""))

    def commits(self, message: str, script: str) -> str:
        """The sysadmin changes the state by a script, commits with a signature and pushes."""
        return self.laptop.sh(f"""
            cd {CLONE}
            git fetch -q && git reset -q --hard origin/main
            {script}
            git add -A
            git diff --cached --quiet || git commit -q -m {shlex.quote(message)}
            git push -q
            git rev-parse HEAD""").stdout.strip()

    def commits_at_last(self, message: str, script: str) -> str:
        """The same while others push as well: again, until nobody was faster."""
        for _ in range(20):
            try:
                return self.commits(message, script)
            except LxcGpuError:
                continue
        raise AssertionError(f"never first in 20 tries: {message}")

    def introduce(self, name: str) -> None:
        """Give a person an account and a key on the laptop, and a file in the state."""
        full_name, login = PEOPLE[name]
        self.laptop.sh(f"""
            id {name} >/dev/null 2>&1 || useradd --create-home {name}
            cd /home/{name}
            test -e {KEY} || runuser -u {name} -- sh -c '
                mkdir -p -m 700 .ssh && ssh-keygen -q -t ed25519 -N "" -f {KEY}'""")
        key = " ".join(self.laptop.read(f"/home/{name}/{KEY}.pub").split()[:2])
        files = f"cd {CLONE}; git fetch -q; for where in users former; do"
        files += f" git show origin/main:$where/{name}.yaml 2>&- || true; done"
        known = self.laptop.sh(files).stdout
        if known:
            known = known[: known.index("keys:")]
        else:
            number = self._free_number()
            known = f"name: {full_name}\nlogin: {login}\nuid: {20000 + number}\n"
            known += f"port: {22000 + number}\nsubid: {self.first_subid() + number * 262_144}\n"
        self.commits(f"{name} has a key", f"""
            test ! -e former/{name}.yaml || git mv former/{name}.yaml users/
            mkdir -p users
            grep -qsxF '  - {key}' users/{name}.yaml || cat >users/{name}.yaml <<'END'
{known}keys:
  - {key}
END""")  # fmt: skip

    def first_subid(self) -> int:
        """Where subordinate ids begin; fleets of earlier releases say nothing about it."""
        said = self.laptop.sh(f"sed -n 's/^subids: {{first: //p' {CLONE}/fleet.yaml").stdout
        return int(said.partition(",")[0] or 10_000_000)

    def _free_number(self) -> int:
        files = self.laptop.sh(f"cd {CLONE}; cat users/*.yaml former/*.yaml 2>&- || true").stdout
        taken = [int(uid) for uid in re.findall(r"^uid: (\d+)", files, re.M)]
        return max(taken, default=19_999) - 19_999

    def register(self, name: str, server: str, wait: float = 180) -> Finished:
        """`ssh register@...`, with the ssh files fetched before and after."""
        self.fetch_ssh_files(name)
        done = self.types(f"ssh register@{server}-manage {name}", user=name, wait=wait)
        self.fetch_ssh_files(name)
        return done

    def fetch_ssh_files(self, name: str) -> None:
        """What the person's page says to paste."""
        self.laptop.sh(
            f"""
            cd ~/.ssh
            for file in config known_hosts; do
                curl -fsS http://iam.{DOMAIN}/user/{name}/.ssh/$file -o lxc-gpu.$file
            done
            grep -qsx 'Include lxc-gpu.config' config || echo 'Include lxc-gpu.config' >>config
            chmod 600 config lxc-gpu.*""",
            user=name,
        )

    def rounds(self) -> None:
        """A round on every GPU server that has to converge, side by side."""
        with ThreadPoolExecutor() as pool:
            for done in pool.map(reconcile, map(self.lab.host, GPU_SERVERS)):
                assert done.ok, done.stdout + done.stderr


def empty(fleet: Fleet, name: str) -> None:
    """Nobody is registered on a server, and it keeps nothing of anybody, whatever tests left."""
    fleet.commits(f"Nobody on {name}", f"git rm -q --ignore-unmatch 'registrations/{name}/*.yaml'")
    host = fleet.lab.host(name)
    done = reconcile(host)
    assert done.ok, done.stdout + done.stderr
    for user in PEOPLE:
        host.run(["lxc-gpu", "purge", user, "--yes"], timeout=120)


def reconcile(host: Host, *words: str) -> Finished:
    """`lxc-gpu reconcile`, whatever comes of it."""
    return host.run(["lxc-gpu", "reconcile", *words], timeout=180, check=False)


def plan(host: Host) -> list[str]:
    """The words of the plan, a line each."""
    facts = json.loads(host.run(["lxc-gpu", "plan", "--json"], check=False).stdout)
    return [f"{line['kind']}: {line['words']}" for line in facts["plan"]]


def watched(host: Host) -> str:
    """A text that differs if anything of a server did."""
    return host.sh(WATCHED).stdout


def in_container(
    host: Host, user: str, script: str, *, check: bool = True, wait: float = 60
) -> Finished:
    """Run a script as the container's root in its root folder, whether or not it runs.

    As the host's root sees it: with the container's ids, but no program of the container.
    """
    enter = f"""
        ids=$(sed -n 's/^{user}://p' /etc/subuid)
        slot={CONTAINERS}/{user}/rootfs
        over=/opt/lxc-gpu/packages/reconciler/mounts/over.py
        exec /usr/bin/python3 -IS $over ${{ids/:/ }} $slot -- \\
            setpriv --reuid={user} --regid={user} --init-groups \\
            lxc-usernsexec -m b:0:$ids -- bash -euc "$1"
        """
    words = ["bash", "-euc", enter, "bash", f"cd {CONTAINERS}/{user}/rootfs; {script}"]
    return host.run(words, check=check, timeout=wait)


def system_of(host: Host, user: str) -> str:
    """The folder that the user's container has as `/`, where root finds it on the disk."""
    slot = f"{CONTAINERS}/{user}/rootfs"
    raw = f"test $(stat -c %u {slot}) = 0 && echo /system || true"
    return slot + host.sh(raw).stdout.strip()


@contextmanager
def at_work_on(host: Host, user: str) -> Iterator[None]:
    """Somebody works on a user's container, and holds its lock, until the block ends."""
    lock = f"/run/lxc-gpu/locks/user-{user}"
    host.sh(f"systemd-run -q --unit=at-work flock {lock} sleep infinity")
    try:
        eventually(lambda: not host.sh(f"flock -n {lock} true", check=False).ok)
        yield
    finally:
        host.sh("systemctl stop at-work")


@contextmanager
def directory_down(*hosts: Host) -> Iterator[None]:
    """These machines of the directory don't answer."""
    for host in hosts:
        host.run(["systemctl", "stop", SERVICES[host.spec.directory]])
    try:
        yield
    finally:
        for host in hosts:
            host.run(["systemctl", "start", SERVICES[host.spec.directory]])


def running(host: Host, user: str) -> bool:
    """Whether the user's container is up."""
    return host.run(["systemctl", "is-active", f"lxc-gpu@{user}"], check=False).ok


def end_at_once(host: Host, user: str) -> None:
    """Kill the container: faster than shutting it down."""
    unit = f"lxc-gpu@{user}"
    host.sh(f"systemctl kill --signal=KILL {unit} 2>&- || true")
    eventually(lambda: not running(host, user))
    # the kernel takes the network apart later, and until then lxc-user-nic gives no other one
    nic = f"ls /sys/class/net | grep -c ^veth$(id -u {user})_ || true"
    eventually(lambda: host.sh(nic).stdout.strip() == "0")
    host.sh(f"systemctl reset-failed {unit} 2>&- || true")
