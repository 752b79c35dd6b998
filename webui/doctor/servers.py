"""Whether each server can be nudged: it answers, has its own host key, and accepts our key."""

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
"""Codes of errors for which the doctor has better advice than to wait."""


def reachable(iam: Iam) -> Iterator[Finding]:
    """Log in to all servers in parallel, and out again. No round is run."""
    ssh = Ssh(iam.config.nudge_key)

    def reach(item: tuple[str, Server]) -> Finding:
        name, server = item
        target = Target(name, str(server.address), server.ssh_port, server.host_key)
        try:
            ssh.reach(target)
        except UnreachableError as error:
            look = f"Is {name} up? Then run `lxc-gpu doctor` on it: its sshd or a firewall refuses."
            return area.wrong(error.message, look if error.code in CLOSED else error.hint)
        return area.ok(f"{name} ({server.address}) accepts nudges")

    if not iam.state.servers:
        yield area.note("The state has no server yet.", "On each server, run setup/gpu-server")
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(reach, sorted(iam.state.servers.items()))
