"""Makes the table of the fleet that `lxc-gpu status` shows away from a server. Pure.

Columns are shown as far as there is room, the more useful ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.host.in_words import columns, since
from state.wire.fleet_status import FleetStatus, ServerStatus
from state.wire.reserved import reserved_gpus
from state.wire.server_load import ServerLoad
from state.words import plural

GIB = 1 << 30
GAP = 2
"""Blanks between two columns."""
LEAST = 20
"""The room for names, in letters, that has to be left before memory and less useful columns are
shown."""
_STYLES = {
    "converged": "green",
    "behind": "yellow",
    "waiting": "dim",
    "problems": "bold red",
    "suspended": "yellow",
    "unreachable": "bold red",
}
_WORDS = {"behind": "catching up", "problems": "needs a look", "waiting": "not asked yet"}
NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    text: str
    style: str = ""
    """The style, as rich spells it."""


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[ServerStatus, float], Cell]
    rank: int
    """If there isn't room for all columns, those with the highest number are left out first."""
    right: bool = False


@dataclass(frozen=True)
class FleetTable:
    """The table: titles, columns that are aligned right, rows, and a line below."""

    titles: tuple[str, ...]
    right: tuple[int, ...]
    rows: tuple[tuple[Cell, ...], ...]
    totals: str
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The table as plain lines."""
        rows = [self.titles, *([cell.text for cell in row] for row in self.rows)]
        table = columns(rows, right=self.right) if self.rows else []
        return "\n".join([*table, self.totals, *self.notes])


def fleet_table(status: FleetStatus, width: int | None = None) -> FleetTable:
    """The table, at most `width` letters wide; None: everything is shown."""
    made = {c: [c.cell(server, status.at) for server in status.servers] for c in _COLUMNS}
    shown = [column for column in _COLUMNS if any(c.text != NOTHING for c in made[column])]
    while width is not None and len(shown) > 1 and _width(shown, made) > width:
        shown.remove(max(shown, key=lambda column: column.rank))
    cells = [_fitting(column, shown, made, width) for column in shown]
    return FleetTable(
        titles=tuple(column.title for column in shown),
        right=tuple(place for place, column in enumerate(shown) if column.right),
        rows=tuple(zip(*cells, strict=True)),
        totals=_totals(status),
        notes=_notes(status),
    )


def _width(shown: Sequence[_Column], made: dict[_Column, list[Cell]]) -> int:
    """The least width of these columns, in letters."""
    return sum(_least(column, made[column]) for column in shown) + GAP * (len(shown) - 1)


def _least(column: _Column, cells: Sequence[Cell]) -> int:
    needed = max([len(column.title), *(len(cell.text) for cell in cells)])
    return min(needed, LEAST) if column is _HOLDERS else needed


def _fitting(
    column: _Column, shown: Sequence[_Column], made: dict[_Column, list[Cell]], width: int | None
) -> list[Cell]:
    """The cells of a column. Names are cut to the room that the other columns leave."""
    if width is None or column is not _HOLDERS:
        return made[column]
    room = width - _width(shown, made) + _least(column, made[column])
    return [Cell(_cut(cell.text, room), cell.style) for cell in made[column]]


def _cut(names: str, room: int) -> str:
    """Join as many whole names as fit."""
    if len(names) <= room:
        return names
    whole, comma, _ = f"{names} "[: room + 1].rpartition(", ")
    if len(whole) + len(", …") > room:
        whole, comma, _ = whole.rpartition(", ")
    return f"{whole}{comma}…" if comma else f"{names[: room - 1]}…"


def _state(server: ServerStatus, now: float) -> Cell:
    if server.silent_since is not None:
        return Cell(f"silent {since(server.silent_since, now)}", "bold red")
    word = _WORDS.get(server.condition, server.condition)
    return Cell(word, _STYLES[server.condition])


def _of_load(words: Callable[[ServerLoad], str | Cell]) -> Callable[[ServerStatus, float], Cell]:
    """A cell for a server's load, if it is known now."""

    def cell(server: ServerStatus, now: float) -> Cell:
        if server.live is None:
            return Cell(NOTHING, "dim")
        said = words(server.live)
        return said if isinstance(said, Cell) else Cell(said)

    return cell


def _free(load: ServerLoad) -> str | Cell:
    if not load.gpus:
        return Cell("?", "yellow") if load.gpu_problem else NOTHING
    free = len(load.free_gpus)
    return Cell(f"{free}/{len(load.gpus)}", "bold green" if free else "")


def _reserved(load: ServerLoad) -> str | Cell:
    """How many GPUs are reserved now, and how many of those are unused."""
    reserved = reserved_gpus(load)
    unused = sum(gpu.free for gpu in reserved)
    if not unused:
        return str(len(reserved)) if reserved else NOTHING
    return Cell(f"{len(reserved)}, {unused} idle", "yellow")


def _gpu_use(load: ServerLoad) -> str:
    used = load.gpu_utilisation
    return NOTHING if used is None else f"{used:.0f} %"


def _memory(load: ServerLoad) -> str:
    return f"{load.memory.used / GIB:.0f}/{load.memory.total / GIB:.0f} GiB"


def _driver(load: ServerLoad) -> str | Cell:
    driver = load.driver
    if driver.in_step:
        return driver.loaded or NOTHING
    return Cell(f"{driver.loaded or 'none'}, installed {driver.installed or 'none'}", "yellow")


def _holders(load: ServerLoad) -> str:
    """The users and how many GPUs each holds, the most first."""
    held: dict[str, int] = {}
    for gpu in load.gpus:
        for user in gpu.holders:
            held[user] = held.get(user, 0) + 1
    by_number = sorted(held.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{user} {number}" for user, number in by_number) or NOTHING


_HOLDERS = _Column("held by", _of_load(_holders), 3)
_COLUMNS = (
    _Column("server", lambda server, _: Cell(server.name, "bold"), 0),
    _Column("state", _state, 1),
    _Column("GPUs free", _of_load(_free), 2, right=True),
    _Column("reserved", _of_load(_reserved), 4),
    _Column("in use", _of_load(_gpu_use), 5, right=True),
    _Column("CPU", _of_load(lambda load: f"{load.cpu.percent:.0f} %"), 6, right=True),
    _Column("memory", _of_load(_memory), 7, right=True),
    _HOLDERS,
    _Column("driver", _of_load(_driver), 8),
    _Column("revision", lambda server, _: Cell(server.revision[:10] or NOTHING), 9),
)


def _totals(status: FleetStatus) -> str:
    if not status.servers:
        return "There are no servers yet."
    heard = [server for server in status.servers if server.live is not None]
    gpus = sum(len(server.live.gpus) for server in heard if server.live)
    free = sum(len(server.live.free_gpus) for server in heard if server.live)
    reserved = sum(len(reserved_gpus(server.live)) for server in heard if server.live)
    words = f"{free} of {plural(gpus, 'GPU')} free" if gpus else "no GPUs"
    words += f" on {plural(len(heard), 'server')}"
    if reserved:
        words += f", {reserved} reserved"
    silent = sorted(s.silent_since for s in status.servers if s.silent_since is not None)
    if silent:
        words += f", {len(silent)} silent {since(silent[0], status.at)}"
    unheard = len(status.servers) - len(heard) - len(silent)
    return f"{words}, {unheard} not heard yet" if unheard else words


def _notes(status: FleetStatus) -> tuple[str, ...]:
    """Lines about what a sysadmin should know."""
    found = [f"This may be out of date: {status.stale}"] if status.stale else []
    for server in status.servers:
        if server.silent_since is not None or server.condition == "unreachable":
            found.append(f"{server.name}: {server.why or 'it sends no load'}")
        elif server.condition == "suspended":
            found.append(f"{server.name} is suspended: {server.suspended}")
        elif server.condition == "problems":
            number = server.failures
            found.append(
                f"{server.name}: {plural(number, 'thing')} could not be put right"
                if number
                else f"{server.name} refuses the newest revision: {server.refused}"
            )
    return tuple(found)
