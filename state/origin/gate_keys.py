"""The gate's authorized_keys: which keys reach the state repository over ssh, and for what.

Pure. The gate itself is `shells.gate.serve`; each key opens it for one server or one sysadmin, and
for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from state.model.documents import State

GATE = "/usr/local/lib/lxc-gpu/gate"


def gate_keys(state: State, gate: str = GATE) -> str:
    """One line for each admin and each server, who are known by their keys alone.

    Admins stand first: sshd takes the first line that fits.
    """
    lines = [
        "# Written by lxc-gpu from the state repository, after every push. Don't edit:",
        "# change servers/*.yaml, or the signers in fleet.yaml.",
        *_admins(state, gate),
        *_servers(state, gate),
    ]
    return "".join(f"{line}\n" for line in lines)


def _admins(state: State, gate: str) -> Iterator[str]:
    for signer in state.fleet.signers:
        if signer.role == "admin":
            # Names are people's and may hold anything: in the command stands a plain form of it.
            plain = re.sub(r"[^A-Za-z0-9.]+", "-", signer.name).strip("-") or "admin"
            key = signer.key
            yield f'restrict,command="{gate} admin {plain}" {_bare(str(key))}'


def _servers(state: State, gate: str) -> Iterator[str]:
    for name, server in sorted(state.servers.items()):
        yield f'restrict,command="{gate} server {name}" {_bare(str(server.state_key))}'


def _bare(key: str) -> str:
    return " ".join(key.split()[:2])
