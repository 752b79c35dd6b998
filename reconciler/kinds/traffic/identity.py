"""The MAC and address that each resident's port may use: elements of our table's sets.

They name ports by wildcard, so they exist before a container's port does, and outlast it. A
container that was started by an earlier release keeps the MAC that it was started with until its
next start: an upgrade touches nothing that runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.container.running import started_with
from reconciler.network import nft
from reconciler.network.filters import IDENTITIES, PORTS, mac_of, port_of
from reconciler.network.nft import Element
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

Own = frozenset[Element]
"""The elements that belong to one user."""


class IdentityKind:
    """The identity of each container on the bridge."""

    name = "identity"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Own]:
        """One port, one MAC and one address for each resident.

        Pure but for the MACs of running containers, which are read from the configurations (root's)
        that they were started with.
        """
        earlier = started_with(view)
        return {
            name: frozenset(
                {
                    Element(PORTS, f'"{port_of(r)}"', name),
                    *(
                        Element(IDENTITIES, f'"{port_of(r)}" . {mac} . {r.address}', name)
                        for mac in (mac_of(r.address), *earlier.get(name, ()))
                    ),
                }
            )
            for name, r in view.residents.items()
        }

    def observe(self, view: View, names: Collection[str]) -> Observed[Own]:
        """All elements, by owner; one without an owner is to be removed."""
        return Observed(_by_owner())

    def apply(
        self, view: View, changes: Sequence[Change[Own]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make all changes in one transaction, which fills the sets anew."""
        owned = _by_owner()
        for change in changes:
            owned[change.name] = change.after or frozenset()
        every = (element for own in owned.values() for element in own)
        nft.replace_elements(sorted(every, key=lambda e: (e.of, e.value)))
        return {}

    def describe(self, change: Change[Own]) -> str:
        """E.g. `let lqchen speak on the bridge as "veth20031_*" . 02:00:... . 10.77.0.33`."""
        if change.after is None:
            return f"no longer let {change.name} speak on the bridge"
        values = sorted(e.value for e in change.after if e.of == IDENTITIES)
        return f"let {change.name} speak on the bridge as {', '.join(values)} only"


def _by_owner() -> dict[str, Own]:
    owned: dict[str, set[Element]] = {}
    for element in nft.elements():
        owned.setdefault(element.owner or element.value, set()).add(element)
    return {owner: frozenset(own) for owner, own in owned.items()}
