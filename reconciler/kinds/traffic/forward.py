"""The DNAT rules of the ports that users asked for, besides the ssh ports of `port_map`.

A kind of its own, so that a damaged list of forwards keeps nobody from ssh.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.kinds.traffic.port_map import Chain, Mappings, PortMapping, in_words
from reconciler.network import forwards
from reconciler.network.forwards import Forward
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View


def mappings(view: View, user: str, asked: Sequence[Forward]) -> tuple[PortMapping, ...]:
    """A user's forwards, but for those outside the fleet's range: such ports are others'."""
    to_address = view.residents[user].address
    return tuple(
        PortMapping(f.protocol, view.address, f.port, to_address, f.to_port)
        for f in asked
        if f.port in view.forward_ports
    )


class ForwardKind:
    """Ports of the server that lead to containers because their users asked."""

    name = "forward"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mappings:
        """What residents asked for."""
        kept = forwards.read().of
        wanted = {name: mappings(view, name, kept.get(name, ())) for name in view.residents}
        return {name: of_user for name, of_user in wanted.items() if of_user}

    def observe(
        self, view: View, names: Collection[str]
    ) -> Observed[tuple[PortMapping | str, ...]]:
        """All forwards of the chain; those that nobody asked for are to be removed."""
        return Observed(Chain(view, forwards=True).read())

    def apply(
        self, view: View, changes: Sequence[Change[tuple[PortMapping | str, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Replace the chain as a whole."""
        Chain(view, forwards=True).replace(changes)
        return {}

    def describe(self, change: Change[tuple[PortMapping | str, ...]]) -> str:
        """All forwards that the user has afterwards."""
        return in_words(change) or f"take away the forwards of {change.name}"
