"""The drawing of a server's next fortnight: reservations as blocks, a row for each GPU. Pure.

Positions are in percent of the width and in rows, so that the drawing fits any window. Servers
aren't trusted: reservations that overlap or end before they begin aren't drawn, nor too many of
them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from state.wire.server_load import GpuLoad, ServerLoad
from webui.monitor.fortnight.booked_times import BookedTime, lines
from webui.monitor.fortnight.days import Day, Window
from webui.monitor.shown.closed import Closed
from webui.monitor.shown.people import People

MOST_ROWS = 128
MOST_BLOCKS = 600
TONES = 3
"""Colours for people. A person has the same one everywhere."""
_WIDTHS = (("narrow", 280), ("middle", 560), ("broad", 880))
"""The drawing's width for the days in pixels: on a phone, in between, on a desk."""
_LETTER, _EDGES = 7.5, 10
"""The width of a letter, and of the margins of a label, in pixels."""


@dataclass(frozen=True)
class CalendarRow:
    """One GPU, or one MIG instance of a GPU."""

    index: int
    part: str
    """The name of the MIG instance; empty for a whole GPU."""
    name: str
    uuids: frozenset[str]
    """A reservation of any of these UUIDs takes this row."""


@dataclass(frozen=True)
class Block:
    """A reservation of neighbouring rows, or a time for which the server is closed."""

    left: float
    width: float
    row: int
    rows: int
    tone: int | None
    """The colour; None: closed."""
    label: str
    fits: str
    """The smallest of `_WIDTHS` with room for the label; empty: none of them."""
    unused: bool
    words: str


@dataclass(frozen=True)
class Fortnight:
    """The whole drawing of one server."""

    days: tuple[Day, ...]
    over: float
    """The percentage of the width that is over."""
    rows: tuple[CalendarRow, ...]
    more_rows: int
    """The number of rows that aren't drawn."""
    blocks: tuple[Block, ...]
    """Times that are closed come last, so that they are drawn over reservations."""
    more_blocks: int
    lines: tuple[BookedTime, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.lines


def fortnight(
    load: ServerLoad,
    people: People,
    window: Window,
    closed: Sequence[Closed] = (),
    most_blocks: int = MOST_BLOCKS,
) -> Fortnight:
    """The drawing of the reservations in `load`, and of the times that are closed."""
    rows = tuple(_rows(load.gpus))
    shown = rows[:MOST_ROWS]
    spoken = lines(load, people, window, closed)
    blocks = list(_blocks([line for line in spoken if line.person], shown, window))
    shut = [line for line in spoken if line.person is None and shown]
    return Fortnight(
        days=window.days,
        over=window.place(window.now),
        rows=shown,
        more_rows=len(rows) - len(shown),
        blocks=(*blocks[:most_blocks], *(_block(each, 0, len(shown), window) for each in shut)),
        more_blocks=max(0, len(blocks) - most_blocks),
        lines=spoken,
    )


def _rows(gpus: Iterable[GpuLoad]) -> Iterator[CalendarRow]:
    for gpu in gpus:
        if not gpu.mig:
            yield CalendarRow(gpu.index, "", gpu.name, frozenset({gpu.uuid}))
        for part in gpu.mig:
            yield CalendarRow(gpu.index, part.name, gpu.name, frozenset({gpu.uuid, part.uuid}))


def _blocks(
    spoken: Iterable[BookedTime], rows: Sequence[CalendarRow], window: Window
) -> Iterator[Block]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for uuid in row.uuids:
            places.setdefault(uuid, []).append(place)
    taken_until = [0.0] * len(rows)
    for line in spoken:
        wanted = sorted({place for uuid in line.uuids for place in places.get(uuid, ())})
        mine = [place for place in wanted if taken_until[place] <= line.begins]
        for place in mine:
            taken_until[place] = line.ends
        for first, count in _runs(mine):
            yield _block(line, first, count, window)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers: the first number, and how many."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run[0], len(run)
            run = []
        run.append(number)
    if run:
        yield run[0], len(run)


def _block(line: BookedTime, row: int, rows: int, window: Window) -> Block:
    left, who = window.place(line.begins), line.person
    width = round(window.place(line.ends) - left, 3)
    label, fits = _label((who.name, who.user) if who else ("Maintenance", "closed"), width)
    tone = None if who is None else zlib.crc32(who.user.encode()) % TONES
    return Block(left, width, row, rows, tone, label, fits, line.unused, line.words)


def _label(names: Sequence[str], width: float) -> tuple[str, str]:
    """The first of `names` that fits on a desk, and the smallest width on which it fits."""
    for name in names:
        needed = _LETTER * len(name) + _EDGES
        for word, pixels in _WIDTHS:
            if needed <= pixels * width / 100:
                return name, word
    return "", ""
