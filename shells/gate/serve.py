"""The gate: what the keys of servers and sysadmins open on the web machine, and nothing else.

sshd runs `/usr/local/lib/lxc-gpu/gate server gpu17` or `... admin Alice` as the account that owns
the state repository; what the other side asked for is in SSH_ORIGINAL_COMMAND. It is compared
with the few forms that exist, never parsed by a shell. Standard library only until a
registration has to be committed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from shells.gate.request import Fetch, GatePaths, Register, caller_of, gate_paths, request_of
from state.connections.sshd import AUTH, AUTH_FILE, must_stand
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Answer, encode, refusal

_PROTOCOL = re.compile(r"version=[0-2]", re.ASCII)


def serve_git(program: str, repository: Path, environ: dict[str, str]) -> None:
    """Become git, with a clean environment. Never returns."""
    protocol, opened = environ.get("GIT_PROTOCOL", ""), environ.get(AUTH, "")
    clean = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": environ.get("HOME", "/var/lib/lxc-gpu"),
        **({"GIT_PROTOCOL": protocol} if _PROTOCOL.fullmatch(protocol) else {}),
        **({AUTH: opened} if AUTH_FILE.fullmatch(opened) else {}),  # state.origin.gate_file looks
    }
    os.execve("/usr/bin/git", ["git", program, str(repository)], clean)  # noqa: S606


def register(request: Register, server: str, where: GatePaths) -> Answer:
    """Commit the registration in the name of `server`; what is registered already stays."""
    from shells.gate.registration import commit_registration

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
        where = gate_paths()
        must_stand(os.getpid(), where.repository.with_name("gate_keys"), given)
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
