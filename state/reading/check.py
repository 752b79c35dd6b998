"""The rules that span files. Pure; each broken rule is a finding with its file and field.

Every rule walks its things once and remembers them in a dict, so ten thousand users take well
under a second.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from ipaddress import IPv4Network
from pathlib import PurePosixPath

from state.model.documents import HIGHEST_ID, Fleet, Range, State, User
from state.model.keys import PublicKey
from state.model.layout import FLEET, Subject
from state.model.manage_account import account_of
from state.model.names import why_no_account
from state.model.reserved import RESERVED_BEGINNINGS, is_reserved
from state.reading.check_resources import resources
from state.reading.problems import BrokenRule, Place, repeated

EPHEMERAL = (32768, 60999)
"""Ports that the kernel gives to outgoing connections: net.ipv4.ip_local_port_range's default
(Documentation/networking/ip-sysctl.rst)."""
DYNAMIC_UIDS = (61184, 65535)
"""systemd's DynamicUser= range (systemd's UIDS-GIDS.md), then nobody and the 16-bit -1."""
HIGHEST_UID = 999_999
"""A container's interface is called `veth<uid>_XXXX` (lxc-user-nic(1)), in 15 letters at most."""

KEPT = "/var/lib/lxc-gpu"
"""What servers keep for themselves, each thing in a folder of its own."""

NamedUser = tuple[str, str, User]
"""The path of a user's file, the name, and what the file says."""


def check(state: State, broken: Collection[str] = ()) -> list[BrokenRule]:
    """Every rule between files that `state` breaks; empty if it is sound.

    `broken` are paths of files that exist but couldn't be read: what names them isn't wrong.
    A registration of a former user is allowed, so that coming back restores everything.
    """
    people = [*_entries("users", state), *_entries("former", state)]
    return [
        *_fleet(state.fleet),
        *_servers(state),
        *_numbers(state, people),
        *_identities(state, people),
        *_accounts(state, people),
        *_keys(state),
        *_registrations(state, broken),
        *_announcements(state, broken),
        *resources(state),
    ]


def places(fleet: Fleet) -> int:
    """How many users the subordinate ids and the network have room for."""
    hosts = fleet.network.num_addresses - 3  # the network itself, the gateway, broadcast
    return max(0, min(fleet.subids.places, hosts))


def _entries(kind: str, state: State) -> Iterator[NamedUser]:
    for name, user in (state.users if kind == "users" else state.former).items():
        yield f"{kind}/{name}.yaml", name, user


def _fleet(fleet: Fleet) -> Iterator[BrokenRule]:
    def overlap(field: str, numbers: Range, low: int, high: int, what: str) -> Iterator[BrokenRule]:
        if numbers.first <= high and low <= numbers.last:
            text = f"{field} {numbers.first} to {numbers.last} overlap {what} ({low} to {high})"
            yield BrokenRule(FLEET, (field,), text)

    for field, ports in (("ports", fleet.ports), ("forwards", fleet.forwards)):
        yield from overlap(field, ports, *EPHEMERAL, "the ports of outgoing connections")
        if ports.first < 1024 or ports.last > 65535:
            yield BrokenRule(FLEET, (field,), f"{field} must be between 1024 and 65535")
    ports = fleet.ports
    yield from overlap("forwards", fleet.forwards, ports.first, ports.last, "`ports`")
    yield from overlap("uids", fleet.uids, *DYNAMIC_UIDS, "ids that systemd uses")
    if fleet.uids.last >= fleet.subids.first and fleet.uids.first <= HIGHEST_ID:
        yield BrokenRule(FLEET, ("subids",), "subids must begin above the last of `uids`")
    yield from _network(fleet.network)
    yield from repeated(FLEET, ("nameservers",), fleet.nameservers)
    yield from repeated(FLEET, ("lab_networks",), fleet.lab_networks)
    yield from repeated(FLEET, ("reach", "server"), fleet.reach.server)
    yield from _unique(
        "the key of signer",
        ((FLEET, ("signers", n, "key"), s.key, s.name) for n, s in enumerate(fleet.signers)),
    )


def _network(network: IPv4Network) -> Iterator[BrokenRule]:
    if network.prefixlen > 29:
        yield BrokenRule(FLEET, ("network",), f"network {network} is too small for containers")
    odd = network.is_loopback or network.is_multicast or network.is_link_local
    if odd or network.prefixlen < 8 or network.network_address.is_unspecified:
        yield BrokenRule(
            FLEET, ("network",), f"network {network} can't be a network for containers"
        )


def _servers(state: State) -> Iterator[BrokenRule]:
    network = state.fleet.network
    for name, server in state.servers.items():
        path = Subject("servers", name).path
        if server.address in network:
            text = f"address {server.address} is inside fleet.yaml's network {network}"
            yield BrokenRule(path, ("address",), f"{text}, which belongs to the containers")
        if clash := _clash(server.snapshots.folder, server.containers):
            text = f"the folder of the snapshots, {server.snapshots.folder}, {clash}"
            yield BrokenRule(path, ("snapshots", "folder"), text)
        for field in ("ports", "forwards"):
            if server.ssh_port in getattr(state.fleet, field):
                text = f"ssh_port {server.ssh_port} is one of fleet.yaml's {field}"
                yield BrokenRule(path, ("ssh_port",), text)
    named = [(Subject("servers", name).path, server) for name, server in state.servers.items()]
    yield from _unique(
        "address", ((path, ("address",), s.address, str(s.address)) for path, s in named)
    )
    yield from _unique(
        "state_key",
        ((path, ("state_key",), s.state_key, s.state_key.fingerprint) for path, s in named),
    )


def _clash(snapshots: str, containers: str) -> str:
    """Why snapshots can't be there; empty if they can. Each user gets a folder in it."""
    folder = PurePosixPath(snapshots)
    for other in map(PurePosixPath, (containers, "/home", KEPT)):
        if folder == other or folder in other.parents:
            return f"must not be or hold {other}"
        if other in folder.parents and str(other) != KEPT:
            return f"must not be inside {other}"
    return ""


def _numbers(state: State, people: list[NamedUser]) -> Iterator[BrokenRule]:
    fleet = state.fleet
    for field in ("uid", "port", "subid"):
        yield from _unique(
            field,
            ((path, (field,), getattr(u, field), str(getattr(u, field))) for path, _, u in people),
        )
    room = places(fleet)
    for path, _, user in people:
        if user.uid not in fleet.uids:
            yield _outside(path, "uid", user.uid, fleet.uids)
        if user.uid > HIGHEST_UID:
            text = f"uid {user.uid} is above {HIGHEST_UID}: no container of this user would start"
            yield BrokenRule(path, ("uid",), text)
        if user.port not in fleet.ports:
            yield _outside(path, "port", user.port, fleet.ports)
        place, rest = divmod(user.subid - fleet.subids.first, fleet.subids.size)
        if place < 0 or rest:
            text = (
                f"subid {user.subid} is not fleet.yaml's subids.first ({fleet.subids.first})"
                f" plus a multiple of subids.size ({fleet.subids.size})"
            )
            yield BrokenRule(path, ("subid",), text)
        elif place >= room:
            text = (
                f"subid {user.subid} is place {place + 1}, and there is room for {room} users:"
                " their container's address would be outside fleet.yaml's network"
                f" {fleet.network}, or the ids in the last range below {HIGHEST_ID + 1}, which is"
                " kept free for systems that are nobody's yet"
            )
            yield BrokenRule(path, ("subid",), text)


def _outside(path: str, field: str, number: int, allowed: Range) -> BrokenRule:
    text = f"{field} {number} is outside fleet.yaml's {field}s, {allowed.first} to {allowed.last}"
    return BrokenRule(path, (field,), text)


def _identities(state: State, people: list[NamedUser]) -> Iterator[BrokenRule]:
    for path, name, _ in people:
        if is_reserved(name):
            yield BrokenRule(
                path, (), f"the name `{name}` is that of a system account or of lxc-gpu"
            )
        if path.startswith("former/") and name in state.users:
            yield BrokenRule(path, (), f"{name} has not left: there is users/{name}.yaml, too")
    yield from _unique(
        "login", ((path, ("login",), u.login.casefold(), u.login) for path, _, u in people)
    )
    yield from _unique(
        "directory_id",
        (
            (path, ("directory_id",), u.directory_id.casefold(), u.directory_id)
            for path, _, u in people
            if u.directory_id is not None
        ),
    )


def _accounts(state: State, people: list[NamedUser]) -> Iterator[BrokenRule]:
    """The accounts on the servers, where they have a prefix: each name has to be one, and free."""
    prefix, place = state.fleet.account_prefix, ("account_prefix",)
    for system in RESERVED_BEGINNINGS if prefix else ():
        if prefix.startswith(system) or system.startswith(prefix):
            yield BrokenRule(
                FLEET, place, f"account_prefix `{prefix}` could make names `{system}...`"
            )
            return
    names = {name for _, name, _ in people}
    for name in sorted(names) if prefix else ():
        if why := why_no_account(prefix, name, names):
            text = f"the account `{account_of(prefix, name)}` of the user {name} {why}"
            yield BrokenRule(FLEET, place, text)


def _keys(state: State) -> Iterator[BrokenRule]:
    """One public key belongs to one user, and to no server or signer. Former users have none."""
    signers = {signer.key: f"signer {signer.name}" for signer in state.fleet.signers}
    owners = dict(signers)
    for name, server in state.servers.items():
        path = Subject("servers", name).path
        for field, key in (("state_key", server.state_key), ("host_key", server.host_key)):
            if key in signers:
                yield BrokenRule(path, (field,), _shared(key, signers[key]))
            owners[key] = path
    for name, user in state.users.items():
        path = f"users/{name}.yaml"
        for number, key in enumerate(user.keys):
            if key in owners:
                yield BrokenRule(path, ("keys", number), _shared(key, owners[key]))
            owners.setdefault(key, path)


def _shared(key: PublicKey, owner: str) -> str:
    called = f" ({key.comment})" if key.comment else ""
    return f"the key {key.fingerprint}{called} is also that of {owner}"


def _registrations(state: State, broken: Collection[str]) -> Iterator[BrokenRule]:
    for server, users in state.registrations.items():
        known = server in state.servers or f"servers/{server}.yaml" in broken
        for name in users:
            path = Subject("registrations", name, server).path
            if not known:
                yield BrokenRule(path, (), f"there is no servers/{server}.yaml")
            exists = name in state.users or name in state.former
            if not exists and not any(f"{f}/{name}.yaml" in broken for f in ("users", "former")):
                yield BrokenRule(
                    path, (), f"there is no users/{name}.yaml (nor former/{name}.yaml)"
                )


def _announcements(state: State, broken: Collection[str]) -> Iterator[BrokenRule]:
    for name, announcement in state.announcements.items():
        path, servers = Subject("announcements", name).path, announcement.servers or ()
        yield from repeated(path, ("servers",), servers)
        for number, server in enumerate(servers):
            if server not in state.servers and f"servers/{server}.yaml" not in broken:
                place = ("servers", number)
                yield BrokenRule(path, place, f"there is no servers/{server}.yaml")


def _unique(what: str, entries: Iterator[tuple[str, Place, Hashable, str]]) -> Iterator[BrokenRule]:
    """A finding for each entry (path, place, value, value in words) that an earlier one has."""
    seen: dict[Hashable, str] = {}
    for path, place, value, words in entries:
        if value in seen:
            yield BrokenRule(path, place, f"{what} {words} is also that of {seen[value]}")
        else:
            seen[value] = path
