"""`lxc-gpu status` away from a server: shows the whole fleet, as the web page knows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shells.commands import fleet_page
from shells.commands.fleet_table import FleetTable, fleet_table
from shells.terminal import Terminal
from state.wire.fleet_status import encode

if TYPE_CHECKING:
    from rich.console import Console

MOST_NOTES = 10
"""Lines that are shown below the table on a terminal."""


def show(page: str | None, *, as_json: bool) -> None:
    """Fetch the status and print it. LxcGpuError if it can't be fetched."""
    status = fleet_page.fetch(fleet_page.where(page, Path.cwd()))
    if as_json:
        click.echo(encode(status).decode())
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        draw(fleet_table(status, console.width), console)
    else:
        Terminal().result(fleet_table(status).text)


def draw(table: FleetTable, console: Console) -> None:
    """Print the table on a terminal, in colours unless NO_COLOR is set."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, title in enumerate(table.titles):
        drawn.add_column(
            Text(title),
            justify="right" if place in table.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in table.rows:
        drawn.add_row(*(Text(cell.text, style=cell.style) for cell in row))
    if table.rows:
        console.print(drawn)
    console.print(Text(table.totals, style="bold"))
    for note in table.notes[:MOST_NOTES]:
        console.print(Text(note, style="yellow"))
    if (more := len(table.notes) - MOST_NOTES) > 0:
        console.print(Text(f"... and {more} more: `lxc-gpu status --json` has them all", "yellow"))
