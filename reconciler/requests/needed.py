"""The kinds that a container needs to start and to be reached."""

from __future__ import annotations

from contextlib import suppress

from reconciler.host.published import published_view
from reconciler.kinds.accounts.subids import SubidsKind
from reconciler.kinds.accounts.usernet import UsernetKind
from reconciler.kinds.containers.unit_account import UnitAccountKind
from reconciler.kinds.traffic.forward import ForwardKind
from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.kinds.traffic.network import NetworkKind
from reconciler.kinds.traffic.port_map import PortMapKind
from reconciler.network import iptables, nft
from reconciler.plan import AnyKind

NEEDED: tuple[AnyKind, ...] = (
    SubidsKind(),
    UsernetKind(),
    UnitAccountKind(),
    NetworkKind(),
    IdentityKind(),
    PortMapKind(),
    ForwardKind(),
)
"""In this order."""


def remember(timeout: float) -> None:
    """Read now what each of these reads, for processes that this one forks later.

    Those read it again only if it was changed meanwhile. What can't be read within `timeout`
    seconds, they read, and say what is wrong.
    """
    for read in (published_view, lambda: iptables.remember(timeout), lambda: nft.elements(timeout)):
        with suppress(Exception):
            read()
