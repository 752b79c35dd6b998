"""What the kernel says of network interfaces: in a network namespace that is made for this."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PRINTS = """
import sys
sys.path.insert(0, sys.argv[1])
from reconciler.network.rtnetlink import addresses
from reconciler.kinds.traffic import network
try:
    print(*addresses("lxcgpu0"), sep=", ")
except OSError:
    print("none")
print(network._bridge())
"""
MAKES = """
mount -t sysfs sysfs /sys
"$@"
ip link add lxcgpu0 type bridge
ip link set lxcgpu0 address 02:00:0a:4d:00:01
"$@"
ip address add 10.77.0.1/16 dev lxcgpu0
ip address add 10.78.0.1/24 dev lxcgpu0
ip -6 address add fd00::1/64 dev lxcgpu0 || :
ip address add 192.0.2.1/24 dev lo
ip link set lxcgpu0 up
"$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_a_bridge_as_it_is_made() -> None:
    words = ["unshare", "--net", "--mount", "bash", "-uc", MAKES, "bash", sys.executable, "-c"]
    done = subprocess.run([*words, PRINTS, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "none", "None",
        "", "no address 02:00:0a:4d:00:01 down",
        "10.77.0.1/16, 10.78.0.1/24", "10.77.0.1/16 10.78.0.1/24 02:00:0a:4d:00:01 up",
    ]  # fmt: skip
