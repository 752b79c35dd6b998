"""What the files of a state repository say, as frozen types.

One model per kind of file; unknown fields are errors. `State` is all of them at one revision.
Rules that span several files are in `state.reading.check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from state.model import manage_account
from state.model.announcements import Announcement
from state.model.fields import (
    AbsolutePath,
    Address,
    Days,
    FullName,
    Id,
    Key,
    Line,
    Login,
    Model,
    Network,
    Page,
    Port,
    Reason,
    TemplateName,
)
from state.model.resources import (
    DeviceName,
    Driver,
    Gpu,
    LimitsInFile,
    MountInFile,
    Reach,
    Reservations,
    Snapshots,
)

FORMAT = 1
"""The format of the state repository that this version reads and writes."""

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}", re.ASCII)
"""User names that every tool on a server agrees on: useradd(8)'s default, at most 31 letters,
because utmp(5) holds 32 bytes."""

HIGHEST_ID = 2**32 - 2
"""The highest id there is: -1 means "leave it alone" to chown(2)."""

SERVER_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""One DNS label (RFC 1123), lower case, starting with a letter."""


TOLD_BEFORE = 2
"""Days between being named and being stopped, at least: people are told on two days."""


class Range(Model):
    """Numbers from `first` to `last`, both included."""

    first: Id
    last: Id

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) is above last ({self.last})")
        return self

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


class Subids(Model):
    """Where subordinate ids begin, and how many each user gets; neither can change later.

    The default is that of states that say nothing; a new state says something else, because this
    is among the numbers that SSSD gives to people (`reconciler.doctor.numbers`).
    """

    first: Annotated[int, Field(strict=True, ge=100_000, lt=2**32 - 1)] = 10_000_000
    size: Annotated[int, Field(strict=True, ge=65_536, le=2**24)] = 262_144

    @property
    def places(self) -> int:
        """How many users there are ids for; the last range is for spares (`spare`)."""
        return max(0, (HIGHEST_ID + 1 - self.first) // self.size - 1)

    @property
    def spare(self) -> int:
        """The first id of the range in which servers unpack systems that are nobody's yet."""
        return self.first + self.places * self.size


class Signer(Model):
    """Somebody whose signature on a commit counts, and for what."""

    name: FullName
    role: Literal["admin", "iam"]
    key: Key


class Fleet(Model):
    """fleet.yaml: what holds for every server and user."""

    format: Literal[1]
    uids: Range = Range(first=20_000, last=29_999)
    ports: Range = Range(first=22_000, last=25_999)
    forwards: Range = Range(first=26_000, last=29_999)
    subids: Subids = Subids()
    network: Network = IPv4Network("10.77.0.0/16")
    nameservers: tuple[Address, ...] = ()
    """What containers resolve names with; empty: the server's own resolvers."""
    most_disabled: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 3
    """How many users a server disables at once; more takes `Allow-Disable: N` in a commit."""
    reach: Reach = Reach()
    """What containers may reach on their own server."""
    lab_networks: tuple[Network, ...] = ()
    """Networks of people's computers, above all those where many share an address (NAT): sshd
    doesn't punish all for one (PerSourcePenaltyExemptList, since OpenSSH 9.8)."""
    page: Page | None = None
    """Where the web page is: `lxc-gpu status` reads it."""
    account_prefix: Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_-]{0,15})?$")] = ""
    """What the names of users' accounts on the servers begin with, e.g. `gpu-`: for servers that
    have accounts of people's own names already."""
    signers: tuple[Signer, ...] = ()

    def account_of(self, user: str) -> str:
        """The name of the user's account on the servers."""
        return manage_account.account_of(self.account_prefix, user)


class Idle(Model):
    """What comes of containers that run though nobody uses them."""

    warn: Days
    """After how long one is named to its user and on the web page."""
    stop: Days | None = None
    """After how long it is shut down, once its user was told twice; None: never."""

    @model_validator(mode="after")
    def _told_before(self) -> Idle:
        if self.stop is not None and self.stop < self.warn + TOLD_BEFORE:
            raise ValueError(
                f"`stop` must be at least {TOLD_BEFORE} days after `warn`: people are told twice"
                " before, on two days"
            )
        return self


class Server(Model):
    """servers/NAME.yaml: one GPU server."""

    address: Address
    host_key: Key
    """The server's own ssh host key: the web page and the users' known_hosts pin it."""
    state_key: Key
    """The key with which the server reads the state repository, and nothing else."""
    ssh_port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 22
    template: TemplateName = "debian-12"
    """The template's name: /var/lib/lxc-gpu/templates/NAME.tar.zst on the server."""
    templates: Mapping[TemplateName, Line] = {}
    """What people may take instead, each with a line that says what it is. The usual one may have
    a line, too."""
    spares: Annotated[int, Field(strict=True, ge=0, le=8)] = 1
    """How many systems of each template in use are kept unpacked, for the next users."""
    containers: AbsolutePath = "/var/lib/lxc-gpu/containers"
    """The folder, on the disk of the sysadmin's choice, that holds the containers."""
    mounts: tuple[MountInFile, ...] = ()
    """Folders that every container on this server sees."""
    devices: tuple[DeviceName, ...] = ()
    """Device files that every container on this server gets."""
    limits: LimitsInFile = LimitsInFile()
    """What a container may take, unless its registration says otherwise."""
    cpu_sets: bool = True
    """Whether a container with a limit on cpus sees so many and no others."""
    snapshots: Snapshots = Snapshots()
    driver: Driver = Driver()
    come_back: bool = True
    """Whether containers that ran start again after a reboot of the server."""
    nesting: bool = True
    """Whether Docker, Podman, LXC and their like work inside: false for a tighter second wall."""
    idle_days: Annotated[int, Field(strict=True, ge=1, le=3650)] | None = None
    """What `idle: {warn: Nd}` says."""
    idle: Idle | None = None
    """What comes of containers that nobody uses; None: nothing."""
    reservations: Reservations = Reservations()
    """What people may reserve of its GPUs."""

    @model_validator(mode="after")
    def _once(self) -> Server:
        if self.idle_days is not None and self.idle is not None:
            raise ValueError(
                f"`idle_days: {self.idle_days}` means `idle: {{warn: {self.idle_days}d}}`:"
                " keep one of `idle_days` and `idle`"
            )
        return self

    @property
    def other_templates(self) -> Mapping[TemplateName, Line]:
        """What people may take instead of the usual one, which `templates` may describe, too."""
        return {name: says for name, says in self.templates.items() if name != self.template}

    @property
    def idleness(self) -> Idle | None:
        """What is to come of containers that nobody uses, however it is written."""
        if self.idle_days is None:
            return self.idle
        return Idle.model_validate({"warn": f"{self.idle_days}d"})


class User(Model):
    """users/NAME.yaml, and former/NAME.yaml once the person has left."""

    name: FullName
    login: Login
    """The login as the directory spells it."""
    directory_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    """entryUUID or objectGUID: a new person under an old name is not the old person."""
    uid: Id
    port: Port
    """The ssh port of this user's containers, the same on every server."""
    subid: Annotated[int, Field(strict=True, ge=100_000, lt=2**32 - 1)]
    """The first subordinate id, the same on every server."""
    keys: tuple[Key, ...] = ()


def _a_reason(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError('must say why, e.g. keep: "serves the demo until June"; else leave it out')
    return value


class Registration(Model):
    """registrations/SERVER/USER.yaml: this user has a container on this server."""

    host_key: Key
    """The container's ssh host key."""
    gpus: tuple[Gpu, ...] | None = None
    """The only GPUs that the container sees; None: all."""
    limits: LimitsInFile = LimitsInFile()
    """What goes before the server's."""
    mounts: tuple[MountInFile, ...] = ()
    """Folders besides the server's; the same target goes before the server's."""
    devices: tuple[DeviceName, ...] = ()
    """Device files besides the server's."""
    keep: Annotated[Reason | None, BeforeValidator(_a_reason)] = None
    """Why it is never stopped for standing idle; None: it may be."""


Users = Mapping[str, User]


@dataclass(frozen=True)
class State:
    """Everything a state repository says at one revision."""

    fleet: Fleet
    servers: Mapping[str, Server] = field(default_factory=lambda: MappingProxyType({}))
    users: Users = field(default_factory=lambda: MappingProxyType({}))
    registrations: Mapping[str, Mapping[str, Registration]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By server, then by user."""
    former: Users = field(default_factory=lambda: MappingProxyType({}))
    """Users who have left; their numbers stay taken."""
    announcements: Mapping[str, Announcement] = field(default_factory=lambda: MappingProxyType({}))
