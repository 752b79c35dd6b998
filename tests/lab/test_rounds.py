"""Rounds that begin by themselves, and rounds at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import BARE, KEYS, Fleet, plan, reconcile
from tests.patience import eventually


class TestByItself:
    HOOK = "INPUT -j LXC-GPU-INPUT"

    @pytest.fixture(autouse=True)
    def watched(self, converged: Host) -> Iterator[None]:
        converged.sh("systemctl start lxc-gpu-watch")
        eventually(lambda: plan(converged) == [])
        yield
        converged.sh("systemctl stop lxc-gpu-watch")

    def test_drift_is_noticed_and_healed_within_seconds(self, converged: Host) -> None:
        converged.sh("usermod --shell /bin/sh lqchen; iptables -t nat -F LXC-GPU-DNAT")
        eventually(lambda: plan(converged) == [], 20)

    def test_a_bridge_that_is_made_again_gets_its_ports_back_without_a_restart(
        self, fleet: Fleet, converged: Host, lqchen_is_up: None
    ) -> None:
        since = "ssh gpu17 stat -c %Z /proc/1"
        before = fleet.types(since)
        assert before.ok
        converged.sh("ip link delete lxcgpu0")
        eventually(lambda: plan(converged) == [])
        assert fleet.types(since).stdout == before.stdout

    @pytest.mark.usefixtures("round_that_hangs")
    def test_what_comes_back_is_healed_each_time_beside_a_round_that_hangs(
        self, converged: Host
    ) -> None:
        for _ in range(3):
            converged.sh(
                f"iptables -D {self.HOOK}; echo 'ssh-ed25519 AAAA intruder' >>{KEYS}/lqchen"
            )
            eventually(lambda: "intruder" not in converged.read(f"{KEYS}/lqchen"))
            eventually(lambda: converged.sh(f"iptables -C {self.HOOK}", check=False).ok)
        drift = json.loads(converged.run(["lxc-gpu", "status", "--json"]).stdout)["drift"]
        for words in (f"network: set filter {self.HOOK.replace(' -j', ' hook: -j')}",
                      "authorized_keys: lqchen logs in with 1 key"):  # fmt: skip
            assert len([each for each in drift if each["words"] == words]) == 1, drift

    @pytest.fixture
    def round_that_hangs(self, watched: None, converged: Host) -> Iterator[None]:
        """It waits for the newest revision as long as the block goes on."""
        converged.sh(
            "systemd-run -q --unit=at-fetch flock /run/lxc-gpu/locks/publish sleep infinity"
        )
        eventually(
            lambda: not converged.sh("flock -n /run/lxc-gpu/locks/publish true", check=False).ok
        )
        with ThreadPoolExecutor() as pool:
            hanging = pool.submit(reconcile, converged)
            try:
                converged.sh("systemctl start --no-block lxc-gpu-reconcile")
                yield
                assert not hanging.done()
            finally:
                converged.sh("systemctl stop at-fetch")
            assert hanging.result().ok
        eventually(
            lambda: (
                not converged.sh(
                    "systemctl is-active lxc-gpu-reconcile", check=False
                ).stdout.startswith("activating")
            )
        )


class TestRoundsAtOnce:
    def test_a_newer_revision_wins(self, fleet: Fleet, converged: Host) -> None:
        """A round is under way when a commit comes, and a second round: the newer state stays."""
        file = "users/ann.yaml"
        converged.sh(f"echo x >>{KEYS}/lqchen; usermod --shell /bin/sh lqchen")
        with ThreadPoolExecutor() as pool:
            older = pool.submit(reconcile, converged)
            fleet.commits("Another name", f"sed -i 's/^name:.*/name: Annette/' {file}")
            try:
                assert reconcile(converged).ok
                assert older.result().ok
                assert plan(converged) == []
                assert "Annette" in converged.sh("getent passwd ann").stdout
            finally:
                fleet.commits("As before", f"sed -i 's/^name:.*/name: Ann Example/' {file}")
                fleet.rounds()

    def test_the_timers_unit_is_a_round_like_any_other(self, fleet: Fleet, converged: Host) -> None:
        converged.sh(f"rm {KEYS}/lqchen")
        converged.run(["systemctl", "start", "lxc-gpu-reconcile.service"])
        eventually(lambda: plan(converged) == [])
        tip = fleet.iam.sh(f"git -c safe.directory='*' -C {BARE} rev-parse main").stdout.strip()
        facts = json.loads(converged.run(["lxc-gpu", "status", "--json"]).stdout)
        assert facts["revision"] == tip
