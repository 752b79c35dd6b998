"""The ports beyond ssh that users asked for: their DNAT rules, beside those of `port_map`.

A kind of its own, so that a damaged list of forwards keeps nobody from ssh.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.kinds.traffic.port_map import Chain, Mappings, PortMapping, in_words
from reconciler.network import forwards
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View


class ForwardKind:
    """Ports of the server that lead to containers because their users asked."""

    name = "forward"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mappings:
        """What residents asked for, in the fleet's range: outside of it, ports are others'."""
        kept = forwards.read().of
        wanted = {
            name: tuple(
                PortMapping(f.protocol, view.address, f.port, resident.address, f.to_port)
                for f in kept.get(name, ())
                if f.port in view.forward_ports
            )
            for name, resident in view.residents.items()
        }
        return {name: mappings for name, mappings in wanted.items() if mappings}

    def observe(
        self, view: View, names: Collection[str]
    ) -> Observed[tuple[PortMapping | str, ...]]:
        """All forwards of the chain; those that nobody asked for are there to be taken away."""
        return Observed(Chain(view, forwards=True).read())

    def apply(
        self, view: View, changes: Sequence[Change[tuple[PortMapping | str, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Replace the chain as a whole."""
        Chain(view, forwards=True).replace(changes)
        return {}

    def describe(self, change: Change[tuple[PortMapping | str, ...]]) -> str:
        """All that the user has afterwards."""
        return in_words(change) or f"take away the forwards of {change.name}"
