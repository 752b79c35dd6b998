"""Whether every server can be nudged: reached, with its own host key, and let in by our key."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from state.model.documents import Server
from state.wire.findings import Area, Finding
from webui.doctor.iam import Iam
from webui.servers.contact import Ssh, Target, UnreachableError

area = Area("servers")
AT_ONCE = 50
CLOSED = ("nudge-unreachable", "nudge-broken")
"""Codes for which there is more to do than to wait, where somebody looks."""


def reachable(iam: Iam) -> Iterator[Finding]:
    """Log in to each server and leave again, all side by side; no round is run."""
    ssh = Ssh(iam.config.nudge_key)

    def reach(item: tuple[str, Server]) -> Finding:
        name, server = item
        target = Target(name, str(server.address), server.ssh_port, server.host_key)
        try:
            ssh.reach(target)
        except UnreachableError as error:
            look = (
                f"Is {name} up? Then, on it: lxc-gpu doctor. Its sshd or a firewall bars the way."
            )
            return area.wrong(error.message, look if error.code in CLOSED else error.hint)
        return area.ok(f"{name} ({server.address}) lets nudges in")

    if not iam.state.servers:
        yield area.note("The state names no server yet.", "On each: setup/gpu-server")
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(reach, sorted(iam.state.servers.items()))
