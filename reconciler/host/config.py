"""/etc/lxc-gpu/server.toml: which server this is, and where its state comes from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from reconciler.host import places
from state import command
from state.errors import LxcGpuError
from state.view import View


class ServerConfig(NamedTuple):
    """What a server needs to know before it can read the state."""

    name: str
    """This server's name in the state repository."""
    state_url: str
    """Where the state repository is fetched from."""
    gate: str
    """Where registrations are sent: ACCOUNT@HOST of the web machine, for ssh."""


def read_server_config(path: Path = places.SERVER_CONFIG) -> ServerConfig:
    """The configuration; LxcGpuError if it is missing or incomplete."""
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
        return ServerConfig(*(str(fields[name]) for name in ("name", "state_url", "gate")))
    except FileNotFoundError as error:
        raise LxcGpuError(
            "not-a-server",
            f"This machine is not a GPU server of lxc-gpu: there is no {path}.",
            "Run `setup/gpu-server` on it, or type this on a GPU server.",
        ) from error
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise LxcGpuError(
            "server-config", f"{path} can't be used: {error}.", "Run `setup/gpu-server` again."
        ) from error


def web_machine(config: ServerConfig) -> list[str]:
    """The addresses of the web machine; empty if its name can't be looked up in time."""
    host = config.gate.rpartition("@")[2]
    try:
        found = command.run(["getent", "ahosts", host], check=False, timeout=5).stdout
    except LxcGpuError:
        return []
    return list(dict.fromkeys(line.split()[0] for line in found.splitlines() if line.split()))


def not_punished(config: ServerConfig, view: View | None) -> tuple[str, ...]:
    """Addresses shared by many people, which sshd must not punish (PerSourcePenaltyExemptList)."""
    return tuple(dict.fromkeys((*web_machine(config), *(view.not_punished if view else ()))))


def ssh_command() -> str:
    """The ssh command for git: with this server's own key and the web machine's pinned host key."""
    return (
        f"ssh -F none -i {places.STATE_KEY} -o IdentitiesOnly=yes -o BatchMode=yes "
        f"-o UserKnownHostsFile={places.STATE_KNOWN_HOSTS} -o StrictHostKeyChecking=yes "
        "-o ConnectTimeout=10 -o ServerAliveInterval=15"
    )
