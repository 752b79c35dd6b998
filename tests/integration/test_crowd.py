"""Fifty people save for the first time at the same moment, while a sysadmin pushes by hand."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration import slapd
from tests.integration.slapd import Slapd
from tests.integration.web import Web, made_key, make_web, served

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)
CROWD = 50
PUSHES = 5
PEOPLE = "\n".join(
    slapd.person(f"new{n}", f"New Person {n}", f"secret {n}", extra="employeeType: lab")
    for n in range(CROWD)
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path, directory: Slapd) -> Web:
    """The page in front of a repository with the real hook, which starts a real program."""
    made = make_web(tmp_path, directory, {"gpu17": ("127.0.0.1", slapd.free_port())})
    hook = made.repository / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    program = Path(sys.executable).with_name("lxc-gpu")
    hook.write_text(f'#!/bin/sh\nPATH="$PATH:{program.parent}"\nexec lxc-gpu check --hook\n')
    hook.chmod(0o755)
    return made


def post(port: int, number: int) -> tuple[int, str]:
    """Save as person `number`, each from an address of their own: the status, and where it leads.

    (From one address, the page slows down after 20 tries under way: they may be guesses.)
    """
    typed = {"login": f"new{number}", "password": f"secret {number}", "keys": made_key(number)}
    body = urllib.parse.urlencode(typed)
    here = (f"127.0.1.{number + 1}", 0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180, source_address=here)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"/user/new{number}", body, form)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Location") or answer.read().decode()


def sysadmin(web: Web, stop: threading.Event) -> int:
    """Push empty-handed changes from a clone, as a sysadmin who comes at a bad moment."""
    clone = web.folder / "sysadmin"
    git = ["git", "-c", "user.name=Alice", "-c", "user.email=alice@example.org"]
    git += ["-c", "gpg.format=ssh", "-c", f"user.signingKey={web.folder / 'admin'}"]
    git += ["-c", "commit.gpgSign=true", "-C", str(clone)]
    subprocess.run(["git", "clone", "-q", web.repository, clone], check=True)
    pushed = 0
    while pushed < PUSHES and not stop.wait(0.2):
        (clone / "README.md").write_text(f"note {pushed}\n")
        subprocess.run([*git, "add", "README.md"], check=True)
        subprocess.run([*git, "commit", "-qm", f"note {pushed}"], check=True)
        for _ in range(60):
            if subprocess.run([*git, "push", "-q"], capture_output=True, check=False).returncode:
                subprocess.run([*git, "pull", "-q", "--rebase"], check=True)
            else:
                pushed += 1
                break
    return pushed


def watch(address: str, stop: threading.Event) -> list[float]:
    """How long the plain first page takes meanwhile, again and again."""
    took = []
    while not stop.wait(0.05):
        began = time.monotonic()
        urllib.request.urlopen(f"{address}/guide", timeout=60).read()
        took.append(time.monotonic() - began)
    return took


def test_fifty_first_visits_at_once(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    with served(web) as address, ThreadPoolExecutor(CROWD + 2) as pool:
        try:
            pushing = pool.submit(sysadmin, web, stop)
            watching = pool.submit(watch, address, stop)
            began = time.monotonic()
            port = int(address.rpartition(":")[2])
            results = list(pool.map(lambda number: post(port, number), range(CROWD)))
            seconds = time.monotonic() - began
            assert {status for status, _ in results} == {303}
            pages = [page_of(address, where) for _, where in results]
            pushed = pushing.result()
        finally:
            stop.set()
        took = sorted(watching.result())
    state = web.parts.source.newest().state
    assert len(state.users) == CROWD
    for numbers in ("uid", "port", "subid"):
        assert len({getattr(user, numbers) for user in state.users.values()}) == CROWD
    log = web.git("log", "--format=%an|%s", "main").splitlines()
    for number in range(CROWD):
        said = [line for line in log if line.startswith(f"New Person {number}|")]
        assert len(said) == 1
        assert f"new user new{number} (New Person {number})" in said[0]
        revision = web.git("log", "--format=%h", f"--author=New Person {number} <", "main")
        assert revision[:7] in pages[number]  # everybody's page shows their own commit
    assert sum(line.startswith("Alice|note") for line in log) == pushed == PUSHES
    with capsys.disabled():
        print(
            f"\n{CROWD} first saves at once, {pushed} pushes beside them: {seconds:.1f} s;"
            f" another page meanwhile: half within {took[len(took) // 2]:.2f} s,"
            f" the slowest of {len(took)} {took[-1]:.2f} s"
        )


def page_of(address: str, where: str) -> str:
    with urllib.request.urlopen(f"{address}{where}", timeout=60) as answer:
        return str(answer.read(), "utf-8")
