"""`reserve`, `reservations`, `release`: whose GPUs until when. NVML is a fake (fake_nvml.c)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host

from reconciler.reservations.book import Reservation
from reconciler.reservations.book_file import from_json
from state.command import Finished
from tests.lab import nvidia
from tests.lab.fleet import Fleet, reconcile

GIB = 1 << 30
VERSION = "460.73.01"
"""What the fake says; older than any that the archive may have."""
GPUS = f"""\
driver {VERSION}
gpu {nvidia.UUIDS[0]} 0 {40 * GIB} 0 0 NVIDIA A100-SXM4-40GB
gpu {nvidia.UUIDS[1]} 1 {40 * GIB} 0 0 NVIDIA A100-SXM4-40GB
"""
KEPT = "/var/lib/lxc-gpu/reservations.json"
AS_IAM = ["setpriv", "--reuid=iam", "--regid=iam", "--clear-groups", "/usr/bin/python3", "-IS"]
SOON = """
import sys, time
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.host.published import published_view
from reconciler.load.stream import ReservationsReader
print(*(each.id for each in ReservationsReader().soon(published_view(), time.time())))
"""
"""What the load's stream, which is not root's, says of reservations."""
RULES = "{most_gpus: 2, longest: 3d, ahead: 14d, most: 20}"


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu17 with two GPUs, and rules by which ten people can meet; afterwards, as it was."""
    host = fleet.gpu17
    nvidia.load(host, VERSION)
    nvidia.install_fake_nvml(host, VERSION, GPUS)
    file = "servers/gpu17.yaml"
    fleet.commits("Rules", f"echo 'reservations: {RULES}' >>{file}")
    assert reconcile(host).ok
    yield host
    fleet.commits("No rules", f"sed -i '/^reservations:/d' {file}")
    assert reconcile(host).ok
    nvidia.clean(host)
    host.sh(f"rm -f /etc/fake-nvml {KEPT}")


@pytest.fixture
def gpu17(server: Host) -> Host:
    """The same, on which nobody has reserved anything."""
    server.sh(f"rm -f {KEPT}")
    return server


def says(fleet: Fleet, line: str, user: str = "lqchen") -> str:
    """What `ssh gpu17-manage LINE` answers."""
    done = types(fleet, line, user)
    assert done.ok, done.stderr
    assert done.stderr == ""
    return done.stdout


def types(fleet: Fleet, line: str, user: str = "lqchen") -> Finished:
    return fleet.types(f"ssh gpu17-manage {line}", user=user)


def kept(host: Host) -> tuple[Reservation, ...]:
    """Everything in the server's book."""
    book = from_json(host.read(KEPT))
    return (*book.past, *book.open)


def overlap(every: tuple[Reservation, ...]) -> list[tuple[str, str]]:
    return [
        (one.id, other.id)
        for one in every
        for other in every
        if one.id < other.id
        and set(one.gpus) & set(other.gpus)
        and one.meets(other.begins, other.ends)
    ]


def test_what_two_people_type(fleet: Fleet, gpu17: Host) -> None:
    assert "Nobody has reserved a GPU of gpu17." in says(fleet, "reservations")
    assert "GPU 0 of gpu17" in says(fleet, "reserve 1 8h")
    assert "GPU 1 of gpu17" in says(fleet, "reserve 1 2h", user="ann")
    full = types(fleet, "reserve 1 2h", user="ann")
    assert not full.ok
    assert "lqchen has 1 from" in full.stderr
    again = full.stderr.partition("Type: `")[2].partition("`")[0]
    assert "Reserved (r3): GPU 1" in says(fleet, again, user="ann")
    assert "r4" in says(fleet, "reserve 2 1h --first-free")
    table = says(fleet, "reservations", user="ann")
    assert [line[0] for line in table.splitlines()[2:6]] == [" ", "*", "*", " "]
    assert "now" in table
    assert "r4 now ends" in says(fleet, "reserve --extend r4 30m")
    assert "is now ann's" in says(fleet, "reserve --to ann r1")
    assert "Which one?" in types(fleet, "release", user="ann").stderr
    assert "Released: r1" in says(fleet, "release r1", user="ann")
    assert "no reservation `r3`" in types(fleet, "release r3").stderr
    assert "Released: r4" in says(fleet, "release")
    facts = json.loads(says(fleet, "reservations --json"))
    assert [each["user"] for each in facts["reservations"]] == ["ann", "ann"]
    assert facts["reservations"][0]["indices"] == [1]
    calendar = fleet.types("ssh gpu17-manage reservations --ics | od -c | grep -c '[\\]r'")
    assert int(calendar.stdout) > 5
    assert says(fleet, "reservations --ics").count("BEGIN:VEVENT") == 2
    assert gpu17.run([*AS_IAM, "-c", SOON]).stdout.split() == ["r2", "r3"]
    assert overlap(kept(gpu17)) == []


def test_times_and_series_come_as_ssh_splits_them(fleet: Fleet, gpu17: Host) -> None:
    later = says(fleet, "reserve 2 8h --from 'tomorrow 9:00'")
    tomorrow = gpu17.sh("date -d 'tomorrow 9:00' '+%a %Y-%m-%d 09:00'").stdout.strip()
    assert f"{tomorrow} until 17:00" in later
    until = gpu17.sh("date -d '+13 days' +%F").stdout.strip()
    says(fleet, f"reserve {nvidia.UUIDS[1]} 1h --from tomorrow 18:00 --every week --until {until}")
    assert [each.series for each in kept(gpu17)] == ["", "s2", "s2"]
    assert "Released: r2, r3" in says(fleet, "release s2")


def test_nobody_needs_the_iam_machine_for_it(fleet: Fleet, gpu17: Host) -> None:
    fleet.iam.sh("systemctl stop lxc-gpu-web.socket lxc-gpu-web ssh")
    try:
        assert "Reserved (r1)" in says(fleet, "reserve 1 8h")
        assert "r1 now ends" in says(fleet, "reserve --extend 1h")
        assert "r1" in says(fleet, "reservations", user="ann")
        assert "Released: r1" in says(fleet, "release")
    finally:
        fleet.iam.sh("systemctl start ssh lxc-gpu-web.socket lxc-gpu-web")


def test_gpus_that_nobody_uses_come_first(fleet: Fleet, gpu17: Host) -> None:
    assert fleet.types("ssh gpu17-manage start", user="ann").ok
    fleet.types("ssh gpu17 'nohup bash -c \"exec -a train sleep 600\" >&- 2>&- &'", user="ann")
    pid = gpu17.sh("pgrep -fx 'train 600'").stdout.strip()
    gpu17.write("/etc/fake-nvml", f"{GPUS}process 0 {pid} {GIB}\n")
    assert "GPU 1 of gpu17" in says(fleet, "reserve 1 1h")
    assert "Programs of ann are on them now." in says(fleet, "reserve 1 1h")
    gpu17.write("/etc/fake-nvml", GPUS)
    gpu17.sh(f"kill {pid}")


def test_ten_at_once_get_what_they_ask_for_and_nobody_twice(fleet: Fleet, gpu17: Host) -> None:
    people = ["lqchen", "ann"] * 5
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda user: types(fleet, "reserve 1 1h --first-free", user), people))
    assert [done.stderr for done in found if not done.ok] == []
    every = kept(gpu17)
    assert sorted(each.user for each in every) == sorted(people)
    assert overlap(every) == []
    assert max(each.ends for each in every) - min(each.begins for each in every) == 5 * 3600


def test_whoever_kills_it_leaves_a_whole_book(fleet: Fleet, gpu17: Host) -> None:
    said = 0
    for _ in range(6):
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(types, fleet, "reserve 1 1h --first-free")
            time.sleep(random.uniform(0.05, 0.4))
            gpu17.sh("systemctl kill -s KILL 'lxc-gpu-root@*'", check=False)
            said += asking.result().ok
    every = kept(gpu17) if gpu17.sh(f"test -e {KEPT}", check=False).ok else ()
    assert overlap(every) == []
    assert said <= len(every) <= 6
    assert "Reserved" in says(fleet, "reserve 1 1h --first-free")


def test_a_damaged_book_gives_none_and_loses_none(fleet: Fleet, gpu17: Host) -> None:
    says(fleet, "reserve 1 1h")
    damaged = gpu17.read(KEPT)[:-9]
    gpu17.write(KEPT, damaged)
    assert "Nothing of it is lost" in types(fleet, "reserve 1 1h").stderr
    assert "Nothing of it is lost" in types(fleet, "release").stderr
    assert gpu17.read(KEPT) == damaged
    assert "The list of reservations" in gpu17.sh("lxc-gpu doctor", check=False).stdout
