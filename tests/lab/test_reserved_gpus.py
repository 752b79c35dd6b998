"""Whose GPU until when, said on a server, and who is told what. NVML is a fake (fake_nvml.c);
programs, terminals and people are real."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from laboratory.hosts import Host

from reconciler.reservations import book_file
from reconciler.reservations.book import Book, Reservation
from state.command import run
from tests.lab import nvidia
from tests.lab.fleet import Fleet, end_at_once
from tests.patience import eventually

GIB = 1 << 30
VERSION = "460.73.01"
GPUS = f"""\
driver {VERSION}
gpu {nvidia.UUIDS[0]} 0 {40 * GIB} 0 0 NVIDIA A100-SXM4-40GB
gpu {nvidia.UUIDS[1]} 1 {40 * GIB} 0 0 NVIDIA A100-SXM4-40GB
"""
BOOK = "/var/lib/lxc-gpu/reservations.json"
SEEN = "/run/lxc-gpu/reservations-seen.json"
UNIT = "lxc-gpu-reservations"
AGE = f"""
import json, sys
with open("{SEEN}") as file:
    record = json.load(file)
record["of"]["r1"]["unused"] = float(sys.argv[1])
record["of"]["r1"]["intruders"] = dict.fromkeys(record["of"]["r1"]["intruders"], float(sys.argv[1]))
with open("{SEEN}", "w") as file:
    json.dump(record, file)
"""
"""So many seconds have passed, in which nobody but intruders was on the GPUs of r1."""
NOTICES = "/var/lib/lxc-gpu/notices.json"
SILENT = """
cd /tmp
rm -f said
sudo setsid ./never-answers /dev/pts >said 2>&1 </dev/null &
until grep . said; do sleep 0.1; done
"""
STREAM = """
import sys, time
sys.path[:0] = ["/opt/lxc-gpu/packages"]
from reconciler.host.published import current_view
from reconciler.load.stream import ReservationsReader
for each in ReservationsReader().soon(current_view(), time.time()):
    print(each.id, each.user, ",".join(each.intruders), each.unused_since is not None)
"""


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu17 with two GPUs, where both containers run; looks come from the tests alone."""
    host = fleet.gpu17
    for name in ("lqchen", "ann"):
        assert fleet.types("ssh gpu17-manage start", user=name).ok
    nvidia.load(host, VERSION)
    nvidia.install_fake_nvml(host, VERSION, GPUS)
    yield host
    nvidia.clean(host)
    host.sh(f"rm -f /etc/fake-nvml {BOOK} {SEEN} {NOTICES}")
    fleet.types("ssh gpu17-manage stop", user="ann")


@pytest.fixture
def reserved(server: Host) -> Host:
    """The first GPU is ann's, the second one lqchen's, both for three hours from now on."""
    reserve(server, ann=0, lqchen=1)
    server.write("/etc/fake-nvml", GPUS)
    return server


def reserve(host: Host, **gpus: int) -> None:
    """A new book, in which these GPUs are these people's."""
    now = float(host.sh("date +%s").stdout)
    open_ = tuple(
        Reservation(f"r{number + 1}", user, (nvidia.UUIDS[gpu],), now - 60, now + 10800, now - 60)
        for number, (user, gpu) in enumerate(gpus.items())
    )
    host.sh(f"rm -f {SEEN} {NOTICES}")
    host.write(BOOK, book_file.to_json(Book(open_, last=len(open_), clock=now)))


def look(host: Host) -> None:
    """What the timer does, more often than systemd lets anything start."""
    host.sh(f"systemctl reset-failed {UNIT}.service 2>&- || true; systemctl start {UNIT}.service")


def told(host: Host) -> set[tuple[str, str, str]]:
    """Whom the web page's mail is to tell, of what."""
    said = json.loads(host.sh(f"cat {NOTICES} 2>&- || echo '{{\"notices\": []}}'").stdout)
    return {(s["notice"]["user"], s["notice"]["kind"], s["about"]) for s in said["notices"]}


def says(fleet: Fleet, words: str, user: str = "lqchen") -> str:
    done = fleet.types(f"ssh gpu17-manage {words}", user=user)
    assert done.ok, done.stderr
    return done.stdout


@contextmanager
def program(fleet: Fleet, name: str, user: str = "lqchen") -> Iterator[str]:
    """A program in somebody's container, by its number on the server."""
    fleet.types(f"ssh gpu17 'nohup bash -c \"exec -a {name} sleep 600\" >&- 2>&- &'", user=user)
    (pid,) = fleet.gpu17.sh(f"pgrep -fx '{name} 600'").stdout.split()
    try:
        yield pid
    finally:
        fleet.gpu17.sh(f"kill {pid} || true")


@contextmanager
def session(fleet: Fleet, user: str = "lqchen") -> Iterator[str]:
    """Somebody is logged in at a terminal: the file on the laptop of what it shows."""
    shows = f"/tmp/terminal-of-{user}"
    line = f"ssh -tt gpu17 'echo in; sleep 300; echo closed.' <&- >{shows} 2>&- &"
    fleet.types(line, user=user)
    until_shown(fleet, shows, "in")
    try:
        yield shows
    finally:
        fleet.gpu17.sh("pkill -fx 'sleep 300' || true")


def until_shown(fleet: Fleet, shows: str, words: str, times: int = 1) -> None:
    eventually(lambda: fleet.laptop.read(shows).count(words) == times)


def on_gpus(host: Host, *pids: str, gpu: int = 0) -> None:
    lines = "".join(f"process {gpu} {pid} {GIB}\n" for pid in pids)
    host.write("/etc/fake-nvml", GPUS + lines)


class TestSomebodyElsesProgram:
    def test_is_told_of_in_its_users_sessions_once(self, fleet: Fleet, reserved: Host) -> None:
        with program(fleet, "train") as first, session(fleet) as shows:
            on_gpus(reserved, first)
            look(reserved)
            line = "gpu17: a program of yours is on a GPU that somebody else has reserved."
            until_shown(fleet, shows, line)
            assert "  GPU 0 is ann's until " in fleet.laptop.read(shows)
            look(reserved)
            with program(fleet, "more") as second:
                on_gpus(reserved, first, second)
                look(reserved)
                until_shown(fleet, shows, line, 2)
                look(reserved)
            reserved.sh("pkill -fx 'sleep 300'")
            until_shown(fleet, shows, "closed.")  # by then everything has come
            assert fleet.laptop.read(shows).count(line) == 2
            assert reserved.sh(f"kill -0 {first}").ok, "nothing is ever ended for it"
        assert f"{UNIT}.service" not in reserved.sh("systemctl --failed --plain").stdout

    def test_is_named(self, fleet: Fleet, reserved: Host) -> None:
        with program(fleet, "train") as pid:
            on_gpus(reserved, pid)
            look(reserved)
            lines = says(fleet, "gpus").splitlines()
            assert lines[3].startswith("      reserved by ann until ")
            assert lines[3].endswith(" (lqchen is on it)")
            assert lines[6].startswith("      reserved by lqchen until ")
            first, _ = json.loads(says(fleet, "gpus --json"))["gpus"]
            (whose,) = first["reservations"]
            assert (whose["user"], whose["intruders"]) == ("ann", ["lqchen"])
            for verb in ("start", "status"):
                lines = says(fleet, verb).splitlines()
                assert lines[-4].startswith("GPU 1: reserved for you until "), lines
                assert lines[-3].startswith("GPU 0: reserved by ann until ")
                assert lines[-2] == "A program of yours is on GPU 0, which ann has reserved:"
                assert lines[-1] == "  please end it, or agree with them."
                lines = says(fleet, verb, "ann").splitlines()
                assert lines[-2].startswith("GPU 0: reserved for you until ")
                assert lines[-2].endswith(" (lqchen is on it).")
            streamed = ["runuser", "-u", "iam", "--", "/usr/bin/python3", "-"]
            said = reserved.run(streamed, stdin=STREAM).stdout
            assert said.splitlines() == ["r1 ann lqchen False", "r2 lqchen  False"]
            reserved.run(["python3", "-c", AGE, "300"])
            look(reserved)
            assert told(reserved) == {("ann", "on-your-gpu", "r1-lqchen")}
            on_gpus(reserved)
            look(reserved)
            assert "is on it" not in says(fleet, "gpus")

    def test_by_who_lets_us_wait_hides_nobody_elses(self, fleet: Fleet, reserved: Host) -> None:
        """Terminals of lqchen's that never answer: ann is told all the same, and looks come."""
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "never-answers"
            source = Path(__file__).with_name("never_answers.c")
            run(["gcc", "-static", "-Wall", "-Werror", "-o", made, source])
            raw = made.read_bytes()
        push = "cat >/tmp/never-answers; chmod +x /tmp/never-answers"
        assert fleet.types(f"ssh gpu17 '{push}'", stdin=raw).ok
        try:
            with (
                program(fleet, "train") as bad,
                program(fleet, "learn", "ann") as other,
                session(fleet, "ann") as shows,
            ):
                assert fleet.types(f"ssh gpu17 '{SILENT}'").stdout == "taken\n"
                both = f"process 0 {bad} {GIB}\nprocess 1 {other} {GIB}\n"
                reserved.write("/etc/fake-nvml", GPUS + both)
                look(reserved)
                until_shown(fleet, shows, "GPU 1 is lqchen's until ")
                assert list(json.loads(reserved.read(SEEN))["resting"]) == ["lqchen"]
        finally:
            end_at_once(reserved, "lqchen")
            assert fleet.types("ssh gpu17-manage start").ok


class TestUnused:
    def test_is_said_after_an_hour(self, fleet: Fleet, reserved: Host) -> None:
        look(reserved)
        assert "You have used none of it" not in says(fleet, "status", "ann")
        reserved.run(["python3", "-c", AGE, "3600"])
        lines = says(fleet, "status", "ann")
        assert "  You have used none of it since " in lines
        assert "  If you don't need it:  ssh gpu17-manage release r1\n" in lines
        look(reserved)
        assert told(reserved) == {("ann", "reservation-unused", "r1")}
        with program(fleet, "learn", "ann") as pid:
            on_gpus(reserved, pid)
            look(reserved)
        assert told(reserved) == set(), "it is over"
        assert "You have used none of it" not in says(fleet, "status", "ann")


class TestWaiting:
    def test_is_told_once_when_so_many_are_free(self, fleet: Fleet, reserved: Host) -> None:
        reserve(reserved, lqchen=1)
        on_gpus(reserved, "1")
        assert says(fleet, "notify 2 a100", "ann").startswith(
            "You are told once, by mail, when 2 GPUs whose name contains `a100` are free on gpu17."
        )
        (wait,) = json.loads(says(fleet, "notify --json", "ann"))["waits"]
        assert (wait["gpus"], wait["model"]) == (2, "a100")
        assert says(fleet, "notify") == "You aren't waiting for anything here.\n"
        look(reserved)
        on_gpus(reserved)
        look(reserved)
        assert told(reserved) == set(), "one is lqchen's"
        reserve(reserved)
        look(reserved)
        ((user, kind, _),) = told(reserved)
        assert (user, kind) == ("ann", "gpus-free")
        assert says(fleet, "notify", "ann") == "You aren't waiting for anything here.\n"
        assert not reserved.sh("test -e /var/lib/lxc-gpu/waiting.json", check=False).ok
        assert "You waited for GPUs: 2 GPUs" in says(fleet, "status", "ann"), "mail or no mail"
        says(fleet, "notify --stop", "ann")
        assert "You waited for GPUs" not in says(fleet, "status", "ann")

    def test_says_what_is_free_now_and_what_never_is(self, fleet: Fleet, reserved: Host) -> None:
        done = fleet.types("ssh gpu17-manage notify 3")
        assert done.stderr.startswith("✗ Your container on gpu17 sees 2 such GPUs, so 3 are never")
        reserve(reserved)
        assert says(fleet, "notify 1").startswith("Free now on gpu17: GPU 0, 1. You need not wait")
        reserve(reserved, ann=0)
        assert says(fleet, "notify 1").startswith("Free now on gpu17: GPU 1. ")
        says(fleet, "notify 2")
        stopped = says(fleet, "notify --stop")
        assert stopped == "You no longer wait for 2 GPUs.\n"


class TestLooking:
    def test_comes_each_minute_and_asks_no_driver_for_nothing(self, server: Host) -> None:
        assert server.sh(f"systemctl is-enabled {UNIT}.timer").stdout.strip() == "enabled"
        server.sh(f"rm -f {BOOK} {SEEN}")
        look(server)
        assert server.sh(f"systemctl show -P ConditionResult {UNIT}.service").stdout == "no\n"
        server.write(BOOK, book_file.to_json(Book()))
        # whoever reads it now gets what somebody waits to write into it
        server.sh("rm /etc/fake-nvml; mkfifo /etc/fake-nvml")
        server.sh("systemd-run -q --unit=writes sh -c 'echo error 9 >/etc/fake-nvml'")
        try:
            look(server)
            assert server.sh("systemctl is-active writes").ok, "nobody has read it"
            reserve(server, ann=0)
            look(server)
            eventually(lambda: not server.sh("systemctl is-active writes", check=False).ok)
        finally:
            server.sh("systemctl stop writes 2>&- || true; rm /etc/fake-nvml")
