"""/etc/lxc-gpu/server.toml: which server this is, and where its state comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import places
from state.errors import LxcGpuError


@dataclass(frozen=True)
class ServerConfig:
    """What a server has to know before it can read the state."""

    name: str
    """This server's name in the state repository."""
    state_url: str
    """Where the state repository is fetched from."""
    gate: str
    """Where registrations are noted: ACCOUNT@HOST of the IAM machine, for ssh."""


def read_server_config(path: Path = places.SERVER_CONFIG) -> ServerConfig:
    """The configuration; LxcGpuError if it is missing or incomplete."""
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
        return ServerConfig(*(str(fields[name]) for name in ("name", "state_url", "gate")))
    except FileNotFoundError as error:
        raise LxcGpuError(
            "not-a-server",
            f"This machine is no GPU server of lxc-gpu: there is no {path}.",
            "Run `setup/gpu-server` on it, or type this on a GPU server.",
        ) from error
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise LxcGpuError(
            "server-config", f"{path} can't be used: {error}.", "Run `setup/gpu-server` again."
        ) from error


def ssh_command() -> str:
    """The ssh that git fetches with: this server's own key, the IAM machine's pinned host key."""
    return (
        f"ssh -F none -i {places.STATE_KEY} -o IdentitiesOnly=yes -o BatchMode=yes "
        f"-o UserKnownHostsFile={places.STATE_KNOWN_HOSTS} -o StrictHostKeyChecking=yes "
        "-o ConnectTimeout=10 -o ServerAliveInterval=15"
    )
