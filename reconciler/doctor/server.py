"""What the checks of a GPU server look at, read once before they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import places
from reconciler.host.config import ServerConfig, read_server_config
from reconciler.host.published import published_view
from state import command
from state.view import View

UNITS = Path("/etc/systemd/system")
COMMAND_LIMIT = 10.0
"""Seconds that a program has that a check runs."""


@dataclass(frozen=True)
class CheckedServer:
    """This server, as it was set up and as the state wants it."""

    config: ServerConfig
    view: View | None
    """None before the first round: then the checks that need it find nothing."""


def this_server() -> CheckedServer:
    """LxcGpuError if this machine is not a GPU server."""
    return CheckedServer(read_server_config(), published_view())


def output(*argv: str | Path, stdin: str | None = None) -> str:
    """What a program prints, whatever its status."""
    return command.run(argv, stdin=stdin, check=False, timeout=COMMAND_LIMIT).stdout


def as_nobody(*argv: str | Path) -> command.Finished:
    """Run `argv` as an account without any rights."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    return command.run([*drop, *argv], check=False, timeout=COMMAND_LIMIT)


def unit_properties(unit: str, *names: str) -> Mapping[str, str]:
    """Some of systemd's properties of a unit; see systemctl(1)."""
    lines = output("systemctl", "show", unit, f"--property={','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def text_of(path: Path | str) -> str | None:
    """What a file says, without blanks around; None if it isn't there."""
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return None


def our_accounts() -> frozenset[str]:
    """The accounts of this server that are ours."""
    from reconciler.kinds.accounts.account_files import GROUP, AccountFiles

    return AccountFiles("", "", text_of(GROUP) or "").members(places.USERS_GROUP) - {""}
