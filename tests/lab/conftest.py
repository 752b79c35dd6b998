"""The lab for tests on real machines: started when needed, left running for the next time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.directory import samba
from laboratory.hosts import Host, Lab
from laboratory.layout import AD, OPENLDAP, places
from laboratory.wiring import GPU_SERVERS

from tests.lab.fleet import (
    BAIT,
    KEYS,
    LOOKS,
    PEOPLE,
    SPARES_ASIDE,
    STARTS_ROUNDS,
    SYSTEM,
    Fleet,
    end_at_once,
    in_container,
    reconcile,
    running,
    watched,
)
from tests.lab.recovering import ASIDE, FOLDER, SNAPSHOTS
from tests.lab.running import DOMAIN_LAB, NAME, setup_lab
from tests.patience import eventually

FORGIVE = """
sshd -T | grep -q ^persourcepenalties || exit 0
echo PerSourcePenalties no >/etc/ssh/sshd_config.d/05-tests.conf; systemctl reload ssh
"""
"""From OpenSSH 9.8 on, sshd would refuse the laptop, from which tests fail to log in on purpose."""


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, running."""
    done = setup_lab("up")
    assert done.returncode == 0, done.stdout + done.stderr
    return Lab(places(NAME))


@pytest.fixture(scope="session")
def laptop(lab: Lab) -> Host:
    """The researcher's own computer."""
    return lab.host("laptop")


@pytest.fixture(scope="session")
def domain() -> Lab:
    """A lab with an Active Directory, and perhaps without GPU servers."""
    return _lab_with_domain(["iam", "laptop"])


def _lab_with_domain(others: Sequence[str]) -> Lab:
    hosts = ",".join([*samba.CONTROLLERS, *others])
    done = setup_lab("up", "--directory", AD, "--hosts", hosts, name=DOMAIN_LAB)
    assert done.returncode == 0, done.stdout + done.stderr
    return Lab(places(DOMAIN_LAB))


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """The lab with lqchen and ann in it, who have their containers on gpu17.

    No rounds but those of the tests, or a test couldn't tell what it broke from what was mended.
    Parameter: the kind of directory.
    """
    found = request.getfixturevalue(f"fleet_with_{getattr(request, 'param', OPENLDAP)}")
    assert isinstance(found, Fleet)
    return found


@pytest.fixture(scope="session")
def fleet_with_openldap(lab: Lab) -> Iterator[Fleet]:
    """What `fleet` is usually."""
    yield from _fleet(lab)


@pytest.fixture(scope="session")
def fleet_with_ad() -> Iterator[Fleet]:
    """The same in the other lab."""
    yield from _fleet(_lab_with_domain(["iam", "laptop", *GPU_SERVERS]))


def _fleet(lab: Lab) -> Iterator[Fleet]:
    fleet = Fleet(lab)
    hosts = [lab.host(name) for name in GPU_SERVERS]
    for host in hosts:
        host.sh(SPARES_ASIDE)
        host.sh(
            f"systemctl stop {STARTS_ROUNDS} {LOOKS}; "
            f"test ! -e {KEYS}/iam || mv {KEYS}/iam {KEYS}/.iam"
        )
    for host in (*hosts, lab.host("iam")):
        host.sh(FORGIVE)
    for name in PEOPLE:
        fleet.introduce(name)
    fleet.rounds()
    with ThreadPoolExecutor() as pool:  # at once: the gate's clone is made by one of them
        for done in pool.map(lambda name: fleet.register(name, "gpu17"), PEOPLE):
            assert done.ok, done.stderr
    yield fleet
    for host in hosts:
        host.sh("rm -rf /run/systemd/system/lxc-gpu-spares.service.d; systemctl daemon-reload")
        host.sh(f"systemctl start {STARTS_ROUNDS} {LOOKS}; mv {KEYS}/.iam {KEYS}/iam")


@pytest.fixture(scope="class")
def nudges(fleet: Fleet) -> Iterator[None]:
    """The web page's key opens the servers' `iam` account, as it usually does."""
    for host in (fleet.gpu17, fleet.gpu18):
        host.sh(f"cp {KEYS}/.iam {KEYS}/iam")
    yield
    for host in (fleet.gpu17, fleet.gpu18):
        host.sh(f"rm {KEYS}/iam")
        eventually(lambda: _has_ended_its_connections(host))  # noqa: B023


def _has_ended_its_connections(host: Host) -> bool:
    """Whether no session of `iam` is left; one whose key was read just before shows itself late."""
    host.sh("lxc-gpu reconcile --kind connection")
    return not host.sh("pgrep -u iam -f ^sshd", check=False).ok


@pytest.fixture
def heard(fleet: Fleet, nudges: None) -> None:
    """The page hears both servers."""

    def both() -> bool:
        shown = json.loads(fleet.iam.run(["lxc-gpu", "status", "--json"]).stdout)
        return all(server["load"] and server["silent_since"] is None for server in shown["servers"])

    eventually(both, 150)  # a server that let nobody in before is asked again after 75 s at most


@pytest.fixture
def lqchen_is_up(fleet: Fleet) -> None:
    """lqchen's container runs when the test begins."""
    if not running(fleet.gpu17, "lqchen"):
        assert fleet.types("ssh gpu17-manage start").ok


@pytest.fixture
def converged(fleet: Fleet) -> Iterator[Host]:
    """gpu17, as it should be; whatever the test does to it, a round makes it so again."""
    yield fleet.gpu17
    done = reconcile(fleet.gpu17)
    assert done.ok, done.stdout + done.stderr


@pytest.fixture(scope="module")
def nothing_kept(fleet: Fleet) -> Iterator[Host]:
    """gpu17; no other system and no snapshot of lqchen's is there before, nor afterwards."""
    host = fleet.gpu17
    leftovers = f"rm -rf {FOLDER}/rootfs.before {SNAPSHOTS}"
    host.sh(leftovers)
    yield host
    host.sh(leftovers)


@pytest.fixture(scope="module")
def small_system(nothing_kept: Host) -> Iterator[Host]:
    """gpu17, on which lqchen's container is another one meanwhile: a small, stopped system."""
    host = nothing_kept
    if running(host, "lqchen"):
        end_at_once(host, "lqchen")
    host.sh(f"mkdir -p {BAIT}; chmod 777 {BAIT}; echo secret >{BAIT}/secret; chmod 666 {BAIT}/*")
    host.sh(f"mv {FOLDER} {ASIDE}; mkdir -m 711 {FOLDER}; mkdir -m 700 {FOLDER}/rootfs")
    host.sh(f"mkdir -m 755 {SYSTEM}")
    in_container(
        host,
        "lqchen",
        """
        mkdir -p etc home/lqchen; chown 1000:1000 home/lqchen
        echo old >etc/marker; echo x >etc/shadow""",
    )
    yield host
    host.sh(f"rm -rf {FOLDER} {BAIT}; mv {ASIDE} {FOLDER}")
    assert reconcile(host).ok


@pytest.fixture(scope="class")
def seen_so_far(fleet: Fleet) -> list[str]:
    """What was seen of the server after the tests of the class so far, the newest last.

    It begins on the newest revision: others' tests commit, and some requests run a round.
    """
    assert reconcile(fleet.gpu17).ok
    return []


@pytest.fixture
def untouched(fleet: Fleet, seen_so_far: list[str], lqchen_is_up: None) -> Iterator[Host]:
    """A server that has to be afterwards what it was before."""
    before = seen_so_far[-1] if seen_so_far else watched(fleet.gpu17)
    yield fleet.gpu17
    seen_so_far.append(watched(fleet.gpu17))
    assert seen_so_far[-1] == before
    assert fleet.gpu17.sh("ls -A /tmp/pwned* 2>&- || true").stdout == ""


@pytest.fixture
def small_lab() -> Iterator[Lab]:
    """Another lab, of a laptop only; it is removed afterwards."""
    name = f"small{os.getpid()}"
    done = setup_lab("up", "--hosts", "laptop", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
    yield Lab(places(name))
    done = setup_lab("down", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
