"""The sysadmin's command line: `lxc-gpu COMMAND`. It loads a command's module when it is used."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping

import click

from shells.terminal import Terminal
from state.errors import LxcGpuError

COMMANDS: Mapping[str, str] = {
    "init": "shells.commands.repository:init",
    "check": "shells.commands.repository:check",
    "schema": "shells.commands.repository:schema",
    "version": "shells.commands.repository:version",
    "user": "shells.commands.edits:user",
    "key": "shells.commands.edits:key",
    "server": "shells.commands.edits:server",
    "registration": "shells.commands.edits:registration",
    "announcement": "shells.commands.edits:announcement",
    "plan": "shells.commands.server:plan",
    "reconcile": "shells.commands.server:reconcile",
    "status": "shells.commands.server:status",
    "doctor": "shells.commands.doctor:doctor",
    "suspend": "shells.commands.upkeep:suspend",
    "resume": "shells.commands.upkeep:resume",
    "purge": "shells.commands.upkeep:purge",
    "release": "shells.commands.upkeep:release",
    "watch": "shells.commands.upkeep:watch",
    "adopt": "shells.commands.upkeep:adopt",
}
"""The module of each command."""


class LazyGroup(click.Group):
    """Commands that are imported only when they are run, or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lxc-gpu", prog_name="lxc-gpu", message="%(prog)s %(version)s")
def group() -> None:
    """Manage shared GPU servers by a state repository."""


def main() -> None:
    """Run a command. Errors are printed for people, and the exit status is then 1."""
    try:
        group(prog_name="lxc-gpu")
    except LxcGpuError as error:
        Terminal().error(error)
        if error.details and os.environ.get("LXC_GPU_DEBUG"):
            print(error.details, file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        print(f"lxc-gpu: bug: {error!r}; LXC_GPU_DEBUG=1 shows where.", file=sys.stderr)
        if os.environ.get("LXC_GPU_DEBUG") or not sys.stderr.isatty():
            traceback.print_exc()
        sys.exit(1)
