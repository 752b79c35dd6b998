"""Containers that nobody uses: named at login. Real containers; weeks pass by editing what is kept.

What a GPU does is told by a fake NVML (fake_nvml.c), for the lab has none.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory.hosts import Host

from tests.lab import nvidia
from tests.lab.fleet import Fleet, end_at_once, in_container, reconcile, running
from tests.patience import eventually

KEPT = "/var/lib/lxc-gpu/idleness.json"
TIMER = "lxc-gpu-idleness.timer"
DAY = 86400
NO_DELAY = "/etc/systemd/logind.conf.d/no-delay.conf"
"""Has what a login leaves behind end with it, not ten seconds later."""
AGE = """
import json, sys, time
user, days, back = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
with open("/var/lib/lxc-gpu/idleness.json") as file:
    kept = json.load(file)
kept["looked"] = time.clock_gettime(time.CLOCK_BOOTTIME)
for name in ("gpu", "login", "cpu", "connection"):
    kept["containers"][user][name] = days * 86400
kept["containers"][user]["measured"] = kept["looked"] - back
with open("/var/lib/lxc-gpu/idleness.json", "w") as file:
    json.dump(kept, file)
"""
CPU_TIME = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.host.published import current_view
from reconciler.load import last_use, processes
print(last_use.cpu_time(last_use._inside(current_view(), processes.read()).get("lqchen", ())))
"""
LOOK_SOON = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.load import idleness
from shells.units.idleness import main
idleness.MEASURED = float(sys.argv[1])
sys.exit(main([]))
"""
"""A look as the timer's, for which less time than usual has to have passed since the last one."""


ACCEPT = """
import sys, time
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.notices import store
store.accept([notice.id for notice in store.open_notices()], time.time())
"""
"""What the page says once a mail server has accepted the mail."""


def policy(fleet: Fleet, days: int | None, line: str = "") -> None:
    line = line or f"idle_days: {days}"
    line = "true" if days is None else f"echo '{line}' >>servers/gpu17.yaml"
    fleet.commits("Idle containers", f"sed -i '/^idle/d' servers/gpu17.yaml; {line}")
    assert reconcile(fleet.gpu17).ok


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu17, which names containers after 30 days; looks come from the tests alone."""
    fleet.gpu17.sh(f"systemctl stop {TIMER}")
    end_at_once(fleet.gpu17, "lqchen")
    in_container(fleet.gpu17, "lqchen", f"""
        mkdir -p {Path(NO_DELAY[1:]).parent}
        printf '[Login]\\nUserStopDelaySec=0\\n' >{NO_DELAY[1:]}""")  # fmt: skip
    policy(fleet, 30)
    yield fleet.gpu17
    in_container(fleet.gpu17, "lqchen", f"rm {NO_DELAY[1:]}")
    policy(fleet, None)
    fleet.gpu17.sh(f"systemctl start {TIMER}")


def look(host: Host) -> None:
    """What the timer does, more often than systemd lets anything start."""
    host.sh("systemctl reset-failed lxc-gpu-idleness.service 2>&- || true;"
            "systemctl start lxc-gpu-idleness.service")  # fmt: skip


def kept(host: Host, user: str = "lqchen") -> dict[str, float]:
    found: dict[str, float] = json.loads(host.read(KEPT))["containers"][user]
    return found


def age(host: Host, days: float = 34, *, back: float = 0, user: str = "lqchen") -> None:
    """So many days without use have passed; CPU was last measured `back` seconds ago."""
    host.run(["python3", "-c", AGE, user, str(days), str(back)])


def says(fleet: Fleet, words: str = "", user: str = "lqchen") -> str:
    done = fleet.types(f"ssh gpu17-manage {words}", user=user)
    assert done.ok, done.stderr
    return done.stdout


def named(fleet: Fleet, user: str = "lqchen") -> bool:
    return "was last used" in says(fleet, "status", user)


def settled(fleet: Fleet, host: Host) -> None:
    """Nobody is logged in, what the last login left has ended, and 34 days have passed since."""
    group = "lxc-gpu@lqchen.service/lxc.payload.lqchen/user.slice"
    left = f"find /sys/fs/cgroup -path '*/{group}/user-*' 2>&- | wc -l"
    eventually(lambda: host.sh(left).stdout.strip() == "0", 40)
    look(host)
    age(host)
    look(host)
    assert named(fleet)


@pytest.fixture
def idle(fleet: Fleet, server: Host, lqchen_is_up: None) -> Host:
    """lqchen's container runs, and nobody used it for 34 days."""
    settled(fleet, server)
    return server


class TestNamed:
    def test_at_login(self, fleet: Fleet, idle: Host) -> None:
        lines = says(fleet).splitlines()
        assert lines[0] == "Your container on gpu17 runs already."
        assert lines[-3:] == [
            "Your container was last used 34 days ago (GPU, CPU, logins).",
            "`ssh gpu17-manage stop` gives its memory back to the others; its files",
            "stay, and a start brings it back. It is not stopped automatically.",
        ]
        assert says(fleet, "status").splitlines()[-3:] == lines[-3:]

    def test_for_programs(self, fleet: Fleet, idle: Host) -> None:
        for verb in ("start", "status"):
            facts = json.loads(says(fleet, f"{verb} --json"))
            assert 0 <= facts["idle_seconds"] - 34 * DAY < 600

    def test_not_to_others(self, fleet: Fleet, idle: Host) -> None:
        assert fleet.types("ssh gpu17-manage start", user="ann").ok
        look(idle)
        assert not named(fleet, "ann")
        assert named(fleet)

    def test_not_before_the_day(self, fleet: Fleet, idle: Host) -> None:
        age(idle, 29)
        assert not named(fleet)
        assert json.loads(says(fleet, "status --json"))["idle_seconds"] is None

    def test_nor_without_the_policy(self, fleet: Fleet, idle: Host) -> None:
        policy(fleet, None)
        try:
            assert not named(fleet)
            assert "was last used" not in says(fleet)
        finally:
            policy(fleet, 30)
        assert named(fleet), "counting goes on whether or not there is a policy"

    def test_nor_when_it_is_stopped_or_just_started(self, fleet: Fleet, idle: Host) -> None:
        says(fleet, "stop")
        assert not named(fleet)
        assert "was last used" not in says(fleet, "start")
        assert not named(fleet)
        look(idle)
        assert kept(idle)["login"] == 0


class TestOnThePage:
    def test_by_the_load_stream(self, fleet: Fleet, idle: Host, nudges: None) -> None:
        def said() -> list[dict[str, object]]:
            done = fleet.iam.run(["lxc-gpu", "status", "--json"], check=False)
            if not done.ok:
                return []  # the page is not there again yet
            shown = json.loads(done.stdout)
            load = next(s["load"] for s in shown["servers"] if s["name"] == "gpu17")
            return load["idle"] if load else []

        # a stream that has begun before looks at the idle ones a minute later only
        fleet.iam.sh("systemctl restart lxc-gpu-web")
        eventually(said, 120)
        ((user, since),) = [(each["user"], each["since"]) for each in said()]
        assert user == "lqchen"
        assert abs(time.time() - 34 * DAY - float(str(since))) < 600
        page = fleet.laptop.sh("curl -fsS http://iam.mylab.com/monitor").stdout
        assert "idle" in page.lower()


class TestUse:
    def test_a_login_that_lasts(self, fleet: Fleet, idle: Host) -> None:
        fleet.laptop.sh("ssh gpu17 sleep 60 >/dev/null 2>&1 &", user="lqchen")
        eventually(lambda: idle.sh("pgrep -fx 'sleep 60' || true").stdout)
        look(idle)
        assert kept(idle)["login"] == 0
        look(idle)
        assert not named(fleet)
        idle.sh("pkill -fx 'sleep 60'")

    def test_a_login_that_was_over_before_the_look(self, fleet: Fleet, idle: Host) -> None:
        assert fleet.types("ssh gpu17 true").ok
        eventually(lambda: "sshd: lqchen@" not in idle.sh("ps -eo args").stdout)
        look(idle)
        assert kept(idle)["login"] == 0
        assert not named(fleet)

    def test_work_on_the_cpu(self, fleet: Fleet, idle: Host) -> None:
        work = 'nohup timeout 150 sh -c "while :; do :; done" >&- 2>&- &'
        fleet.types(f"ssh gpu17 '{work}'")

        def used() -> float:
            return float(idle.run(["python3", "-c", CPU_TIME]).stdout)

        try:
            look(idle)
            age(idle, back=20)
            began, cpu_time = time.monotonic(), used()
            # twice what counts as use: 0.05 CPUs from 20 s ago on
            eventually(lambda: used() - cpu_time > 0.1 * (20 + time.monotonic() - began), 120)
            idle.run(["python3", "-c", LOOK_SOON, "20"])
            assert kept(idle)["cpu"] == 0
            assert kept(idle)["login"] > 33 * DAY, "it is no login that ended this"
            assert not named(fleet)
        finally:
            idle.sh("pkill -f '[t]imeout 150' || true")

    def test_a_program_on_a_gpu(self, fleet: Fleet, idle: Host) -> None:
        version = "535.261.03"
        gpus = f"driver {version}\ngpu {nvidia.UUIDS[0]} 0 {40 << 30} {12 << 30} 87 NVIDIA A100\n"
        nvidia.load(idle, version)
        nvidia.install_fake_nvml(idle, version, gpus)
        try:
            look(idle)
            assert named(fleet), "nobody is on the GPU"
            pid = idle.sh(
                "pgrep -x systemd-logind -u $(sed -n 's/^lqchen:\\([0-9]*\\):.*/\\1/p' /etc/subuid)"
            ).stdout.split()[0]
            idle.write("/etc/fake-nvml", "hang\n")
            before = kept(idle)["gpu"]
            look(idle)
            assert kept(idle)["gpu"] == before, "what the driver doesn't say doesn't count"
            idle.write("/etc/fake-nvml", f"{gpus}process 0 {pid} {12 << 30}\n")
            look(idle)
            assert kept(idle)["gpu"] == 0
            assert kept(idle)["login"] > 33 * DAY
            assert not named(fleet)
        finally:
            nvidia.clean(idle)
            idle.sh("rm -f /etc/fake-nvml")


@pytest.fixture
def stops(fleet: Fleet, idle: Host) -> Iterator[Host]:
    """... and the policy has it stopped after 32 days."""
    policy(fleet, 30, "idle: {warn: 30d, stop: 32d}")
    yield idle
    says(fleet)
    policy(fleet, 30)


def told(host: Host) -> None:
    """Mail of what there is to tell was accepted, and a look saw it."""
    host.run(["python3", "-c", ACCEPT])
    look(host)


class TestStopped:
    def test_after_two_mails_on_two_days_and_said_once(self, fleet: Fleet, stops: Host) -> None:
        look(stops)
        assert "will-stop" in stops.read("/var/lib/lxc-gpu/notices.json")
        assert "it is stopped, once two mails have told you." in says(fleet, "status")
        age(stops, 90)
        look(stops)
        assert running(stops, "lqchen"), "no mail was accepted"
        told(stops)
        age(stops, 92)
        look(stops)
        assert running(stops, "lqchen"), "it was told once"
        told(stops)
        assert running(stops, "lqchen"), "it was told just now"
        age(stops, 94)
        look(stops)
        assert not running(stops, "lqchen")
        assert (
            "event=stopped-idle user=lqchen" in stops.sh("journalctl -b -t lxc-gpu -o cat").stdout
        )
        assert "lqchen" not in stops.sh("ls /var/lib/lxc-gpu/running").stdout
        why = "because nobody had used it for 94 days"
        assert why in says(fleet, "status")
        assert why in says(fleet)
        says(fleet, "stop")
        assert "nobody had used it" not in says(fleet, "status")
        assert "nobody had used it" not in says(fleet)

    def test_never_while_somebody_is_connected_or_came_just_now(
        self, fleet: Fleet, stops: Host
    ) -> None:
        look(stops)
        told(stops)
        age(stops, 90)
        look(stops)
        told(stops)
        fleet.laptop.sh("(exec 3<>/dev/tcp/172.16.2.17/22000; exec sleep 77) >&- 2>&- &")
        try:
            age(stops, 94)
            # asked straight away, as if that connection had come after the look
            ask = ("from shells.helper.client import ask; from shells.helper.request import *;"
                   "ask(Request(Verb.STOP, 'lqchen', {'idle': ''}), lambda _: None)")  # fmt: skip
            path = "import sys; sys.path.insert(0, '/opt/lxc-gpu/packages');"
            refused = stops.run(["python3", "-c", path + ask], check=False)
            assert "is not to be stopped" in refused.stderr
            look(stops)
            assert kept(stops)["connection"] == 0
            assert kept(stops)["login"] > 93 * DAY
            assert running(stops, "lqchen")
            assert not named(fleet)
        finally:
            fleet.laptop.sh("pkill -fx 'sleep 77' || true")

    def test_one_that_is_kept(self, fleet: Fleet, stops: Host) -> None:
        path = "registrations/gpu17/lqchen.yaml"
        fleet.commits("Keep", f"echo 'keep: the demo' >>{path}")
        assert reconcile(stops).ok
        try:
            look(stops)
            for days in (90, 92, 94):
                told(stops)
                age(stops, days)
                look(stops)
            assert running(stops, "lqchen")
            shown = says(fleet, "status")
            assert "kept     also when nobody uses it: the demo" in shown
            assert "It is not stopped for that: the demo." in shown
        finally:
            fleet.commits("Keep no more", f"sed -i '/^keep/d' {path}")
            assert reconcile(stops).ok

    def test_one_that_came_back_is_no_more_in_use_than_before(
        self, fleet: Fleet, idle: Host
    ) -> None:
        before = kept(idle)["login"]
        idle.sh("systemctl stop lxc-gpu@lqchen")  # as a server does that goes down
        look(idle)
        assert kept(idle)["login"] == before
        idle.sh("/usr/local/lib/lxc-gpu/come-back")
        assert running(idle, "lqchen")
        look(idle)
        assert kept(idle)["login"] >= before
        assert named(fleet)


class TestHostile:
    def test_names_of_programs_harm_nobody_else(self, fleet: Fleet, idle: Host) -> None:
        """Hundreds of programs called sshd, with titles and names that aim at who reads them."""
        assert fleet.types("ssh gpu17-manage start", user="ann").ok
        look(idle)
        age(idle, user="ann")
        script = r"""
            cp /bin/sleep /tmp/sshd
            for n in $(seq 300); do
                bash -c 'exec -a "$0" /tmp/sshd 300' "$(printf 'sshd: \033[2J\nroot@%s\377' $n)" &
            done
            for n in $(seq 20); do
                bash -c "printf 'x\nUid: 0\n) R 1' >/proc/self/comm; sleep 300; true" &
            done
            """
        fleet.types("ssh gpu17 'cat >/tmp/mess; nohup bash /tmp/mess >&- 2>&- <&- &'", stdin=script)
        try:
            eventually(lambda: int(idle.sh("pgrep -cx sshd").stdout) > 300, 60)
            look(idle)
            assert kept(idle, "ann")["login"] > 33 * DAY
            assert named(fleet, "ann")
        finally:
            says(fleet, "stop")
            fleet.types("ssh gpu17-manage stop", user="ann")

    def test_garbage_in_what_is_kept(self, fleet: Fleet, idle: Host) -> None:
        for text in ("", "{", "[]", '{"boot": 7, "containers": {"lqchen": null}}'):
            idle.write(KEPT, text)
            assert not named(fleet), text
            assert says(fleet).startswith("Your container on gpu17 runs already."), text
            look(idle)
            assert kept(idle)["login"] == 0, text


class TestLooking:
    def test_comes_by_itself(self, fleet: Fleet, server: Host) -> None:
        server.sh(f"systemctl start {TIMER}")
        try:
            assert server.sh(f"systemctl is-enabled {TIMER}").stdout.strip() == "enabled"
            listed = f"systemctl list-timers --output=json {TIMER}; date +%s"
            ready = '"next":[0-9]'  # none while what it starts is at work
            eventually(lambda: re.search(ready, server.sh(listed).stdout) is not None)
            shown = server.sh(listed).stdout
            (timer,), now = json.loads(shown.splitlines()[0]), int(shown.splitlines()[1])
            assert -60 < timer["next"] / 1e6 - now <= 11 * 60
            assert server.sh(f"stat -c %a:%U {KEPT}").stdout.strip() == "644:root"
        finally:
            server.sh(f"systemctl stop {TIMER}")

    def test_that_it_ended_is_noticed(self, fleet: Fleet, server: Host) -> None:
        look(server)
        server.write(KEPT, json.dumps({**json.loads(server.read(KEPT)), "boot": "an earlier one"}))
        shown = server.run(["lxc-gpu", "doctor"], check=False, timeout=120).stdout
        assert "lxc-gpu-idleness.timer is inactive: nobody is told" in shown
        assert "(so long ago was the boot)" in shown
        look(server)
        assert "Nothing has looked" not in server.run(["lxc-gpu", "doctor"], check=False).stdout
