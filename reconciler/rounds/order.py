"""The order in which a round applies the kinds.

Revocations first, containers last: a key that was removed stops working, and what it opened ends,
before anything slow begins. After them only `identity`: a container that is stopped says goodbye
to its connections, as itself. (A start makes sure of its own identity first.)

A kind is added with one module in `reconciler.kinds` and one line here.
"""

from __future__ import annotations

from reconciler.kinds.account import AccountKind
from reconciler.kinds.authorized_keys import AuthorizedKeysKind
from reconciler.kinds.bridge_port import BridgePortKind
from reconciler.kinds.connection import ConnectionKind
from reconciler.kinds.container import ContainerKind
from reconciler.kinds.containers_folder import ContainersFolderKind
from reconciler.kinds.disk_quota import DiskQuotaKind
from reconciler.kinds.forward import ForwardKind
from reconciler.kinds.identity import IdentityKind
from reconciler.kinds.limits import LimitsKind
from reconciler.kinds.mount import MountKind
from reconciler.kinds.network import NetworkKind
from reconciler.kinds.port_map import PortMapKind
from reconciler.kinds.register_keys import RegisterKeysKind
from reconciler.kinds.subids import SubidsKind
from reconciler.kinds.user_folder import UserFolderKind
from reconciler.kinds.user_slice import UserSliceKind
from reconciler.kinds.usernet import UsernetKind
from reconciler.plan import AnyKind

KINDS: tuple[AnyKind, ...] = (
    AuthorizedKeysKind(),
    RegisterKeysKind(),
    ConnectionKind(),
    AccountKind(),
    SubidsKind(),
    UsernetKind(),
    NetworkKind(),
    BridgePortKind(),
    PortMapKind(),
    ForwardKind(),
    LimitsKind(),
    UserSliceKind(),
    MountKind(),
    UserFolderKind(),
    ContainersFolderKind(),
    DiskQuotaKind(),
    ContainerKind(),
    IdentityKind(),
)
