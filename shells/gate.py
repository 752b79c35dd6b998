"""The gate: what the keys of servers and sysadmins open on the web machine, and nothing else.

sshd runs `python -I -m shells.gate server gpu17` or `... admin Alice` as the account that owns
the state repository; what the other side asked for is in SSH_ORIGINAL_COMMAND. It is compared
with the few forms that exist, never parsed by a shell. Standard library only until a
registration has to be committed.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from state.errors import LxcGpuError, Remedy
from state.wire import Answer, encode, refusal

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
_PROTOCOL = re.compile(r"version=[0-2]", re.ASCII)


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
    """Who comes through the gate, as the key says."""

    role: str
    name: str


@dataclass(frozen=True)
class Places:
    """Where things are on this machine."""

    repository: Path
    clone: Path
    signing_key: Path


def caller_of(arguments: Sequence[str]) -> Caller:
    """Who the forced command says it is for."""
    match arguments:
        case ["server" | "admin" as role, name] if _CALLER.fullmatch(name):
            return Caller(role, name)
    raise LxcGpuError("gate-setup", "The gate is not set up rightly on this machine.")


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
            f"Hello {caller.name}: this key clones, pulls and pushes {repository}, no more.",
            f"Try: git clone ssh://lxc-gpu@THIS-MACHINE{repository}",
        )
    return (
        f"The key of {caller.name} reads the state repository and registers users, no more.",
        "What it asked for is neither.",
    )


def places(config: Path = CONFIG) -> Places:
    """The places in the web page's configuration, of which only these are read."""
    try:
        fields = tomllib.loads(config.read_text(encoding="utf-8"))
        repository, clone = Path(fields["repository"]), Path(fields["clone"])
        return Places(repository, clone.with_name("gate-clone"), Path(fields["signing_key"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LxcGpuError(
            "gate-setup",
            "The web machine is not set up: its configuration can't be read.",
            "Its sysadmin runs `setup/web-server`.",
            details=repr(error),
        ) from error


def serve_git(program: str, repository: Path, environ: dict[str, str]) -> None:
    """Become git, with a clean environment. Never returns."""
    protocol = environ.get("GIT_PROTOCOL", "")
    clean = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": environ.get("HOME", "/var/lib/lxc-gpu"),
        **({"GIT_PROTOCOL": protocol} if _PROTOCOL.fullmatch(protocol) else {}),
    }
    os.execve("/usr/bin/git", ["git", program, str(repository)], clean)  # noqa: S606


def register(request: Register, server: str, where: Places) -> Answer:
    """Commit the registration in the name of `server`; what is registered already stays."""
    from shells.gate_register import commit_registration

    revision = commit_registration(request.user, request.host_key, server, where)
    return Answer(
        f"{request.user} is registered on {server}.",
        {"revision": revision, "user": request.user, "server": server},
    )


def main(
    arguments: Sequence[str] | None = None,
    environ: dict[str, str] | None = None,
    git: Callable[[str, Path, dict[str, str]], None] = serve_git,
) -> int:
    """What sshd runs. Whatever happens, the other side gets one line that says it."""
    given = dict(os.environ) if environ is None else environ
    raw = os.fsencode(given.get("SSH_ORIGINAL_COMMAND", ""))
    try:
        caller = caller_of(sys.argv[1:] if arguments is None else arguments)
        where = places()
        request = request_of(raw, caller, where.repository)
        _log(f"event=gate caller={caller.name} request={type(request).__name__.lower()}")
        if isinstance(request, Register):
            print(encode(register(request, caller.name, where)), end="", flush=True)
        else:
            git("upload-pack" if isinstance(request, Fetch) else "receive-pack",
                where.repository, given)  # fmt: skip
        return 0
    except LxcGpuError as error:
        return _refuse(error, raw)
    except Exception as error:
        unexpected = LxcGpuError(
            "gate-crashed",
            "The web machine made a mistake, and did nothing.",
            "Its journal says more: journalctl -t lxc-gpu-gate",
            Remedy.WAIT,
            repr(error),
        )
        return _refuse(unexpected, raw)


def _refuse(error: LxcGpuError, raw: bytes) -> int:
    """One line on each stream: for our programs a message, for people at git's end a sentence."""
    if raw.startswith(b"register"):
        print(encode(refusal(error)), end="", flush=True)
    else:
        print(" ".join(f"{error.message} {error.hint}".split()), file=sys.stderr)
    _log(f"event=gate-refused code={error.code} request={raw[:200]!r} details={error.details!r}")
    return 1


def _log(line: str) -> None:
    import syslog

    syslog.openlog("lxc-gpu-gate", syslog.LOG_PID, syslog.LOG_AUTH)
    syslog.syslog(line)


if __name__ == "__main__":
    sys.exit(main())
