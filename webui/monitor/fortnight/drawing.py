"""A server's next fortnight, GPU by GPU: who has reserved what from when to when. Pure.

Everything is placed in percent of the whole width and in rows, so that a drawing fits any window.
A server's word is not believed: what overlaps, ends before it begins or is too much isn't drawn.
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
"""Colours for people; the same person has the same one everywhere."""
_WIDTHS = (("narrow", 280), ("middle", 560), ("broad", 880))
"""Pixels that a drawing has for its days: on a phone, in between, on a desk."""
_LETTER, _EDGES = 7.5, 10
"""Pixels that a letter takes, and those beside a name."""


@dataclass(frozen=True)
class CalendarRow:
    """One GPU, or one instance of a GPU that is shared out (MIG)."""

    index: int
    part: str
    """Empty: the whole GPU."""
    name: str
    uuids: frozenset[str]
    """Whoever reserved one of these has it."""


@dataclass(frozen=True)
class Block:
    """A reservation of neighbouring rows, or a time that is closed."""

    left: float
    width: float
    row: int
    rows: int
    tone: int | None
    """None: closed."""
    label: str
    fits: str
    """From which width on there is room for the label; empty: never."""
    unused: bool
    words: str


@dataclass(frozen=True)
class Fortnight:
    """Everything of one server."""

    days: tuple[Day, ...]
    over: float
    """Percent that lie in the past: up to now."""
    rows: tuple[CalendarRow, ...]
    more_rows: int
    """Rows that aren't drawn."""
    blocks: tuple[Block, ...]
    """What is closed comes last: it is drawn over the reservations that it ends."""
    more_blocks: int
    lines: tuple[BookedTime, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw: nobody has reserved anything."""
        return not self.lines


def fortnight(
    load: ServerLoad,
    people: People,
    window: Window,
    closed: Sequence[Closed] = (),
    most_blocks: int = MOST_BLOCKS,
) -> Fortnight:
    """What `load` says of `window`, and when the server is closed."""
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
    """Neighbours together: the first of them, and how many."""
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
    """The first of `names` for which there is room on a desk, and from which width on."""
    for name in names:
        needed = _LETTER * len(name) + _EDGES
        for word, pixels in _WIDTHS:
            if needed <= pixels * width / 100:
                return name, word
    return "", ""
