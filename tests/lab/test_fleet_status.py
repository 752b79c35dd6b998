"""`lxc-gpu status` in the lab: on a server its own, elsewhere the fleet by the web page."""

from __future__ import annotations

import re

from laboratory.layout import DOMAIN

from tests.lab.fleet import Fleet
from tests.patience import eventually

PAGE = f"http://iam.{DOMAIN}"


class TestStatus:
    def test_of_the_fleet_on_the_web_machine(self, fleet: Fleet, heard: None) -> None:
        shown = fleet.iam.run(["lxc-gpu", "status"])
        lines = shown.stdout.splitlines()
        assert lines[0].split()[:2] == ["server", "state"]
        for server, line in zip(("gpu17", "gpu18"), lines[1:3], strict=True):
            assert re.match(rf"{server} +\w.* +\d+ % +\d+/\d+ GiB( |$)", line)
        assert lines[3] == "no GPUs on 2 servers"

    def test_of_a_server_on_that_server(self, fleet: Fleet, heard: None) -> None:
        own = fleet.gpu17.run(["lxc-gpu", "status"]).stdout
        assert "gpu17: converged at revision" in own
        assert "gpu18" not in own
        for words in (["--page", PAGE], ["--fleet", "--page", PAGE]):
            assert "gpu18" in fleet.gpu17.run(["lxc-gpu", "status", *words]).stdout
        lost = fleet.gpu17.run(["lxc-gpu", "status", "--fleet"], check=False)
        assert (lost.status, lost.stdout) == (1, "")
        assert "the address of the lab's web page is not known here" in lost.stderr

    def test_a_server_that_falls_silent(self, fleet: Fleet, heard: None) -> None:
        fleet.gpu18.sh("systemctl stop ssh.socket 2>&- || true; systemctl stop ssh; "
                       "pkill -u iam || true")  # fmt: skip
        try:

            def silent() -> bool:
                return "gpu18   silent since" in fleet.iam.run(["lxc-gpu", "status"]).stdout

            eventually(silent, 60)
            lines = fleet.iam.run(["lxc-gpu", "status"]).stdout.splitlines()
            assert re.fullmatch(r"no GPUs on 1 server, 1 silent since .*", lines[3])
            assert any(line.startswith("gpu18: ") for line in lines[4:]), "and why"
        finally:
            fleet.gpu18.sh("systemctl start ssh")
