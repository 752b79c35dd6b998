"""The rules of mounts, devices and limits: nothing may break a container, or hand out the server.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from state.model.documents import State
from state.model.layout import Subject
from state.model.resources import LimitsInFile, MountInFile
from state.reading.problems import BrokenRule, Place, repeated

LEAST_MEMORY = 256 << 20
"""Bytes: with less, a container's own services are killed."""
LEAST_DISK = 1 << 30
SYSTEM = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin",
     "sys", "tmp", "usr", "var"}
)  # fmt: skip
"""Folders that a container's system stands in: mounting over one breaks it."""
NOTHING_BELOW = frozenset({"boot", "dev", "proc", "run", "sys"})
"""Of those, the folders that the system fills, or that hold its devices and its state."""
HANDED_OUT = (
    "/tmp",  # noqa: S108  # nothing is written there
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/opt/lxc-gpu", "/proc",
    "/root", "/run", "/sbin", "/sys", "/usr", "/usr/local/lib/lxc-gpu", "/var/lib/lxc-gpu",
    "/var/lib/lxcfs", "/var/log", "/var/spool",
)  # fmt: skip
"""Folders of the server that hold its secrets, its devices or its programs, with all below."""
HOMES = "/home"
"""Of those, the one from which people may see what has been their own."""
HANDED_OUT_ALONE = ("/", "/opt", "/usr/local", "/var", "/var/lib")
"""Folders that hold one of those."""

Placed = tuple[str, Place, MountInFile]
"""A mount, with the file and the field that says so."""


def resources(state: State) -> Iterator[BrokenRule]:
    """Every rule of mounts, devices, GPUs and limits that a server or a registration breaks."""
    for name, server in state.servers.items():
        path = Subject("servers", name).path
        here: list[Placed] = [(path, ("mounts", n), mount) for n, mount in enumerate(server.mounts)]
        yield from _limits(path, server.limits)
        yield from _targets(here)
        yield from repeated(path, ("devices",), server.devices)
        everywhere, people = list(here), state.registrations.get(name, {})
        for user, registration in people.items():
            own_path = Subject("registrations", user, name).path
            own: list[Placed] = [
                (own_path, ("mounts", n), mount) for n, mount in enumerate(registration.mounts)
            ]
            yield from _limits(own_path, registration.limits)
            yield from _targets(own)
            yield from repeated(own_path, ("devices",), registration.devices)
            yield from repeated(own_path, ("gpus",), registration.gpus or ())
            everywhere += own
        for place in everywhere:
            yield from _mount(*place, containers=server.containers, people=tuple(people))
            yield from _apart(*place, "the snapshots", server.snapshots.folder)
            yield from _apart(*place, "NVIDIA's installers", server.driver.installers)
        yield from _sources(everywhere)


def _limits(path: str, limits: LimitsInFile) -> Iterator[BrokenRule]:
    for field, least in (("memory", LEAST_MEMORY), ("disk", LEAST_DISK)):
        value = getattr(limits, field)
        if value is not None and value < least:
            text = f"{field} must be at least {least >> 20}M, or the container can't work"
            yield BrokenRule(path, ("limits", field), text)


def _targets(mounts: Sequence[Placed]) -> Iterator[BrokenRule]:
    """Of one file: what is mounted where something is mounted already."""
    seen = set[str]()
    for path, place, mount in mounts:
        if mount.target in seen:
            text = f"{mount.target} is the target of another mount, too"
            yield BrokenRule(path, (*place, "target"), text)
        seen.add(mount.target)


def _mount(
    path: str, place: Place, mount: MountInFile, containers: str, people: Sequence[str]
) -> Iterator[BrokenRule]:
    if words := _target(mount, people):
        yield BrokenRule(path, (*place, "target"), words)
    if words := _source(mount, containers):
        yield BrokenRule(path, (*place, "source"), words)


def _target(mount: MountInFile, people: Sequence[str]) -> str:
    """Why nothing may be mounted there; empty if it may."""
    _, *parts = PurePosixPath(mount.target).parts
    if not parts or (len(parts) == 1 and parts[0] in SYSTEM):
        return f"{mount.target} is where the container's own system is: it would not start"
    if parts[0] in NOTHING_BELOW:
        return f"nothing can be mounted below /{parts[0]}: the container's system fills it"
    if parts[:2] == ["etc", "ssh"]:
        return "the container's sshd reads its keys in /etc/ssh"
    if mount.access != "own" and parts[0] == "home":
        person, below = (parts[1] if len(parts) > 1 else ""), parts[2:]
        if not person or (person in people and below[:1] in ([], [".ssh"])):
            return (
                f"{mount.target} holds the keys that open a container, so only a folder of the "
                f"user's own can be there (access: own)"
            )
    return ""


def _source(mount: MountInFile, containers: str) -> str:
    """Why the folder may not be handed out; empty if it may."""
    source, path = mount.source, PurePosixPath(mount.source)
    for folder in (*HANDED_OUT, containers):
        if folder == HOMES and mount.access == "home":
            continue
        if path.is_relative_to(folder):
            return f"{source} is the server's own: containers may see nothing of {folder}"
        if PurePosixPath(folder).is_relative_to(source):
            return f"{source} holds {folder}, which containers may not see"
    if source in HANDED_OUT_ALONE:
        return f"{source} is the server's own: name a folder below it"
    return ""


def _apart(
    path: str, place: Place, mount: MountInFile, what: str, folder: str
) -> Iterator[BrokenRule]:
    """Everybody's snapshots hold everybody's files, and containers' numbers don't own them; what
    is in the folder of the installers runs in every container."""
    source, theirs = PurePosixPath(mount.source), PurePosixPath(folder)
    if source.is_relative_to(theirs) or theirs.is_relative_to(source):
        text = f"{source} and {what} in {folder} overlap: containers may not see those"
        yield BrokenRule(path, (*place, "source"), text)


def _sources(mounts: Sequence[Placed]) -> Iterator[BrokenRule]:
    """On one server: a source has one access, and no other source is inside users' own folders."""
    access: dict[str, str] = {}
    for path, place, mount in mounts:
        if access.setdefault(mount.source, mount.access) != mount.access:
            text = f"{mount.source} is `{access[mount.source]}` elsewhere on this server"
            yield BrokenRule(path, (*place, "access"), f"{text}: a folder has one access")
    own = [source for source, of in access.items() if of in ("own", "home")]
    for path, place, mount in mounts:
        for other in own:
            if mount.source != other and PurePosixPath(mount.source).is_relative_to(other):
                text = f"{mount.source} is inside {other}, which holds users' own folders"
                yield BrokenRule(path, (*place, "source"), text)
