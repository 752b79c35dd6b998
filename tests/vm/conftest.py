"""A lab of its own whose gpu17 is a virtual machine; it is gone afterwards.

Everything in it is ten times slower than elsewhere, so these tests wait longer; what they test has
the same time limits as ever. `pytest --ignore=tests/vm` leaves them out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from laboratory.hosts import Lab
from laboratory.layout import places
from laboratory.machines.virtual_machine import VirtualMachine

from tests.lab.fleet import KEYS, PEOPLE, STARTS_ROUNDS, Fleet, reconcile
from tests.lab.running import setup_lab

NAME = os.environ.get("LXC_GPU_VM_LAB", "vm")
"""Which lab. One that is there already is left as it was found."""
PATIENCE = 1200
"""Seconds that a command may take."""


@pytest.fixture(
    scope="session",
    params=[pytest.param("", id="own"), pytest.param("trixie", marks=pytest.mark.matrix)],
)
def virtual_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab, running; one of this machine's release (or LXC_GPU_LAB_RELEASE), then Debian 13."""
    name = "-".join(filter(None, (NAME, request.param)))
    was_there = Lab(places(name)).host("gpu17").made
    release = ["--release", request.param] if request.param else []
    try:
        done = setup_lab("up", "--vm", "gpu17", *release, name=name, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Lab(places(name))
    finally:
        if not was_there:
            setup_lab("down", name=name)


@pytest.fixture(scope="session")
def gpu17(virtual_lab: Lab) -> VirtualMachine:
    """The server."""
    host = virtual_lab.host("gpu17")
    assert isinstance(host, VirtualMachine)
    return host


@pytest.fixture(scope="session")
def fleet(virtual_lab: Lab, gpu17: VirtualMachine) -> Fleet:
    """The lab with lqchen and ann in it, whose containers run on gpu17: the story, in short."""
    fleet = Fleet(virtual_lab)
    # Rounds that nobody waits for would slow those down that the people wait for.
    gpu17.sh(f"systemctl stop {STARTS_ROUNDS}; test ! -e {KEYS}/iam || mv {KEYS}/iam {KEYS}/.iam")
    for name in PEOPLE:
        fleet.introduce(name)
    done = reconcile(gpu17)
    assert done.ok, done.stdout + done.stderr
    for name in PEOPLE:
        done = fleet.register(name, "gpu17", wait=PATIENCE)
        assert done.ok, done.stderr
        done = fleet.types("ssh gpu17-manage start", user=name, wait=PATIENCE)
        assert done.ok, done.stderr
    gpu17.sh(f"systemctl start {STARTS_ROUNDS}; mv {KEYS}/.iam {KEYS}/iam")
    return fleet
