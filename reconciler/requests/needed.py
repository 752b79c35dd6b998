"""The kinds that a container needs to start and to be reached."""

from __future__ import annotations

from reconciler.kinds.accounts.subids import SubidsKind
from reconciler.kinds.accounts.usernet import UsernetKind
from reconciler.kinds.containers.unit_account import UnitAccountKind
from reconciler.kinds.traffic.forward import ForwardKind
from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.kinds.traffic.network import NetworkKind
from reconciler.kinds.traffic.port_map import PortMapKind
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
