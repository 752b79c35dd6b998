"""The page with a real repository and a real directory, for tests that make none themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import slapd
from tests.integration.slapd import Slapd
from tests.integration.web import PEOPLE, Web, make_web


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    if not Path("/usr/sbin/slapd").exists():
        pytest.skip("needs slapd (apt-get install slapd)")
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path, directory: Slapd) -> Web:
    dead = {"gpu17": ("127.0.0.1", slapd.free_port()), "gpu18": ("127.0.0.2", slapd.free_port())}
    return make_web(tmp_path, directory, dead)
