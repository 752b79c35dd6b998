"""The order in which a round applies the kinds.

Revocations come first: a removed key stops working, and what it opened ends, before anything slow
begins. Containers come nearly last. `identity` follows them, so that a container that is stopped
can close its connections under its own address. (A start makes sure of its identity first.) Old
homes come last, as they ask the server's sources of accounts, for which nothing else should wait.

To add a kind, write a module below `reconciler.kinds` and add a line here.
"""

from __future__ import annotations

from reconciler.kinds.accounts.account import AccountKind
from reconciler.kinds.accounts.subids import SubidsKind
from reconciler.kinds.accounts.user_slice import UserSliceKind
from reconciler.kinds.accounts.usernet import UsernetKind
from reconciler.kinds.containers.container import ContainerKind
from reconciler.kinds.containers.containers_folder import ContainersFolderKind
from reconciler.kinds.containers.cpu_set import CpuSetKind
from reconciler.kinds.containers.device import DeviceKind
from reconciler.kinds.containers.disk_quota import DiskQuotaKind
from reconciler.kinds.containers.limits import LimitsKind
from reconciler.kinds.containers.lxcfs import LxcfsKind
from reconciler.kinds.containers.mount import MountKind
from reconciler.kinds.containers.old_home import OldHomeKind
from reconciler.kinds.containers.unit_account import UnitAccountKind
from reconciler.kinds.containers.user_folder import UserFolderKind
from reconciler.kinds.keys.authorized_keys import AuthorizedKeysKind
from reconciler.kinds.keys.connection import ConnectionKind
from reconciler.kinds.keys.register_keys import RegisterKeysKind
from reconciler.kinds.traffic.bridge_port import BridgePortKind
from reconciler.kinds.traffic.forward import ForwardKind
from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.kinds.traffic.network import NetworkKind
from reconciler.kinds.traffic.port_map import PortMapKind
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
    CpuSetKind(),
    UserSliceKind(),
    UnitAccountKind(),
    MountKind(),
    UserFolderKind(),
    DeviceKind(),
    ContainersFolderKind(),
    DiskQuotaKind(),
    ContainerKind(),
    IdentityKind(),
    LxcfsKind(),
    OldHomeKind(),
)
