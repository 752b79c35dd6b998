"""The monitor in the lab: real servers, the page under its real unit."""

from __future__ import annotations

import json
import re
import time

from laboratory.layout import DOMAIN

from tests.lab.fleet import Fleet
from tests.patience import eventually

METRICS = f"http://iam.{DOMAIN}/metrics"
HISTORY = "/var/lib/lxc-gpu/history.db"
WRITTEN = f"""
import json, sqlite3
rows = sqlite3.connect("{HISTORY}").execute("SELECT server, seconds FROM heard").fetchall()
print(json.dumps(dict(rows)))
"""


def metrics(fleet: Fleet) -> str:
    patient = "curl -fsS --retry 20 --retry-delay 1 --retry-connrefused"
    return fleet.laptop.sh(f"{patient} {METRICS}").stdout


def up(fleet: Fleet) -> set[str]:
    """The servers that are heard."""
    return set(re.findall(r'lxc_gpu_server_up{server="(\w+)"} 1\.0', metrics(fleet)))


def written(fleet: Fleet) -> dict[str, float]:
    """Seconds of each server that stand on the disk."""
    asked = ["runuser", "-u", "lxc-gpu", "--", "/opt/lxc-gpu/bin/python", "-c", WRITTEN]
    found: dict[str, float] = json.loads(fleet.iam.run(asked).stdout)
    return found


class TestMetrics:
    def test_of_real_servers(self, fleet: Fleet, heard: None) -> None:
        shown = metrics(fleet)
        assert re.search(r'lxc_gpu_server_converged{server="gpu17"} [01]\.0', shown)
        assert 'lxc_gpu_cpus{server="gpu18"}' in shown
        assert "lxc_gpu_history_kept 1.0" in shown
        assert "lxc_gpu_web_process_resident_memory_bytes" in shown


class TestHistory:
    def test_is_written_when_the_page_ends(self, fleet: Fleet, heard: None) -> None:
        time.sleep(12)
        fleet.iam.sh("systemctl restart lxc-gpu-web")
        before = written(fleet)
        assert before["gpu17"] > 5
        assert before["gpu18"] > 5
        assert fleet.iam.sh(f"stat -c %U {HISTORY}").stdout.strip() == "lxc-gpu"
        log = fleet.iam.sh("journalctl -u lxc-gpu-web -n 200 --no-pager").stdout
        assert "Traceback" not in log
        assert "event=use-" not in log

    def test_a_kill_costs_a_minute(self, fleet: Fleet, heard: None) -> None:
        time.sleep(12)
        fleet.iam.sh("systemctl restart lxc-gpu-web")
        before = written(fleet)
        eventually(lambda: "gpu17" in up(fleet), 100)
        fleet.iam.sh("systemctl kill -s KILL lxc-gpu-web")
        eventually(lambda: "gpu17" in up(fleet), 100)
        time.sleep(12)
        fleet.iam.sh("systemctl restart lxc-gpu-web")
        after = written(fleet)
        assert after["gpu17"] > before["gpu17"]
        assert "lxc_gpu_history_kept 1.0" in metrics(fleet)
