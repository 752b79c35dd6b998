"""The file of a server's reservations: what was written is read, what is damaged is said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.load.stream import FORTNIGHT, ReservationsReader
from reconciler.requests import reserving
from reconciler.reservations import book_file
from reconciler.reservations.book import DAY, Book, Reservation
from state.errors import LxcGpuError
from tests.unit.reconciler.views import RESIDENT, VIEW, with_

NOW = 1_800_000_000.0
GPU = "GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01"
MINE = Reservation("r2", "lqchen", (GPU,), NOW, NOW + 3600, NOW)
LATER = replace(MINE, id="r3", begins=NOW + 3600, ends=NOW + 7200, series="s3")
OVER = Reservation("r1", "ann", (GPU, "GPU-2"), NOW - 7200, NOW - 3600, NOW - 9000)
VIEW_OF_BOTH = with_(residents={"lqchen": RESIDENT, "ann": RESIDENT})
BOOK = Book((MINE, LATER), (OVER,), {"ann": {"2026-11": 12.5}}, 3, NOW)


@pytest.fixture(autouse=True)
def a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "RESERVATIONS", tmp_path / "reservations.json")
    return places.RESERVATIONS


def test_what_is_written_is_read() -> None:
    assert book_file.read() == book_file.read_open(NOW) == Book()
    assert book_file.changed() is None
    book_file.write(BOOK)
    assert book_file.read() == BOOK
    assert book_file.read_open(NOW) == replace(BOOK, past=(), sums={})
    before = book_file.changed()
    book_file.write(replace(BOOK, last=4))
    assert book_file.changed() != before


def test_who_only_looks_reads_nothing_of_the_past(a_file: Path) -> None:
    book_file.write(BOOK)
    first = a_file.read_text().splitlines()[0]
    a_file.write_text(f"{first}\nwhat is damaged here")
    assert book_file.read_open(NOW).open == BOOK.open
    with pytest.raises(LxcGpuError, match="Nothing of it is lost"):
        book_file.read()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"r3"', '"r2"'),
        ('"ends":1800003600.0', '"ends":1800003601.0'),  # meets the next one of the same GPU
        ('"ends":1800003600.0', '"ends":1800000000.0'),
        ('"begins":1800000000.0', '"begins":-1'),
        ('"begins":1800000000.0', '"begins":NaN'),
        ('"begins":1800000000.0', '"begins":1e400'),
        ('"begins":1800000000.0', '"begins":true'),
        ('"user":"lqchen"', '"user":7'),
        ('"user":"lqchen"', '"nobody":7'),
        ('"last":3', '"last":"3"'),
        (f'["{GPU}"]', "[]"),
        (f'["{GPU}"]', "7"),
        ('"open"', '"opened"'),
        ('{"last"', '[{"last"'),
        ('{"last"', "[" * 100_000 + '{"last"'),
    ],
)
def test_a_damaged_file_gives_none_and_stays_as_it_is(a_file: Path, old: str, new: str) -> None:
    damaged = book_file.to_json(BOOK).replace(old, new, 1)
    assert damaged != book_file.to_json(BOOK)
    a_file.write_text(damaged)
    for read in (book_file.read, lambda: book_file.read_open(NOW)):
        with pytest.raises(LxcGpuError) as caught:
            read()
        assert caught.value.code == "reservations-damaged"
    assert ReservationsReader().soon(VIEW, NOW) == ()
    assert a_file.read_text() == damaged


@pytest.mark.parametrize("text", ["", "\n", "{}", "null\nnull\n", "\xff", "[]\n[]\n[]\n"])
def test_what_is_no_book_is_damaged(a_file: Path, text: str) -> None:
    a_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(LxcGpuError):
        book_file.read()


def test_the_stream_says_what_is_reserved_and_sees_a_change() -> None:
    reserved = ReservationsReader()
    assert reserved.soon(VIEW, NOW) == ()
    book_file.write(BOOK)
    assert [(r.id, r.ends) for r in reserved.soon(VIEW, NOW)] == [
        ("r2", NOW + 3600), ("r3", NOW + 7200),
    ]  # fmt: skip
    assert [r.id for r in reserved.soon(VIEW, NOW + 3600)] == ["r3"]
    assert [r.id for r in reserved.soon(VIEW, MINE.begins - FORTNIGHT + 1)] == ["r2"]
    book_file.write(Book())
    assert reserved.soon(VIEW, NOW) == ()


def test_after_a_clock_that_was_wrong_everybody_sees_all_again() -> None:
    """bob reserved while it was five days ahead; nobody has changed anything since."""
    wrong, stream = NOW + 5 * DAY, ReservationsReader()
    ahead, made = (
        Book((MINE, LATER), last=3, clock=NOW, sure=NOW, boot=7.0)
        .aged(wrong, 8.0)
        .reserve("ann", ("GPU-2",), ((wrong, wrong + 3600),), wrong)
    )
    book_file.write(ahead)
    assert book_file.read_open(wrong).open == made
    assert [r.id for r in stream.soon(VIEW_OF_BOTH, wrong)] == ["r4"]
    assert [r.id for r in book_file.read_open(NOW).ahead(NOW)] == ["r2", "r3", "r4"]
    assert [r.id for r in stream.soon(VIEW_OF_BOTH, NOW)] == ["r2", "r3", "r4"]
    assert [r.id for r in ReservationsReader().soon(VIEW_OF_BOTH, NOW)] == ["r2", "r3", "r4"]


def test_a_purge_forgets_all_of_a_person() -> None:
    book_file.write(BOOK)
    reserving.forget("ann")
    assert book_file.read() == replace(BOOK, past=(), sums={})
    before = book_file.changed()
    reserving.forget("ann")
    assert book_file.changed() == before


def test_a_damaged_book_holds_up_no_purge(a_file: Path) -> None:
    a_file.write_text("damaged")
    reserving.forget("ann")
    assert a_file.read_text() == "damaged"


def test_the_stream_leaves_out_who_is_not_registered() -> None:
    book_file.write(replace(BOOK, open=(replace(MINE, user="gone"), LATER)))
    assert [r.id for r in ReservationsReader().soon(VIEW, NOW)] == ["r3"]
    assert ReservationsReader().soon(None, NOW) == ()
