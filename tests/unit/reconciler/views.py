"""A view for tests: one server, one resident; `with_` changes what a test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from state.view import Limits, Neighbour, Resident, View

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
RESIDENT = Resident(
    full_name="Lequn Chen",
    uid=20031,
    port=22031,
    subid=18126464,
    address="10.77.0.33",
    keys=(KEY,),
    host_key=KEY,
    containers={"gpu17": KEY},
)
VIEW = View(
    revision="r1",
    server="gpu17",
    address="172.16.2.17",
    network="10.77.0.0/16",
    nameservers=(),
    subid_size=262144,
    template="debian-12",
    containers="/var/lib/lxc-gpu/containers",
    residents={"lqchen": RESIDENT},
    registrants={"lqchen": (KEY,)},
    servers={"gpu17": Neighbour("172.16.2.17", 22, KEY)},
    forwards=(26000, 29999),
    mounts=(),
    limits=Limits(),
    snapshots="/var/lib/lxc-gpu/snapshots",
    snapshots_kept=5,
    driver="mount",
    installers="/var/lib/lxc-gpu/drivers",
    come_back=True,
    reach_containers=False,
    reach_server=(22,),
    most_disabled=3,
)


def with_(**changes: Any) -> View:
    """VIEW, changed."""
    return replace(VIEW, **changes)
