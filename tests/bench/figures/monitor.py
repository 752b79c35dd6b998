"""The monitor of a hundred servers, watched by fifty: what it costs the web page.

The servers are simulated (`simulated.py`): a real sshd each, generated loads. The web page is the
real one, started as its unit starts it; the watchers (`watchers.py`) are plain clients.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from playwright.sync_api import sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from state.wire.server_load import decode, encode
from tests.bench.figures import simulated
from tests.bench.measure import Figure, in_turn, seconds
from tests.integration.sshd import ssh_key
from tests.integration.web import make_repository

SERVERS = 100
WATCHERS = 50
LASTS = 30.0
"""Seconds that each figure of CPU is taken over."""
CHROMIUM = "/usr/bin/chromium"
TICK = os.sysconf("SC_CLK_TCK")
NAMES = [f"gpu{n:03}" for n in range(SERVERS)]
LIES = {
    "a flood": "exec cat /dev/zero",
    "a flood of loads": "while cat $1; do :; done",
    "garbage": "while echo '{\"load\": []}'; do sleep 0.01; done",
    "silence": "exec sleep 1000000",
}


@dataclass(frozen=True)
class Page:
    """The web page, running."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def took(self, path: str) -> float:
        return seconds(lambda: [self.get(path) for _ in range(10)])

    def up(self) -> int:
        """How many servers are heard."""
        return sum(
            int(sample.value)
            for family in text_string_to_metric_families(self.get("/metrics").decode())
            for sample in family.samples
            if sample.name == "lxc_gpu_server_up"
        )


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def status_of(pid: int, name: str) -> int:
    """A number of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextmanager
def fleet(folder: Path) -> Iterator[tuple[Page, int]]:
    """The servers and the page; the page, and the generator's number."""
    signing = ssh_key(folder / "signing")
    nudge = ssh_key(folder / "nudge")
    servers = {name: (simulated.address_of(n), simulated.PORT) for n, name in enumerate(NAMES)}
    repository = make_repository(folder, signing, servers)
    simulated.prepare(folder, NAMES, folder, nudge)
    tip = subprocess.run(["git", "-C", repository, "rev-parse", "main"], capture_output=True,
                         text=True, check=True)  # fmt: skip
    simulated.report(folder, NAMES, tip.stdout.strip())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "web.toml").write_text(f"""
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
repository = "{repository}"
clone = "{folder}/clone"
signing_key = "{folder}/signing"
nudge_key = "{folder}/nudge"
[directory]
servers = ["ldaps://127.0.0.1:9"]
base = "dc=example,dc=org"
allow = "(objectClass=person)"
bind_template = "{{login}}@example.org"
""")
    with simulated.running(folder, NAMES) as generator, (folder / "web.log").open("wb") as log:
        words: list[str | Path] = [sys.executable, "-P", "-m", "webui.serve", folder / "web.toml"]
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield Page(process, port, folder), generator.pid
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def watched(page: Page, count: int) -> Iterator[Path]:
    """`count` watchers; what they say is in the file."""
    said = page.folder / "watchers.log"
    words = [sys.executable, "-P", "-m", "tests.bench.figures.watchers", str(page.port), str(count)]
    with said.open("wb") as file:
        process = subprocess.Popen(words, stdout=file)
    try:
        yield said
    finally:
        process.kill()
        process.wait()


def until_all_are_heard(page: Page, count: int = SERVERS) -> float:
    """Seconds until then."""
    begun = time.monotonic()
    while True:
        try:
            if page.up() >= count:
                return time.monotonic() - begun
        except OSError:
            pass
        if time.monotonic() - begun > 120:
            raise TimeoutError((page.folder / "web.log").read_text()[-3000:])
        time.sleep(0.5)


def a_minute_of(pid: int) -> float:
    """Seconds of CPU a minute."""
    before = cpu_of(pid)
    time.sleep(LASTS)
    return (cpu_of(pid) - before) * 60 / LASTS


def decoding_alone() -> float:
    """Seconds of CPU to decode what a hundred servers say in a minute."""
    lines = [encode(simulated.load_of(n, name)).encode() for n, name in enumerate(NAMES)]
    begun = time.process_time()
    for line in lines:
        decode(line)
    return (time.process_time() - begun) * 60 / simulated.INTERVAL


def page_times(page: Page, when: str) -> Iterator[Figure]:
    """How long pages take, ten times over."""
    still = partial(page.took, "/static/icon.svg")
    for path, target in (("/monitor", "under 3 s"), ("/", "under 3 s"), ("/metrics", "under 5 s")):
        medians = in_turn(partial(page.took, path), still, 5)
        yield Figure(f"{path} x 10, {when}", *medians, "a small file of the same page", target)


def of_metrics(page: Page) -> Figure:
    """CPU that one /metrics takes of the page. Loads that come meanwhile are in both numbers."""

    def cpu(path: str) -> float:
        before = cpu_of(page.process.pid)
        for _ in range(20):
            page.get(path)
        return (cpu_of(page.process.pid) - before) / 20

    medians = in_turn(partial(cpu, "/metrics"), partial(cpu, "/static/icon.svg"), 5)
    floor = "a small file of the same page"
    return Figure(f"CPU of one /metrics, {SERVERS} servers", *medians, floor, "under 0.05 s")


def in_a_browser(page: Page, when: str) -> Figure:
    """How long Chromium takes until the monitor is loaded, after the first time."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()

        def load(path: str) -> float:
            return seconds(
                lambda: tab.goto(f"http://127.0.0.1:{page.port}{path}", wait_until="load")
            )

        load("/monitor")
        medians = in_turn(partial(load, "/monitor"), partial(load, "/guide"), 5)
        browser.close()
    floor = "the How-to, which says nothing of what servers do"
    return Figure(f"/monitor in Chromium, {when}", *medians, floor, "within 1 s")


def tell(page: Page, when: str) -> None:
    """Memory and threads."""
    pid = page.process.pid
    resident, threads = status_of(pid, "VmRSS") / 1024, status_of(pid, "Threads")
    print(f"{when}: {resident:.0f} MiB resident, {threads} threads, {page.up()} servers heard")


def figures() -> Iterator[Figure]:
    """All of them."""
    with tempfile.TemporaryDirectory() as name, fleet(Path(name)) as (page, generator):
        pid = page.process.pid
        took = until_all_are_heard(page)
        print(f"{SERVERS} servers are heard {took:.1f} s after the page was started")
        time.sleep(20)  # nudges and first connections are over
        tell(page, "nobody looks")
        before = cpu_of(generator)
        yield _cpu(f"{SERVERS} servers", pid, "under 6 s: a tenth of a core")
        print(f"the generator, apart: {(cpu_of(generator) - before) * 60 / LASTS:.1f} s a minute")
        yield from page_times(page, f"{SERVERS} servers")
        yield of_metrics(page)
        with watched(page, WATCHERS) as said:
            yield from _watched(page, said, f"{WATCHERS} watch")
            for n, (what, script) in enumerate(LIES.items()):
                simulated.lie(page.folder, n, script)
                print(f"{NAMES[n]} turns to {what}")
            time.sleep(20)
            yield from _watched(page, said, f"{WATCHERS} watch, {len(LIES)} lie")
            honest = SERVERS - len(LIES)
            assert page.up() >= honest, "a lying server harmed another one"


def _watched(page: Page, said: Path, when: str) -> Iterator[Figure]:
    before = len(said.read_text().splitlines())
    yield _cpu(when, page.process.pid, "under 30 s: half a core")
    lines = [list(map(int, line.split())) for line in said.read_text().splitlines()[before:-1]]
    events = statistics.mean(line[0] for line in lines)
    size = statistics.mean(line[1] for line in lines) / 1024
    print(f"{when}: {events:.0f} events and {size:.0f} KiB a second, {lines[-1][2]} streams open")
    tell(page, when)
    yield from page_times(page, when)
    yield in_a_browser(page, when)


def _cpu(when: str, pid: int, target: str) -> Figure:
    took, least = a_minute_of(pid), decoding_alone()
    return Figure(f"CPU of a minute, {when}", took, least, "decoding the loads, no more", target)
