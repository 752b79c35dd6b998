"""The view: what a state says about one server, as plain values.

A round renders it to /var/lib/lxc-gpu/view.json. The kinds compute what they want from it, and
so does the root helper, for one user, when Git, the directory and the web page are all down.
Standard library only: the shells load it with the system's bare Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from state import plain
from state.model import manage_account

if TYPE_CHECKING:
    from state.model.documents import Fleet, Registration, State, User
    from state.model.resources import MountInFile


@dataclass(frozen=True)
class Neighbour:
    """A server as users reach it: what an ssh configuration needs."""

    address: str
    ssh_port: int
    host_key: str


@dataclass(frozen=True)
class Mount:
    """A folder of the server that containers see (`state.model.resources.MountInFile`)."""

    source: str
    target: str
    access: str
    mounted: bool


@dataclass(frozen=True)
class Announcement:
    """What sysadmins tell everybody of a server (`state.model.announcements`)."""

    name: str
    text: str
    begins: float
    """Seconds since the epoch; 0: it is so already."""
    ends: float
    stop: bool

    def over(self, now: float) -> bool:
        """Whether it is over; `now` is in seconds since the epoch."""
        return now >= self.ends

    def stops(self, now: float) -> bool:
        """Whether containers are to be down for it now."""
        return self.stop and self.begins <= now < self.ends


@dataclass(frozen=True)
class Limits:
    """What a container may take; None: we set no limit (`state.model.resources.LimitsInFile`)."""

    memory: int | None = None
    """Bytes."""
    cpus: int | None = None
    tasks: int | None = None
    disk: int | None = None
    """Bytes."""

    def over(self, general: Limits) -> Limits:
        """These where they say something, elsewhere the `general` ones."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        return replace(general, **own)


@dataclass(frozen=True)
class Reservable:
    """What people may reserve (`state.model.resources.Reservations`)."""

    most_gpus: int | None = None
    longest: int = 24
    """Hours."""
    ahead: int = 14 * 24
    """Hours."""
    most: int = 2


@dataclass(frozen=True)
class Resident:
    """A user who is registered on this server."""

    full_name: str
    uid: int
    port: int
    """The port of the server that leads to the container's sshd."""
    subid: int
    address: str
    """The container's address on the server's own bridge."""
    keys: tuple[str, ...]
    host_key: str
    """The container's public ssh host key, as registered."""
    containers: Mapping[str, str]
    """The host keys of this user's containers on all servers, by server."""
    gpus: tuple[str, ...] | None = None
    """The only GPUs that the container sees, by UUID or index; None: all."""
    limits: Limits = Limits()
    """What goes before the server's."""
    mounts: tuple[Mount, ...] = ()
    """Folders besides the server's."""
    login: str = ""
    """In the directory's spelling: the name of accounts that aren't ours."""
    devices: tuple[str, ...] = ()
    """Device files besides the server's (`state.model.resources.DEVICES`)."""
    keep: str = ""
    """Why the container is never stopped for standing idle; empty: it may be."""


@dataclass(frozen=True)
class View:
    """What one server needs to know, at one revision of the state repository."""

    revision: str
    server: str
    address: str
    network: str
    """The network of the containers, in CIDR notation; its first address is the bridge's."""
    nameservers: tuple[str, ...]
    subid_size: int
    template: str
    containers: str
    residents: Mapping[str, Resident]
    registrants: Mapping[str, tuple[str, ...]]
    """Users who may register: everybody in the fleet, with their keys."""
    servers: Mapping[str, Neighbour]
    forwards: tuple[int, int]
    """The first and the last port for forwards, on every server."""
    mounts: tuple[Mount, ...]
    limits: Limits
    snapshots: str
    """The folder of the users' snapshots."""
    snapshots_kept: int
    """How many each user may keep."""
    driver: str
    """`mount`, `install` or `none` (`state.model.resources.Driver`)."""
    installers: str
    come_back: bool
    """Whether containers that ran start again after a reboot."""
    reach_containers: bool
    """Whether containers reach each other directly."""
    reach_server: tuple[int, ...]
    """TCP ports of the server that containers reach."""
    most_disabled: int
    """How many users a round may disable (`Fleet.most_disabled`)."""
    allow_disable: int = 0
    """How many more recent commits by admins allow (their trailer `Allow-Disable`)."""
    idle_days: int | None = None
    """After how many days without use a container that runs is named; None: never."""
    idle_stop_days: int | None = None
    """After how many it is stopped, once its user was told; None: never."""
    announcements: tuple[Announcement, ...] = ()
    """Those for this server, in the order of their beginnings; some may be over."""
    snapshots_every: int | None = None
    """Hours after which a server takes a snapshot automatically; None: never."""
    lab_networks: tuple[str, ...] = ()
    """Networks of people's computers (`Fleet.lab_networks`)."""
    nesting: bool = True
    """Whether engines of containers work inside containers (`Server.nesting`)."""
    cpu_sets: bool = True
    """Whether containers with a limit on cpus see so many and no others."""
    account_prefix: str = ""
    """What the names of manage accounts begin with (`Fleet.account_prefix`)."""
    devices: tuple[str, ...] = ()
    """Device files of the server that every container gets; with `*` at the end, each number."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """What people may take in place of `template`, each with a line for people."""
    spares: int = 0
    """How many systems are kept unpacked of each template in use."""
    spare_subid: int = 0
    """The first id of the range in which they are unpacked (`Subids.spare`)."""
    reservations: Reservable = Reservable()

    def told(self, now: float) -> tuple[Announcement, ...]:
        """The announcements that are not over; `now` is in seconds since the epoch."""
        return tuple(each for each in self.announcements if not each.over(now))

    def closed_by(self, now: float) -> Announcement | None:
        """For which announcement containers are down now, the last to end; None if they aren't."""
        stopping = [each for each in self.announcements if each.stops(now)]
        return max(stopping, key=lambda each: each.ends, default=None)

    @property
    def offered(self) -> tuple[str, ...]:
        """The templates that people may take, the one that they get unasked first."""
        return (self.template, *(name for name in self.templates if name != self.template))

    def account_of(self, user: str) -> str:
        """The name of the user's manage account."""
        return manage_account.account_of(self.account_prefix, user)

    def user_of(self, account: str) -> str:
        """The user who has this manage account; not a user's name if it has another prefix."""
        return manage_account.user_of(self.account_prefix, account)

    @property
    def not_punished(self) -> tuple[str, ...]:
        """Addresses that sshd isn't to punish: many people are behind each server."""
        return not_punished((s.address for s in self.servers.values()), self.lab_networks)

    def only(self, user: str) -> View:
        """This view with only `user` in it."""
        return View(
            **{
                **vars(self),
                "residents": {n: r for n, r in self.residents.items() if n == user},
                "registrants": {n: k for n, k in self.registrants.items() if n == user},
            }
        )

    def limits_of(self, user: str) -> Limits:
        """What the user's container may take."""
        return self.residents[user].limits.over(self.limits)

    def mounts_of(self, user: str) -> tuple[Mount, ...]:
        """What the user's container sees, in the order of mounting: outer folders first."""
        by_target = {m.target: m for m in (*self.mounts, *self.residents[user].mounts)}
        return tuple(by_target[target] for target in sorted(by_target))

    def devices_of(self, user: str) -> tuple[str, ...]:
        """Which device files of the server the user's container gets, besides those for all."""
        return tuple(dict.fromkeys((*self.devices, *self.residents[user].devices)))

    @property
    def forward_ports(self) -> range:
        """The ports for forwards, in order."""
        first, last = self.forwards
        return range(first, last + 1)

    @property
    def gateway(self) -> str:
        """The bridge's address: the first one of the network."""
        return str(IPv4Network(self.network)[1])

    @property
    def prefix_length(self) -> int:
        """The length of the network's prefix, in bits."""
        return IPv4Network(self.network).prefixlen


def not_punished(servers: Iterable[str], lab_networks: Iterable[str]) -> tuple[str, ...]:
    """Addresses and networks for sshd's PerSourcePenaltyExemptList."""
    return (*sorted(set(servers)), *lab_networks)


def container_address(fleet: Fleet, user: User) -> str:
    """The address of a user's container, the same on every server: by the subid's place."""
    place = (user.subid - fleet.subids.first) // fleet.subids.size
    return str(fleet.network[2 + place])


def view_of(state: State, server: str, revision: str, allow_disable: int = 0) -> View:
    """What `state` says about `server`. KeyError if it names no such server."""
    here, fleet = state.servers[server], state.fleet
    return View(
        revision=revision,
        server=server,
        address=str(here.address),
        network=str(fleet.network),
        nameservers=tuple(str(address) for address in fleet.nameservers),
        subid_size=fleet.subids.size,
        template=here.template,
        containers=here.containers,
        residents=_residents(state, server),
        registrants={n: tuple(str(key) for key in u.keys) for n, u in state.users.items()},
        servers=_neighbours(state),
        forwards=(fleet.forwards.first, fleet.forwards.last),
        mounts=_mounts(here.mounts),
        limits=Limits(**vars(here.limits)),
        snapshots=here.snapshots.folder,
        snapshots_kept=here.snapshots.keep,
        driver=here.driver.policy,
        installers=here.driver.installers,
        come_back=here.come_back,
        reach_containers=fleet.reach.containers,
        reach_server=fleet.reach.server,
        most_disabled=fleet.most_disabled,
        allow_disable=allow_disable,
        idle_days=None if here.idleness is None else here.idleness.warn,
        idle_stop_days=None if here.idleness is None else here.idleness.stop,
        announcements=_announcements(state, server),
        cpu_sets=here.cpu_sets,
        snapshots_every=here.snapshots.every,
        lab_networks=tuple(str(network) for network in fleet.lab_networks),
        nesting=here.nesting,
        account_prefix=fleet.account_prefix,
        templates=dict(here.templates),
        devices=here.devices,
        spares=here.spares,
        spare_subid=fleet.subids.spare,
        reservations=Reservable(**vars(here.reservations)),
    )


def _neighbours(state: State) -> dict[str, Neighbour]:
    return {
        name: Neighbour(str(server.address), server.ssh_port, str(server.host_key))
        for name, server in state.servers.items()
    }


def _announcements(state: State, server: str) -> tuple[Announcement, ...]:
    from state.model.fields import seconds_of  # third-party packages: not on the way of `start`

    found = (
        Announcement(
            name=name,
            text=each.text,
            begins=0.0 if each.begins is None else seconds_of(each.begins),
            ends=seconds_of(each.until),
            stop=each.stop,
        )
        for name, each in state.announcements.items()
        if each.concerns(server)
    )
    return tuple(sorted(found, key=lambda each: (each.begins, each.name)))


def _residents(state: State, server: str) -> dict[str, Resident]:
    registered = state.registrations.get(server, {})
    return {
        name: _resident_of(state, registered[name], name, user)
        for name, user in state.users.items()
        if name in registered
    }


def _resident_of(state: State, registration: Registration, name: str, user: User) -> Resident:
    return Resident(
        full_name=user.name,
        uid=user.uid,
        port=user.port,
        subid=user.subid,
        address=container_address(state.fleet, user),
        keys=tuple(str(key) for key in user.keys),
        host_key=str(registration.host_key),
        containers={
            other: str(there[name].host_key)
            for other, there in state.registrations.items()
            if name in there
        },
        gpus=registration.gpus,
        limits=Limits(**vars(registration.limits)),
        mounts=_mounts(registration.mounts),
        login=user.login,
        devices=registration.devices,
        keep=registration.keep or "",
    )


def _mounts(mounts: tuple[MountInFile, ...]) -> tuple[Mount, ...]:
    return tuple(Mount(m.source, m.target, m.access, m.mounted) for m in mounts)


def to_json(view: View) -> str:
    """The view as JSON text, stable for equal views."""
    return json.dumps(plain.to_plain(view), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def from_json(text: str) -> View:
    """The view that `to_json` wrote. NotPlainError if it isn't one."""
    return plain.from_json(View, text, newer=True)
