"""Forwards: the ports beyond ssh that users asked for on this server, and which port each got.

They aren't in the state: the server chooses them, and keeps everybody's in one file of root's, so
that no port is given twice. The file is changed under the lock `locks.GLOBAL` only. The kind
`forward` makes the rules. Former users keep their ports until `purge`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from reconciler.host import places
from state import files, plain
from state.errors import LxcGpuError

MOST = 20
"""Forwards that one user may have on one server."""
HIGHEST = 65535
PROTOCOLS = ("tcp", "udp")
_SOCKETS = tuple(Path("/proc/net") / name for name in ("tcp", "tcp6", "udp", "udp6"))
_LISTENS = "0A"
"""TCP_LISTEN in the column `st` of /proc/net/tcp (proc_net_tcp.rst of the kernel)."""


class Forward(NamedTuple):
    """`port` of the server leads to `to_port` of the container."""

    protocol: str
    port: int
    to_port: int


class Forwards(NamedTuple):
    """Everybody's forwards, and the port that was given last. The search for a free port begins
    after it, so that a port that was given back, and may be bookmarked, is reused late."""

    of: Mapping[str, tuple[Forward, ...]] = MappingProxyType({})
    last: int = 0

    def find(self, user: str, protocol: str, to_port: int) -> Forward | None:
        """The user's forward to that port of the container."""
        for forward in self.of.get(user, ()):
            if (forward.protocol, forward.to_port) == (protocol, to_port):
                return forward
        return None

    def give(
        self, user: str, protocol: str, to_port: int, ports: range, busy: Collection[int]
    ) -> tuple[Forwards, Forward]:
        """Add one for the user, with a port of `ports` that is neither given nor `busy`.

        It is the same port as for the other protocol where that is possible. LxcGpuError if the
        user has the most that one may have, or no port is free. Pure.
        """
        own = self.of.get(user, ())
        if len(own) >= MOST:
            raise LxcGpuError(
                "forwards-most",
                f"You have {MOST} ports mapped here; one user can't have more.",
                "Take one away that you don't use any more: `port --remove PORT`.",
            )
        twin = [f.port for f in own if f.to_port == to_port]
        given = {forward.port for of_user in self.of.values() for forward in of_user}
        start = self.last + 1 if self.last in ports else ports.start
        in_turn = (*range(start, ports.stop), *range(ports.start, start))
        free = (port for port in in_turn if port not in given)
        for port in (*(p for p in twin if p in ports), *free):
            if port not in busy:
                forward = Forward(protocol, port, to_port)
                last = self.last if port in twin else port
                return Forwards({**self.of, user: (*own, forward)}, last), forward
        raise LxcGpuError(
            "forwards-full",
            f"All ports from {ports.start} to {ports.stop - 1} of this server are taken.",
            "Your sysadmin can widen `forwards:` in fleet.yaml, or purge who has left.",
        )

    def without(self, user: str, *taken: Forward) -> Forwards:
        """The forwards without some of the user's."""
        left = tuple(f for f in self.of.get(user, ()) if f not in taken)
        others = {name: of_user for name, of_user in self.of.items() if name != user}
        return self._replace(of={**others, user: left} if left else others)


def read() -> Forwards:
    """The forwards of this server. LxcGpuError if they can't be read: unreadable isn't empty."""
    try:
        text = files.read_text(places.FORWARDS)
        return Forwards() if text is None else from_json(text)
    except (OSError, ValueError) as error:
        raise LxcGpuError(
            "forwards-damaged",
            "The list of mapped ports on this server can't be read. What is mapped stays mapped; "
            "nothing is changed.",
            f"Sysadmin: put {places.FORWARDS} back from a backup, or move it away: then nobody "
            "has any port but ssh, and people ask again.",
            details=repr(error),
        ) from error


def write(forwards: Forwards) -> None:
    """Replace the forwards of this server. The caller holds the global lock."""
    files.write_file(places.FORWARDS, to_json(forwards), 0o600)


def to_json(forwards: Forwards) -> str:
    """The text of the file; equal forwards give the same text."""
    return plain.to_json(_File(dict(sorted(forwards.of.items())), forwards.last))


class _File(NamedTuple):
    forwards: Mapping[str, tuple[Forward, ...]]
    last: int


def from_json(text: str) -> Forwards:
    """What `to_json` wrote. ValueError if it is damaged."""
    of, last = plain.from_json(_File, text)
    owners: dict[int, str] = {}
    seen: set[tuple[str, int]] = set()
    for user, of_user in of.items():
        for f in of_user:
            if f.protocol not in PROTOCOLS or not (_is_port(f.port) and _is_port(f.to_port)):
                raise ValueError(f"not a forward: {f}")
            if owners.setdefault(f.port, user) != user or (f.protocol, f.port) in seen:
                raise ValueError(f"given twice: {f.port}")
            seen.add((f.protocol, f.port))
    return Forwards(of, last)


def _is_port(number: int) -> bool:
    return 1 <= number <= HIGHEST


def ports_in_use() -> frozenset[int]:
    """Ports at which the server's own programs listen: a mapping would take their connections."""
    found: set[int] = set()
    for path in _SOCKETS:
        lines = (files.read_text(path) or "").splitlines()
        found.update(local_ports(lines, udp=path.name.startswith("udp")))
    return frozenset(found)


def local_ports(lines: Iterable[str], *, udp: bool) -> Iterator[int]:
    """The ports at which sockets of /proc/net/tcp or udp listen. Pure.

    A TCP connection doesn't listen; a UDP socket always does.
    """
    for line in lines:
        _, local, _, state = (*line.split()[:4], "", "", "", "")[:4]
        if ":" in local and (udp or state == _LISTENS):
            yield int(local.rpartition(":")[2], 16)
