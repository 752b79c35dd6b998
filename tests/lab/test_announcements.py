"""Announcements: told where people look; `stop` has containers down until they come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import STARTS_ROUNDS, Fleet, reconcile, running
from tests.patience import eventually

TIMERS = "lxc-gpu-announced.timer lxc-gpu-idleness.timer"
RUNNING = "/var/lib/lxc-gpu/running"
HOSTILE = "<b>New</b> http://evil.example {{ 7*7 }} `x`"


def says(begins: float | None, ends: float, *, stop: bool = False, text: str = "New disks") -> str:
    """The content of an announcement for gpu17; times are in seconds from now."""

    def moment(after: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time.time() + after))

    lines = [f'text: "{text}"', "servers: [gpu17]", f"until: {moment(ends)}"]
    lines += [] if begins is None else [f"from: {moment(begins)}"]
    return "\n".join([*lines, *(["stop: true"] if stop else [])])


def announce(fleet: Fleet, content: str | None) -> None:
    """Have gpu17 know the announcement, or none."""
    path = "announcements/ram.yaml"
    write = f"mkdir -p announcements; cat >{path} <<'END'\n{content}\nEND"
    fleet.commits("Announce", write if content else f"git rm -q {path}")
    assert reconcile(fleet.gpu17).ok


def look(host: Host) -> None:
    """What the timer does, more often than systemd lets anything start."""
    host.sh("systemctl reset-failed lxc-gpu-announced.service 2>&- || true;"
            "systemctl start lxc-gpu-announced.service")  # fmt: skip


@pytest.fixture
def gpu17(fleet: Fleet) -> Iterator[Host]:
    """lqchen's container runs, ann's was stopped; looks come from the tests alone."""
    host = fleet.gpu17
    host.sh(f"systemctl stop {TIMERS}")
    look(host)  # containers are shut down once two of one boot agree on the clock
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17-manage stop", user="ann").ok
    yield host
    if json.loads(host.read("/var/lib/lxc-gpu/view.json"))["announcements"]:
        announce(fleet, None)
    look(host)
    assert fleet.types("ssh gpu17-manage", user="ann").ok
    assert fleet.types("ssh gpu17-manage").ok
    host.sh(f"systemctl start {TIMERS}")


def test_told_at_login_in_status_and_on_the_page(fleet: Fleet, gpu17: Host) -> None:
    announce(fleet, says(None, 7200, text=HOSTILE))
    for words in ("", "status"):
        shown = fleet.types(f"ssh gpu17-manage {words}").stdout
        assert f"Announcement: {HOSTILE} (until " in shown
    escaped = "&lt;b&gt;New&lt;/b&gt; http://evil.example {{ 7*7 }} `x`"
    for page in ("", "user/lqchen", "server/gpu17"):
        asks = f"curl -fsS http://iam.mylab.com/{page}"
        eventually(lambda: escaped in fleet.laptop.sh(asks).stdout, 30)  # noqa: B023
        html = fleet.laptop.sh(asks).stdout
        assert 'href="http://evil' not in html
    assert "evil" not in fleet.laptop.sh("curl -fsS http://iam.mylab.com/server/gpu18").stdout
    assert running(gpu17, "lqchen")
    look(gpu17)
    assert running(gpu17, "lqchen"), "words stop nobody"


def test_stop_has_containers_down_and_back(fleet: Fleet, gpu17: Host) -> None:
    fleet.types("ssh gpu17 'echo kept >file; sync'")
    announce(fleet, says(3600, 7200, stop=True))
    look(gpu17)
    assert running(gpu17, "lqchen")
    assert "containers on gpu17 are shut down from" in fleet.types("ssh gpu17-manage").stdout
    announce(fleet, says(-60, 7200, stop=True))
    look(gpu17)
    assert not running(gpu17, "lqchen")
    journal = gpu17.sh("journalctl -b -t lxc-gpu -o cat").stdout
    assert "event=stopped-by-announcement user=lqchen announcement=ram" in journal
    for words in ("", "connect </dev/null", "restart"):
        refused = fleet.types(f"ssh gpu17-manage {words}")
        assert not refused.ok
        assert "Containers on gpu17 are shut down until" in refused.stderr, words
        assert "New disks" in refused.stderr
    gpu17.stop()  # a loss of power, while they are down
    gpu17.start()
    gpu17.wait_until_booted()
    gpu17.sh(f"systemctl stop {STARTS_ROUNDS} {TIMERS}")
    ended = ["systemctl", "show", "-p", "ActiveState", "--value", "lxc-gpu-come-back"]
    eventually(lambda: gpu17.run(ended).stdout.strip() in ("active", "failed"), 60)
    assert not running(gpu17, "lqchen")
    assert gpu17.sh(f"ls {RUNNING}").stdout == "lqchen\n"
    announce(fleet, None)
    look(gpu17)
    assert fleet.types("ssh gpu17 cat file").stdout == "kept\n"
    assert running(gpu17, "lqchen")
    assert not running(gpu17, "ann"), "she had stopped it"
    assert gpu17.sh("ls /var/lib/lxc-gpu/down").stdout == ""


def test_whoever_stops_theirs_meanwhile_has_it_stay_down(fleet: Fleet, gpu17: Host) -> None:
    announce(fleet, says(-60, 7200, stop=True))
    look(gpu17)
    assert fleet.types("ssh gpu17-manage stop").ok
    announce(fleet, None)
    look(gpu17)
    assert not running(gpu17, "lqchen")
