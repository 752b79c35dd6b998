"""The commands of `lxc-gpu COMMAND`. A command's module is loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

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
