"""/metrics, the alerts and the dashboard, judged by promtool, which is Prometheus's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory.images.promtool import promtool
from laboratory.progress import ProgressLines
from ruamel.yaml import YAML

from tests.integration import CHECKOUT, slapd
from tests.integration.web import PEOPLE, Web, make_web
from tests.unit.webui.monitor.small_loads import load
from tests.unit.webui.pages.test_metrics import everything, rich, text
from webui.pages.families import COUNTERS, GAUGES, PREFIX, Families

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the cache of the lab is root's")
ALERTS = CHECKOUT / "setup/monitoring/alerts.yml"
DASHBOARD = CHECKOUT / "setup/monitoring/dashboard.json"
NAMES = {PREFIX + name for name in (*GAUGES, *COUNTERS)}


@pytest.fixture(scope="module")
def tool() -> Path:
    with ProgressLines() as progress:
        return promtool(progress)


def judged(tool: Path, *words: str | Path, stdin: str = "") -> str:
    done = subprocess.run([tool, *words], input=stdin, capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    return shown


def dashboard_expressions() -> list[str]:
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        found += [target["expr"] for target in panel["targets"]]
    assert len(found) > 10
    return found


def alert_expressions() -> list[str]:
    (group,) = YAML(typ="safe").load(ALERTS)["groups"]
    return [rule["expr"] for rule in group["rules"]]


def test_metrics_are_in_form(tool: Path) -> None:
    families = Families()
    everything(families)
    judged(tool, "check", "metrics", stdin=text(families))


def test_alerts_are_in_form_and_come_when_they_should(tool: Path) -> None:
    judged(tool, "check", "rules", ALERTS)
    judged(tool, "test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_the_dashboard_is_in_form(tool: Path, tmp_path: Path) -> None:
    """Its expressions, as rules: Prometheus parses them as it would for Grafana."""
    rules = [
        {"record": f"panel:{n}", "expr": each.replace("$__range", "1h").replace("$server", ".*")}
        for n, each in enumerate(dashboard_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    judged(tool, "check", "rules", path)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("expression", [*alert_expressions(), *dashboard_expressions()])
def test_what_is_asked_for_is_told(expression: str) -> None:
    asked = set(re.findall(rf"{PREFIX}\w+", expression))
    assert asked <= NAMES
    assert asked or 'up{job="lxc-gpu"}' in expression


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    dead = {"gpu17": ("127.0.0.1", slapd.free_port()), "gpu18": ("127.0.0.2", slapd.free_port())}
    with slapd.running(tmp_path / "slapd", PEOPLE) as directory:
        yield make_web(tmp_path / "web", directory, dead)


@pytest.mark.skipif(not Path("/usr/sbin/slapd").exists(), reason="needs slapd")
def test_the_page_itself(web: Web, tool: Path) -> None:
    client = web.app.test_client()
    web.parts.latest.post("gpu17", rich())
    for seconds in (0, 5):
        web.parts.history.note("gpu17", rich(), 1e9 + seconds)
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    shown = answer.get_data(as_text=True)
    judged(tool, "check", "metrics", stdin=shown)
    assert 'lxc_gpu_server_up{server="gpu17"} 1.0' in shown
    assert 'lxc_gpu_server_up{server="gpu18"} 0.0' in shown
    assert "lxc_gpu_state_readable 1.0" in shown
    assert 'lxc_gpu_user_gpu_seconds_total{server="gpu17",user="ann"} 2.5' in shown
    assert "lxc_gpu_web_process_cpu_seconds_total" in shown
    assert (
        not set(re.findall(r"^(\w+)", shown, re.M))
        - NAMES
        - {name for name in re.findall(r"^(\w+)", shown, re.M) if name.startswith("lxc_gpu_web_")}
    )
    asked = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert client.get("/metrics", headers=asked).get_data(as_text=True).endswith("# EOF\n")
    strange = {"Accept": "application/openmetrics-text; version=x"}
    assert client.get("/metrics", headers=strange).status_code == 200
    web.parts.latest.keep_only(["gpu17"])
    web.parts.latest.post("gpu18", load("gpu18"))
    assert 'lxc_gpu_server_up{server="gpu18"} 1.0' in client.get("/metrics").get_data(as_text=True)
