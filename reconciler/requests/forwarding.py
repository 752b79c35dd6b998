"""Mapping ports and taking mappings away: the list is written, then the rules, under one lock.

The list is what counts: after a kill between the two, the next round makes the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.host import locks
from reconciler.host.published import current_view, resident_of
from reconciler.kinds.traffic.forward import ForwardKind, mappings
from reconciler.kinds.traffic.port_map import SSH
from reconciler.network import forwards
from reconciler.network.forwards import Forward, Forwards
from reconciler.rounds.converge import put_right
from state.errors import LxcGpuError
from state.view import View


@dataclass(frozen=True)
class PortChange:
    """What came of a request."""

    view: View
    forward: Forward
    """The mapping that was asked for, or that was taken away."""
    own: tuple[Forward, ...]
    """All that the user has now."""


def give(user: str, protocol: str, to_port: int) -> PortChange:
    """Map a port of the server to that port of the user's container.

    It stays the one that leads there already, if there is one. LxcGpuError if there can't be one.
    """
    with locks.lock(locks.GLOBAL):
        view = _view_for(user)
        if (protocol, to_port) == ("tcp", SSH):
            raise LxcGpuError(
                "port-is-ssh",
                f"Port {SSH} of your container is mapped already: it is your ssh port, "
                f"{view.address}:{view.residents[user].port}.",
                f"`ssh {view.server}` uses it.",
            )
        kept = forwards.read()
        forward = kept.find(user, protocol, to_port)
        if forward is None or forward.port not in view.forward_ports:
            kept = kept.without(user, *([forward] if forward else []))
            busy = forwards.ports_in_use()
            kept, forward = kept.give(user, protocol, to_port, view.forward_ports, busy)
            forwards.write(kept)
        return _made_so(view, user, forward, kept)


def take(user: str, protocol: str, to_port: int) -> PortChange:
    """Take the mapping to that port of the container away. LxcGpuError if there is none."""
    with locks.lock(locks.GLOBAL):
        view, kept = _view_for(user), forwards.read()
        forward = kept.find(user, protocol, to_port)
        if forward is None:
            raise LxcGpuError(
                "not-forwarded",
                f"No port of {view.server} leads to {protocol} port {to_port} of your container.",
                "`port` lists those that do.",
            )
        kept = kept.without(user, forward)
        forwards.write(kept)
        return _made_so(view, user, forward, kept)


def forget(user: str) -> None:
    """Release all ports of a former user. The caller holds the global lock."""
    kept = forwards.read()
    if user in kept.of:
        forwards.write(kept.without(user, *kept.of[user]))


def _made_so(view: View, user: str, forward: Forward, kept: Forwards) -> PortChange:
    own = kept.of.get(user, ())
    put_right(ForwardKind(), view, user, mappings(view, user, own) or None)
    return PortChange(view, forward, own)


def _view_for(user: str) -> View:
    """The current view, under the lock. LxcGpuError if the user has no container here."""
    view = current_view()
    resident_of(view, user)
    return view
