"""The lab for tests on real machines: started when needed, left running for the next time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory.hosts import Host, Lab
from laboratory.layout import places

from tests.lab.running import NAME, setup_lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is no lab."""
    if os.geteuid() == 0:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="the lab needs root: sudo pytest tests/lab"))


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


@pytest.fixture
def small_lab() -> Iterator[Lab]:
    """Another lab, of a laptop only; it is removed afterwards."""
    name = f"small{os.getpid()}"
    done = setup_lab("up", "--hosts", "laptop", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
    yield Lab(places(name))
    done = setup_lab("down", name=name)
    assert done.returncode == 0, done.stdout + done.stderr
