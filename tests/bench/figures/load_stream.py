"""What the load stream costs its server: CPU time in 100 s, which is percent of one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from laboratory.demo.story import NAME
from laboratory.hosts import Host, Lab
from laboratory.layout import LAPTOP_USER

from reconciler.host.places import RESERVATIONS
from reconciler.reservations.book import HOUR, Book, Reservation, minute
from reconciler.reservations.book_file import to_json
from tests.bench.figures.logins import start
from tests.bench.figures.rounds import timed
from tests.bench.measure import Figure, in_turn

SECONDS = 60
MORE = 2000
MEASURE = f"""
import os, pathlib, subprocess, sys, time
def cpu(root):
    parents, spent = dict(), dict()
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (each / "stat").read_text("latin-1").rpartition(")")[2].split()
            parents[int(each.name)] = int(fields[1])
            spent[int(each.name)] = int((each / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    family = {{root}}
    while found := {{pid for pid, parent in parents.items() if parent in family}} - family:
        family |= found
    return sum(spent.get(pid, 0) for pid in family)
stream = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
time.sleep(8)  # it has begun
before, begun = cpu(stream.pid), time.monotonic()
time.sleep({SECONDS})
assert stream.poll() is None
print((cpu(stream.pid) - before) / (time.monotonic() - begun) * 100)
stream.kill()
"""
"""The program, and all that it started."""
FLOOR = """
import sys, time
sys.path.insert(0, "/opt/lxc-gpu/packages")
import psutil
while True:
    print(psutil.cpu_percent(), flush=True)
    time.sleep(5)
"""
AS_IAM = ["setpriv", "--reuid=iam", "--regid=iam", "--clear-groups"]
OURS = ["env", "SSH_ORIGINAL_COMMAND=load", *AS_IAM, "/usr/local/lib/lxc-gpu/iam"]


def figures(lab: Lab) -> Iterator[Figure]:
    """With the processes that are there, and with 2,000 that sleep."""
    host = lab.host("gpu17")
    yield _figure(host, "as it is")
    yield _crowded(host)


def _crowded(host: Host) -> Figure:
    sleepers = f"for i in $(seq {MORE}); do sleep 3600 & done; wait"
    limits = ["-p", "TasksMax=infinity", "-p", "LimitNOFILE=1024:524288"]
    host.run(["systemd-run", "-q", "--unit=sleepers", *limits, "bash", "-c", sleepers])
    try:
        host.sh(f"until [ $(pgrep -xc sleep) -ge {MORE} ]; do /bin/sleep 0.5; done")
        return _figure(host, f"{MORE:,} idle processes more")
    finally:
        host.run(["systemctl", "stop", "sleepers"])


PAST, AHEAD = 10_000, 500
"""Reservations in a full book."""
GPUS = tuple(f"GPU-{number:08x}-9d4e-4d12-8b5e-2f6c1c6f0e01" for number in range(8))


def full_book(lab: Lab) -> Iterator[Figure]:
    """What many reservations cost those who don't reserve: beside the same without any."""
    host, laptop = lab.host("gpu17"), lab.host("laptop")
    start(lab)
    for what, target in (("", "1.0"), ("status", "1.0"), ("reservations", "within 0.1 s")):
        line = f"runuser -u {LAPTOP_USER} -- ssh gpu17-manage {what}".rstrip()
        medians = _beside_none(host, partial(timed, laptop, line), runs=9)
        yield _of_the_book(f"ssh gpu17-manage {what}".rstrip(), medians, target)
    reconcile = "/usr/local/lib/lxc-gpu/reconcile"
    yield _of_the_book("a round", _beside_none(host, lambda: timed(host, reconcile), runs=5), "1.0")
    medians = _beside_none(host, lambda: _share(host, OURS), runs=1)
    yield _of_the_book("load stream: CPU time in 100 s", medians, "within 0.2")


def _of_the_book(what: str, medians: tuple[float, float], target: str) -> Figure:
    return Figure(
        f"{what}, {AHEAD} reservations to come and {PAST:,} past",
        *medians, "the same without any", target,
    )  # fmt: skip


def _beside_none(host: Host, act: Callable[[], float], runs: int) -> tuple[float, float]:
    def ours() -> float:
        with _many_reservations(host):
            return act()

    return in_turn(ours, act, runs)


@contextmanager
def _many_reservations(host: Host) -> Iterator[None]:
    now = minute(time.time())
    one = Reservation("r0", NAME, GPUS[:1], now, now + HOUR, now)
    ahead = tuple(
        replace(one, id=f"r{n}", gpus=GPUS[n % 8 : n % 8 + 1], begins=now + n // 8 * HOUR,
                ends=now + (n // 8 + 1) * HOUR) for n in range(AHEAD)
    )  # fmt: skip
    past = tuple(
        replace(one, id=f"r{AHEAD + n}", gpus=GPUS[n % 8 : n % 8 + 1],
                begins=now - (n // 8 + 60) * HOUR, ends=now - (n // 8 + 59) * HOUR)
        for n in range(PAST)
    )  # fmt: skip
    host.write(str(RESERVATIONS), to_json(Book(ahead, past, last=AHEAD + PAST, clock=now)))
    try:
        yield
    finally:
        host.run(["rm", str(RESERVATIONS)])


def _figure(host: Host, what: str) -> Figure:
    count = host.sh("ls -d /proc/[0-9]* | wc -l").stdout.strip()
    return Figure(
        f"load stream, {what}",
        _share(host, OURS),
        _share(host, ["python3", "-IS", "-c", FLOOR]),
        f"a stream of psutil.cpu_percent alone; {count} processes; "
        "both: CPU time in 100 s, so % of one core",
        "under 1 % of one core",
    )


def _share(host: Host, argv: list[str]) -> float:
    words = ["python3", "-IS", "-c", MEASURE, *argv]
    return float(host.run(words, timeout=SECONDS + 60).stdout)
