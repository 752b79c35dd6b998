"""What the first release left of a container that runs: `setup/gpu-server` has it adopted."""

from __future__ import annotations

from laboratory.hosts import Host

from tests.lab.fleet import Fleet, plan, reconcile

MAC = "0a:11:22:33:44:55"
LEFT = f"""
main=$(systemctl show -P MainPID lxc-gpu@lqchen)
inside=$(cut -d' ' -f1 /proc/$main/task/$main/children)
nsenter --net=/proc/$inside/ns/net ip link set eth0 address {MAC}
ip neigh flush dev lxcgpu0
sed -i /hwaddr/d /run/lxc-gpu/lqchen.config
rm /var/lib/lxc-gpu/running/lqchen
sed -i '/"driver"/d' /var/lib/lxc-gpu/view.json
"""


def test_it_stays_reached_and_comes_back(fleet: Fleet, converged: Host, lqchen_is_up: None) -> None:
    since = fleet.types("ssh gpu17 stat -c %Z /proc/1").stdout
    converged.sh(LEFT)
    assert not fleet.types("ssh gpu17-manage status").ok
    assert converged.run(["lxc-gpu", "adopt"]).stdout.splitlines() == [
        "write the view as this release reads it",
        "note that the container of lqchen runs, to start it after a boot",
        f"let the container of lqchen keep the MAC {MAC} until its next start",
    ]
    assert converged.run(["lxc-gpu", "adopt"]).stdout == ""
    assert "gpu17: running" in fleet.types("ssh gpu17-manage status").stdout
    assert reconcile(converged).ok
    assert plan(converged) == []
    assert fleet.types("ssh gpu17 stat -c %Z /proc/1").stdout == since
    assert MAC in converged.run(["nft", "list", "table", "bridge", "lxc-gpu"]).stdout
    assert fleet.types("ssh gpu17-manage restart").ok
    assert plan(converged) == []
    assert MAC not in converged.run(["nft", "list", "table", "bridge", "lxc-gpu"]).stdout
    assert fleet.types("ssh gpu17 true").ok


def test_another_ones_mac_is_not(fleet: Fleet, converged: Host, lqchen_is_up: None) -> None:
    hers = converged.sh("nft list set bridge lxc-gpu identities | tr , '\\n' | "
                    "sed -n 's/.*\\(02:00:[0-9a-f:]*\\).*comment \"ann\".*/\\1/p'")  # fmt: skip
    assert hers.stdout.startswith("02:00:")
    converged.sh(LEFT.replace(MAC, hers.stdout.strip()))
    assert "MAC" not in converged.run(["lxc-gpu", "adopt"]).stdout
    assert fleet.types("ssh gpu17-manage restart").ok
    assert plan(converged) == []
