"""What the gate may be asked, by whom, and where things are that it needs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from state.errors import LxcGpuError

CONFIG = Path("/etc/lxc-gpu/web.toml")
LONGEST_REQUEST = 2000
"""Bytes; a registration with an ed25519 key takes 120."""
_FETCH = re.compile(r"git-upload-pack '([A-Za-z0-9/._-]+)'", re.ASCII)
_PUSH = re.compile(r"git-receive-pack '([A-Za-z0-9/._-]+)'", re.ASCII)
_REGISTER = re.compile(
    r"register ([a-z_][a-z0-9_-]{0,30}) ((?:ssh|ecdsa)-[a-z0-9-]{1,40} [A-Za-z0-9+/]{1,1200}={0,2})"
    r"(?: [A-Za-z0-9@._-]{1,100})?",
    re.ASCII,
)
_CALLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,200}", re.ASCII)


@dataclass(frozen=True)
class Fetch:
    """Read the state repository."""


@dataclass(frozen=True)
class Push:
    """Add to the state repository; its pre-receive hook judges what."""


@dataclass(frozen=True)
class Register:
    """Note that a user has a container on the server that asks."""

    user: str
    host_key: str


Request = Fetch | Push | Register


@dataclass(frozen=True)
class Caller:
    """The server or sysadmin who comes through the gate, by the key."""

    role: str
    name: str


@dataclass(frozen=True)
class GatePaths:
    """Where things are on this machine."""

    repository: Path
    clone: Path
    signing_key: Path


def caller_of(arguments: Sequence[str]) -> Caller:
    """The caller that the forced command names."""
    match arguments:
        case ["server" | "admin" as role, name] if _CALLER.fullmatch(name):
            return Caller(role, name)
    raise LxcGpuError(
        "gate-setup",
        "The gate is not set up correctly on this machine.",
        "Sysadmin: run `setup/web-server` again on the web machine.",
    )


def request_of(raw: bytes, caller: Caller, repository: Path) -> Request:
    """What `raw` asks for. LxcGpuError for anything but the exact forms that exist."""
    try:
        text = raw.decode("ascii") if len(raw) <= LONGEST_REQUEST else ""
    except UnicodeDecodeError:
        text = ""
    names = (str(repository), repository.name)
    if (found := _FETCH.fullmatch(text)) and found[1] in names:
        return Fetch()
    if caller.role == "admin" and (found := _PUSH.fullmatch(text)) and found[1] in names:
        return Push()
    if caller.role == "server" and (found := _REGISTER.fullmatch(text)):
        return Register(found[1], found[2])
    raise LxcGpuError("gate-refused", *_refusal(caller, repository))


def _refusal(caller: Caller, repository: Path) -> tuple[str, str]:
    if caller.role == "admin":
        return (
            f"Hello {caller.name}: this key clones, pulls and pushes {repository}, and nothing "
            "else.",
            f"Try: git clone ssh://lxc-gpu@THIS-MACHINE{repository}",
        )
    return (
        f"The key of {caller.name} reads the state repository and registers users, and nothing "
        "else.",
        "What it asked for is neither.",
    )


def gate_paths() -> GatePaths:
    """The paths in the web page's configuration; nothing else of it is read."""
    try:
        fields = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
        repository, clone = Path(fields["repository"]), Path(fields["clone"])
        return GatePaths(repository, clone.with_name("gate-clone"), Path(fields["signing_key"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LxcGpuError(
            "gate-setup",
            "The web machine is not set up: its configuration can't be read.",
            "Its sysadmin runs `setup/web-server`.",
            details=repr(error),
        ) from error
