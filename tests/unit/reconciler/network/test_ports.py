"""Containers' ports, as the kernel shows them: in a network namespace that is made for this."""

import os
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from reconciler.doctor.network import cut_off
from reconciler.network.ports import Port, port_of
from reconciler.network.rtnetlink import attributes

ROOT = Path(__file__).parents[4]
ON = Port("veth20031_a1B2", 20031, 2, on_bridge=True, hairpin=True)
OFF = Port("veth20031_a1B2", 20031, 2, on_bridge=False, hairpin=False)
NETWORK = """
ip link add lxcgpu0 type bridge
ip link add br0 type bridge
unshare --net sleep 60 </dev/null >/dev/null 2>&1 &
other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
add() { ip link add "$1" type veth peer name "$2" "${@:3}"; }
add veth20031_on eth1 netns $other
ip link set veth20031_on master lxcgpu0
ip link set veth20031_on type bridge_slave hairpin on
add veth20031_off eth2 netns $other
add veth20032_plain eth3 netns $other
ip link set veth20032_plain master lxcgpu0
add veth20033_other eth4 netns $other
ip link set veth20033_other master br0
add veth20034_made eth5
add vethann_a1B2 eth6 netns $other
"$@"
"""
PRINTS = """
import sys
sys.path.insert(0, sys.argv[1])
from reconciler.network.ports import ports
found = ports()
for some in ((), (20031,), (20031, 20033), (2003,)):
    assert set(ports(some)) == {port for port in found if port.uid in some}
print([(p.name, p.uid, p.on_bridge, p.hairpin) for p in found])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_ports_of_every_form() -> None:
    words = ["unshare", "--net", "bash", "-euc", NETWORK, "bash", sys.executable, "-c", PRINTS]
    done = subprocess.run([*words, str(ROOT)], capture_output=True, text=True, check=True)
    assert set(literal_eval(done.stdout)) == {
        ("veth20031_on", 20031, True, True),
        ("veth20031_off", 20031, False, False),
        ("veth20032_plain", 20032, True, False),
        ("veth20033_other", 20033, False, False),
    }


def test_a_message_that_is_cut_off_has_no_port() -> None:
    raw = bytes.fromhex("0c000300766574683000")  # 12 bytes, it says
    assert port_of(attributes(raw), 1) is None
    assert attributes(b"\0\0\0\0" * 3) == {0: b""}


def test_who_is_cut_off_and_why() -> None:
    assert cut_off([ON], "ann", 20031) is None
    assert cut_off([OFF, ON], "ann", 20031) is None, "the other one goes with a container that was"
    lost, none = cut_off([OFF], "ann", 20031), cut_off([ON], "bob", 20032)
    assert lost is not None
    assert none is not None
    assert "is not on the bridge" in lost.text
    assert "has no port" in none.text
