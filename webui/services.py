"""The services that pages use: made once by `create_app` and kept in the application."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import current_app, request

from webui.clone.source import StateSource
from webui.config import WebConfig
from webui.directory.key_proof import KeyProofs
from webui.directory.ldap import Directory
from webui.directory.refresh import Refresher
from webui.directory.throttle import Throttle
from webui.live import LiveStreams
from webui.monitor.heard.latest import Latest
from webui.monitor.heard.listening import Listeners
from webui.monitor.past.history import History
from webui.monitor.past.memberships import Memberships
from webui.outbox.sending import Sending
from webui.servers.board import Board
from webui.servers.nudge import Nudger

EXTENSION = "lxc-gpu"


@dataclass(frozen=True)
class Services:
    """Everything behind the pages."""

    config: WebConfig
    source: StateSource
    directory: Directory
    throttle: Throttle
    board: Board
    nudger: Nudger
    refresher: Refresher
    latest: Latest
    history: History
    memberships: Memberships
    listeners: Listeners
    sending: Sending
    proofs: KeyProofs
    live_monitors: LiveStreams
    live_saves: LiveStreams
    clock: Callable[[], float]


def services() -> Services:
    """The services of the current application."""
    return cast(Services, current_app.extensions[EXTENSION])


def source_address() -> str:
    """The address of this request; for IPv6 its /64 network, since a household has all of one."""
    given = request.remote_addr or "unknown"
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return given
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return given
