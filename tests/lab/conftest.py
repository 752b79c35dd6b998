"""The lab for tests on real machines: started when needed, left running for the next time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host, Lab
from laboratory.layout import places
from laboratory.wiring import GPU_SERVERS

from tests.lab.fleet import KEYS, PEOPLE, STARTS_ROUNDS, Fleet, running
from tests.lab.running import NAME, setup_lab


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
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The lab with lqchen and ann in it, who have their containers on gpu17.

    No rounds but those of the tests, or a test couldn't tell what it broke from what was mended.
    """
    fleet = Fleet(lab)
    hosts = [lab.host(name) for name in GPU_SERVERS]
    for host in hosts:
        host.sh(
            f"systemctl stop {STARTS_ROUNDS}; test ! -e {KEYS}/iam || mv {KEYS}/iam {KEYS}/.iam"
        )
    for name in PEOPLE:
        fleet.introduce(name)
    fleet.rounds()
    with ThreadPoolExecutor() as pool:  # at once: the gate's clone is made by one of them
        for done in pool.map(lambda name: fleet.register(name, "gpu17"), PEOPLE):
            assert done.ok, done.stderr
    yield fleet
    for host in hosts:
        host.sh(f"systemctl start {STARTS_ROUNDS}; mv {KEYS}/.iam {KEYS}/iam")


@pytest.fixture(scope="class")
def nudges(fleet: Fleet) -> Iterator[None]:
    """The web page's key opens the servers' `iam` account, as it usually does."""
    for host in (fleet.gpu17, fleet.gpu18):
        host.sh(f"cp {KEYS}/.iam {KEYS}/iam")
    yield
    for host in (fleet.gpu17, fleet.gpu18):
        host.sh(f"rm {KEYS}/iam; lxc-gpu reconcile --kind connection")


@pytest.fixture
def lqchen_is_up(fleet: Fleet) -> None:
    """lqchen's container runs when the test begins."""
    if not running(fleet.gpu17, "lqchen"):
        assert fleet.types("ssh gpu17-manage start").ok


@pytest.fixture
def small_lab() -> Iterator[Lab]:
    """Another lab, of a laptop only; it is removed afterwards."""
    name = f"small{os.getpid()}"
    done = setup_lab("up", "--hosts", "laptop", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
    yield Lab(places(name))
    done = setup_lab("down", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
