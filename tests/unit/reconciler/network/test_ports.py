import json

from reconciler.doctor.network import cut_off
from reconciler.network.ports import Port, parse

PLUGGED = {"ifname": "veth20031_a1B2", "link_index": 2, "link_netnsid": 3, "master": "lxcgpu0",
           "linkinfo": {"info_slave_data": {"hairpin": True}}}  # fmt: skip
ON = Port("veth20031_a1B2", 20031, 2, on_bridge=True, hairpin=True)
OFF = Port("veth20031_a1B2", 20031, 2, on_bridge=False, hairpin=False)


def read(*links: dict[str, object]) -> tuple[Port, ...]:
    return parse(json.dumps(links))


def test_a_port_is_whose_uid_it_names() -> None:
    assert read(PLUGGED) == (ON,)
    assert read({**PLUGGED, "ifname": "veth0"}, {**PLUGGED, "ifname": "vethann_a1B2"}) == ()


def test_one_whose_other_end_is_still_here_is_being_made() -> None:
    assert read({k: v for k, v in PLUGGED.items() if k != "link_netnsid"}) == ()


def test_on_no_bridge_or_on_another_one() -> None:
    alone = {k: v for k, v in PLUGGED.items() if k in ("ifname", "link_index", "link_netnsid")}
    assert read(alone) == read({**PLUGGED, "master": "br0"}) == (OFF,)


def test_who_is_cut_off_and_why() -> None:
    assert cut_off([ON], "ann", 20031) is None
    assert cut_off([OFF, ON], "ann", 20031) is None, "the other one goes with a container that was"
    lost, none = cut_off([OFF], "ann", 20031), cut_off([ON], "bob", 20032)
    assert lost is not None
    assert none is not None
    assert "is not on the bridge" in lost.text
    assert "has no port" in none.text
