"""The rules that span files."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from state.model.documents import State, User
from state.reading.check import check, places
from state.reading.load import load
from state.reading.problems import StateInvalidError
from state.view import container_address, from_json, to_json, view_of
from tests.patience import cpu_seconds
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, fleet_yaml, server_yaml, state, user_yaml


def said(given: dict[str, bytes]) -> str:
    with pytest.raises(StateInvalidError) as caught:
        load(given)
    return "\n".join(str(problem) for problem in caught.value.problems)


def eve(**fields: object) -> dict[str, bytes]:
    """The fleet with a user eve, place 9, whose `fields` differ."""
    text = user_yaml(9, "Eve", "eve", str(ed25519("eve")))
    lines = [
        f"{name}: {fields[name]}" if (name := line.partition(":")[0]) in fields else line
        for line in text.splitlines()
    ]
    return files(users__eve="\n".join(lines) + "\n")


def test_a_sound_state_has_no_findings() -> None:
    assert check(state()) == []
    assert check(load(eve())) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"uid": 20001}, "users/lqchen.yaml:4: uid 20001 is also that of users/eve.yaml"),
        ({"port": 22000}, "users/eve.yaml:5: port 22000 is also that of users/ann.yaml"),
        ({"port": 22002}, "former/bob.yaml:5: port 22002 is also that of users/eve.yaml"),
        ({"subid": 10_000_000}, "users/eve.yaml:6: subid 10000000 is also that of users/ann.yaml"),
        ({"uid": 1500}, "users/eve.yaml:4: uid 1500 is outside fleet.yaml's uids, 20000 to 29999"),
        ({"port": 21999}, "port 21999 is outside fleet.yaml's ports, 22000 to 25999"),
        ({"port": 26000}, "port 26000 is outside fleet.yaml's ports"),
        (
            {"subid": 10_000_001},
            "users/eve.yaml:6: subid 10000001 is not fleet.yaml's subids.first",
        ),
        ({"subid": 9_737_856}, "is not fleet.yaml's subids.first"),
        ({"subid": 10_000_000 + 262_144 * 16344}, "there is room for 16344 users"),  # spares' ids
        ({"login": "lqCHEN"}, "users/lqchen.yaml:2: login LQChen is also that of users/eve.yaml"),
        ({"login": "Bob"}, "former/bob.yaml:2: login bob is also that of users/eve.yaml"),
        ({"directory_id": "6D1F0000-0002"}, "directory_id 6d1f0000-0002 is also that of"),
    ],
)
def test_numbers_and_identities(fields: dict[str, object], expected: str) -> None:
    assert expected in said(eve(**fields))


def test_uids_with_which_no_container_starts() -> None:
    """A range may go there: nobody gets such a number, and what works goes on."""
    beyond = "uids: {first: 70000, last: 2000000}\n"
    assert load({"fleet.yaml": ("format: 1\n" + beyond).encode()}).fleet.uids.last == 2_000_000
    wide = {"fleet.yaml": (fleet_yaml() + beyond).encode()}
    assert "uid 1000000 is above 999999" in said({**eve(uid=1_000_000), **wide})


@pytest.mark.parametrize("name", ["root", "sudo", "docker", "video", "iam", "register", "state"])
def test_names_of_systems_are_reserved(name: str) -> None:
    text = user_yaml(9, "Eve", "eve")
    found = said(files(**{f"users__{name}": text}))
    assert f"users/{name}.yaml:1: the name `{name}` is that of a system account" in found


def test_nobody_is_here_and_gone() -> None:
    assert "former/ann.yaml:1: ann has not left" in said(
        files(former__ann=user_yaml(9, "Ann", "ann2"))
    )


def test_registrations_name_what_exists() -> None:
    key = f"host_key: {ed25519(1)}\n"
    assert "registrations/gpu99/ann.yaml:1: there is no servers/gpu99.yaml" in said(
        files(registrations__gpu99__ann=key)
    )
    assert "registrations/gpu17/eve.yaml:1: there is no users/eve.yaml (nor former" in said(
        files(registrations__gpu17__eve=key)
    )


def test_one_public_key_belongs_to_one_user() -> None:
    def keys(*given: str) -> str:
        return said(files(users__eve=user_yaml(9, "Eve", "eve", *given)))

    assert "users/lqchen.yaml:8: the key SHA256:" in keys(str(ed25519("lq1", "mine")))
    assert "(laptop) is also that of users/eve.yaml" in keys(str(ed25519("lq1", "mine")))
    twice = keys(str(ed25519("e")), str(ed25519("e", "again")))
    assert "users/eve.yaml:9: the key" in twice
    assert "also that of signer Root Admin" in keys(str(ed25519("admin")))
    assert "also that of servers/gpu17.yaml" in keys(str(ed25519(("gpu17", "state"))))
    assert "also that of servers/gpu18.yaml" in keys(str(ed25519(("gpu18", "host"))))


def test_a_former_users_key_may_be_used_again() -> None:
    load(files(users__eve=user_yaml(9, "Eve", "eve", str(ed25519("bob")))))


def test_servers() -> None:
    assert "address 172.16.2.17 is also that of servers/gpu17.yaml" in said(
        files(servers__gpu18=server_yaml("gpu18", "172.16.2.17"))
    )
    assert "address 10.77.3.4 is inside fleet.yaml's network 10.77.0.0/16" in said(
        files(servers__gpu18=server_yaml("gpu18", "10.77.3.4"))
    )
    same = server_yaml("gpu17", "172.16.2.18")
    assert "servers/gpu18.yaml:3: state_key SHA256:" in said(files(servers__gpu18=same))
    ported = server_yaml("gpu18", "172.16.2.18") + "ssh_port: 22005\n"
    assert "servers/gpu18.yaml:4: ssh_port 22005 is one of fleet.yaml's ports" in said(
        files(servers__gpu18=ported)
    )
    signer = server_yaml("gpu18", "172.16.2.18").replace(
        str(ed25519(("gpu18", "state"))), str(ed25519("admin"))
    )
    assert "is also that of signer Root Admin" in said(files(servers__gpu18=signer))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "ports: {first: 22000, last: 33000}",
            "fleet.yaml:7: ports 22000 to 33000 overlap the por",
        ),
        ("forwards: {first: 25999, last: 29999}", "overlap `ports` (22000 to 25999)"),
        ("ports: {first: 61000, last: 70000}", "ports must be between 1024 and 65535"),
        ("uids: {first: 20000, last: 62000}", "overlap ids that systemd uses (61184 to 65535)"),
        ("subids: {first: 100000}\nuids: {first: 20000, last: 60000}", "is not fleet.yaml's"),
        ("uids: {first: 20000, last: 10000000}", "subids must begin above the last of `uids`"),
        ("network: 10.77.0.0/30", "network 10.77.0.0/30 is too small"),
        ("network: 127.0.0.0/16", "can't be a network for containers"),
        ("network: 0.0.0.0/0", "can't be a network for containers"),
        ("network: 224.0.0.0/8", "can't be a network for containers"),
        ("network: 172.16.0.0/16", "servers/gpu17.yaml:1: address 172.16.2.17 is inside"),
        ("nameservers: [172.16.2.3, 172.16.2.3]", "fleet.yaml:7: 172.16.2.3 is there twice"),
        ("lab_networks: [172.16.0.0/16, 172.16.0.0/16]", "172.16.0.0/16 is there twice"),
        ("reach: {server: [22, 80, 22]}", "fleet.yaml:7: 22 is there twice"),
        (
            f"  - {{name: Other, role: iam, key: {ed25519('admin')}}}",
            "the key of signer Other is also that of fleet.yaml",
        ),
    ],
)
def test_the_fleets_ranges(line: str, expected: str) -> None:
    assert expected in said(files(fleet=fleet_yaml() + line + "\n"))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("GPU-", "account_prefix: must look like"),
        ("gpu.", "account_prefix: must look like"),
        ("'1'", "account_prefix: must look like"),
        ("a2345678901234567", "account_prefix: must look like"),
        ("lxc-", "account_prefix `lxc-` could make names `lxc-gpu...`"),
        ("lxc-gpu-", "account_prefix `lxc-gpu-` could make names `lxc-gpu...`"),
        ("gpu-", "the account `gpu-ann` of the user ann can't be told from the user gpu-ann"),
        ("gpu-", "the account `gpu-gpu-ann` of the user gpu-ann can't be told from the user ann"),
        ("systemd", "account_prefix `systemd` could make names `systemd-...`"),
        ("a-long-prefix-x-", "of the user twenty-letters-long-1 is too long: 37 letters, and 31"),
        ("pulse-", "the account `pulse-access` of the user access is that of a system account"),
    ],
)
def test_the_accounts_prefix_makes_names_that_are_free(prefix: str, expected: str) -> None:
    people = {
        f"users__{name}": user_yaml(place, name, name, str(ed25519(name)))
        for place, name in ((9, "gpu-ann"), (10, "twenty-letters-long-1"), (11, "access"))
    }
    assert expected in said(files(fleet=fleet_yaml() + f"account_prefix: {prefix}\n", **people))


def test_an_accounts_prefix() -> None:
    fleet = fleet_yaml() + "account_prefix: gpu-\n"
    view = view_of(load(files(fleet=fleet)), "gpu17", "r1")
    assert view.account_of("lqchen") == "gpu-lqchen"
    assert from_json(to_json(view)).account_of("lqchen") == "gpu-lqchen"
    assert load(files()).fleet.account_of("lqchen") == "lqchen"


def test_a_view_of_an_earlier_release_has_accounts_without_a_prefix() -> None:
    text = to_json(view_of(state(), "gpu17", "r1"))
    view = from_json(text.replace(' "account_prefix": "",\n', ""))
    assert "account_prefix" in text
    assert view.account_of("lqchen") == "lqchen"


def test_the_last_place_has_an_address_and_the_next_has_none() -> None:
    fleet = load(files(fleet=fleet_yaml() + "network: 10.77.0.0/28\n")).fleet
    assert places(fleet) == 13
    user = state().users["ann"]
    last = user.model_copy(update={"subid": fleet.subids.first + 12 * fleet.subids.size})
    assert container_address(fleet, last) == "10.77.0.14"
    beyond = user.model_copy(update={"subid": fleet.subids.first + 13 * fleet.subids.size})
    assert IPv4Address(container_address(fleet, beyond)) == fleet.network.broadcast_address
    assert not [f for f in check(State(fleet, users={"ann": last})) if f.place == ("subid",)]
    assert [f for f in check(State(fleet, users={"ann": beyond})) if f.place == ("subid",)]


def test_the_highest_subordinate_id_stays_below_minus_one() -> None:
    text = b"format: 1\nnetwork: 10.0.0.0/8\nsubids: {first: 2147418112, size: 65536}\n"
    fleet = load({"fleet.yaml": text}).fleet
    assert fleet.subids.spare == fleet.subids.first + places(fleet) * fleet.subids.size
    last = fleet.subids.spare + fleet.subids.size - 1
    assert last < 2**32 - 1 <= last + fleet.subids.size


def with_users(count: int) -> State:
    base = state()
    user = base.users["ann"]
    users: dict[str, User] = {
        f"u{n}": user.model_copy(
            update={
                "login": f"u{n}",
                "directory_id": None,
                "uid": 100_000 + n,
                "port": 1024 + n,
                "subid": base.fleet.subids.first + n * base.fleet.subids.size,
                "keys": (ed25519(n),),
            }
        )
        for n in range(count)
    }
    wide = load(
        {
            "fleet.yaml": b"format: 1\nuids: {first: 100000, last: 200000}\n"
            b"ports: {first: 1024, last: 20000}\n"
        }
    ).fleet
    registrations = {"gpu17": dict.fromkeys(users, base.registrations["gpu17"]["ann"])}
    return replace(base, fleet=wide, users=users, former={}, registrations=registrations)


def test_ten_times_as_many_users_take_no_hundred_times_as_long() -> None:
    some, many = with_users(1000), with_users(10_000)
    assert check(many) == []
    assert cpu_seconds(lambda: check(many)) < 30 * cpu_seconds(lambda: check(some))


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/", "must not be or hold /var/lib/lxc-gpu/containers"),
        ("/var/lib/lxc-gpu", "must not be or hold /var/lib/lxc-gpu/containers"),
        ("/var/lib/lxc-gpu/containers", "must not be or hold /var/lib/lxc-gpu/containers"),
        ("/var/lib/lxc-gpu/containers/s", "must not be inside /var/lib/lxc-gpu/containers"),
        ("/home", "must not be or hold /home"),
        ("/home/snapshots", "must not be inside /home"),
        ("/var/lib/lxc-gpu/snapshots", ""),
        ("/NAS/snapshots", ""),
    ],
)
def test_snapshots_stay_out_of_what_is_somebody_elses(folder: str, why: str) -> None:
    text = server_yaml("gpu17", "172.16.2.17") + f"snapshots:\n  folder: {folder}\n"
    given = files(servers__gpu17=text)
    if why:
        assert f"the folder of the snapshots, {folder}, {why}" in said(given)
    else:
        load(given)
