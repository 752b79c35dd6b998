"""Commands for sysadmins on special occasions: suspend, resume, watch, adopt, release, purge."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.host.in_words import size
from shells.commands.server import require_root
from shells.terminal import Terminal
from state.errors import LxcGpuError
from state.words import plural

if TYPE_CHECKING:
    from reconciler.requests.purge import Remains
    from state.view import View


@click.command()
@click.option("--reason", required=True, help="The reason, shown on the web page and by `status`.")
def suspend(reason: str) -> None:
    """Suspend this server: rounds change nothing until `resume`."""
    from reconciler.host import suspension

    require_root()
    suspension.suspend(" ".join(reason.split())[:500], _who())
    Terminal().result("Suspended: no round changes anything here until `lxc-gpu resume`.")
    Terminal().note("Keys that are removed meanwhile go on working here.")


@click.command()
def resume() -> None:
    """End the suspension of this server, and run a round now."""
    from reconciler.host import suspension
    from state import command

    require_root()
    if not suspension.resume(_who()):
        Terminal().result("This server was not suspended.")
        return
    round_ = ["systemctl", "start", "lxc-gpu-reconcile.service"]
    command.run(round_, check=False, timeout=3600)  # a failed round reports itself
    Terminal().result("Resumed; a round has run: see `lxc-gpu status`.")


@click.command()
def watch() -> None:
    """Watch for drift and put it back, without end (the service lxc-gpu-watch)."""
    from reconciler.rounds.watch import watch as look

    require_root()
    gc.set_threshold(2_000)  # the executable's own is for commands that end soon
    look()


@click.command(hidden=True)
@click.option("--check", is_flag=True, help="Only list accounts, uids and homes of this server "
              "that conflict with the fleet's users.")  # fmt: skip
def adopt(check: bool) -> None:
    """Adapt what an earlier release left to this one (setup/gpu-server does this)."""
    from reconciler.host.config import read_server_config
    from reconciler.rounds.adopt import adopt as adopting

    require_root()
    if check:
        from shells.commands import beforehand

        sys.exit(0 if beforehand.check() else 1)
    for words in adopting(read_server_config()):
        click.echo(words)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def release(ids: tuple[str, ...]) -> None:
    """End reservations of GPUs on this server, of any users."""
    from reconciler.requests import reserving

    require_root()
    for each in reserving.release(None, " ".join(ids)).reservations:
        Terminal().result(f"Released: {each.id} of {each.user}")


@click.command()
@click.argument("user")
@click.option("--archive", type=click.Path(path_type=Path, dir_okay=False),
              help="Pack the container into this file (.tar.zst) first.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Delete without asking.")
def purge(user: str, archive: Path | None, yes: bool) -> None:
    """Delete what a disabled USER left on this server, after listing it."""
    from reconciler.host.published import published_view
    from reconciler.requests import purge as purging

    require_root()
    view = published_view()
    if view is None:
        raise LxcGpuError("no-view", "No round has ended here yet.", "Run `lxc-gpu reconcile`.")
    left = purging.remains(view, user)
    terminal = Terminal()
    if left.nothing:
        terminal.result(f"There is nothing of {user} on {view.server}.")
        return
    _say(view, left, terminal)
    _confirm(user, yes)
    if archive is not None:
        _pack(view, user, archive, terminal)
    purging.purge(view, left)
    terminal.result(f"Deleted what {user} left on {view.server}. The user's numbers stay taken.")


def _say(view: View, left: Remains, terminal: Terminal) -> None:
    terminal.note(f"This deletes, on {view.server}, for good:")
    for folder, taken in left.folders:
        terminal.note(f"  {size(taken):>10}  {folder}")
    if left.snapshots:
        many = plural(left.snapshots, "snapshot")
        terminal.note(f"  {'':>10}  {many} on the same disk, which --archive doesn't keep")
    terminal.note(f"  {'':>10}  the account {left.account}" if left.account else "")
    terminal.note(f"  {'':>10}  the container's ssh host key" if left.host_key else "")
    if left.noted and not left.folders:
        terminal.note(f"  {'':>10}  the note that a container of theirs was made here")
    if left.forwards:
        ports = ", ".join(str(f.port) for f in left.forwards)
        terminal.note(f"  {'':>10}  the mapped ports {ports}, which others may get then")


def _confirm(user: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise LxcGpuError("not-confirmed", "Nothing was deleted.", "In a script, use --yes.")
    if (
        click.prompt(f"Type the name to delete ({user})", err=True, default="", show_default=False)
        != user
    ):
        raise LxcGpuError("not-confirmed", "Nothing was deleted.")


def _pack(view: View, user: str, archive: Path, terminal: Terminal) -> None:
    from reconciler.host.places import rootfs
    from reconciler.requests.purge import archive as pack

    if not rootfs(view, user).is_dir():
        raise LxcGpuError("archive", f"{user} has no container here.", "Leave --archive out.")
    if archive.exists():
        raise LxcGpuError("archive", f"{archive} exists already.", "Choose another name.")
    terminal.note(f"packing the container into {archive} ...")
    pack(view, user, archive)
    terminal.note(f"  {size(archive.stat().st_size):>10}  {archive}")


def _who() -> str:
    """The account that used sudo, or else root."""
    return os.environ.get("SUDO_USER") or "root"
