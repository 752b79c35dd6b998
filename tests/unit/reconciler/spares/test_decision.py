"""Which spare systems are made and thrown away: `reconciler.spares.decision`."""

from __future__ import annotations

from dataclasses import replace

from reconciler.spares.decision import AGAIN, Situation, Todo, readiness, todo, whole
from reconciler.spares.notes import FailedTemplate, Notes, Spare, Stamp
from state import plain

GB = 10**9
ARCHIVE = Stamp(inode=7, size=GB, mtime_ns=1, ctime_ns=2)
TOUCHED = replace(ARCHIVE, ctime_ns=3)
READY = Spare("a" * 16, "debian-12", ARCHIVE, "digest", 3 * GB)
BASE = replace(READY, ident="b" * 16, base=True)
SEEN = Situation(
    {"debian-12": ARCHIVE}, 1, frozenset(), 100 * GB, shares=False, at_once=False, now=10**6
)


def there(*spares: Spare, **other: object) -> Situation:
    return replace(SEEN, there=frozenset(spare.ident for spare in spares), **other)  # type: ignore[arg-type]


def test_one_is_made_of_each_template_and_none_when_it_is_ready() -> None:
    assert todo(Notes(), SEEN) == Todo(make=("debian-12",))
    assert todo(Notes((READY,)), SEEN) == Todo(make=("debian-12",))  # it was taken
    assert not todo(Notes((READY,)), there(READY))
    assert whole(Notes((READY,)), there(READY)) == (READY,)
    assert todo(Notes((READY,)), there(READY, count=2)).make == ("debian-12",)


def test_what_no_note_names_is_thrown_away() -> None:
    """Half a system of who was killed; one of another server's disk."""
    left = replace(there(READY), there=frozenset({READY.ident, "c" * 16, ".new-1", ".trash-2"}))
    assert todo(Notes((READY,)), left) == Todo(remove=(".new-1", ".trash-2", "c" * 16))


def test_another_archive_makes_another_system() -> None:
    """It is compared first: one that was only touched, or copied once more, is the same."""
    changed = there(READY, archives={"debian-12": TOUCHED})
    assert whole(Notes((READY,)), changed) == ()
    assert todo(Notes((READY,)), changed) == Todo(compare=(READY,))
    assert todo(Notes(), changed) == Todo(remove=(READY.ident,), make=("debian-12",))


def test_a_template_that_nobody_uses_keeps_none() -> None:
    other = there(READY, archives={})
    assert todo(Notes((READY,)), other) == Todo(remove=(READY.ident,))
    assert todo(Notes((READY,)), there(READY, count=0)) == Todo(remove=(READY.ident,))
    assert not todo(Notes(), replace(SEEN, count=0))


def test_room_is_left_to_people() -> None:
    """None is made where two more would not fit beside it; it goes where one more wouldn't."""
    known = Notes((READY,))
    assert todo(known, replace(SEEN, free=9 * GB)) == Todo(short=("debian-12",))
    assert not todo(known, replace(SEEN, free=9 * GB))
    assert todo(known, replace(SEEN, free=9 * GB + 1)).make == ("debian-12",)
    assert todo(Notes(), replace(SEEN, free=15 * GB)).short == ("debian-12",)  # of unknown size
    assert not todo(known, there(READY, free=3 * GB))
    assert todo(known, there(READY, free=3 * GB - 1)).remove == (READY.ident,)


def test_what_failed_is_not_tried_at_once_again() -> None:
    failed = Notes(failures={"debian-12": FailedTemplate(ARCHIVE, "no archive", SEEN.now)})
    assert not todo(failed, SEEN)
    assert todo(failed, replace(SEEN, archives={"debian-12": TOUCHED})).make == ("debian-12",)
    assert todo(failed, replace(SEEN, now=SEEN.now + AGAIN)).make == ("debian-12",)
    assert todo(failed, replace(SEEN, now=SEEN.now - 1)).make == ("debian-12",)  # the clock was set


def test_where_blocks_are_shared_a_base_stays() -> None:
    sharing = replace(SEEN, shares=True)
    assert todo(Notes(), sharing) == Todo(bases=("debian-12",), make=("debian-12",))
    both, known = there(READY, BASE, shares=True), Notes((READY, BASE))
    assert not todo(known, both)
    taken = there(BASE, shares=True)
    assert todo(known, taken) == Todo(make=("debian-12",))
    assert todo(known, replace(taken, free=4 * GB)).make == ("debian-12",)  # a copy takes nothing
    snapshots = there(BASE, shares=True, at_once=True)
    assert not todo(known, snapshots)
    assert todo(Notes(), replace(snapshots, there=frozenset())).bases == ("debian-12",)
    assert todo(known, there(READY, BASE)) == Todo(remove=(BASE.ident,))  # another disk now


def test_a_base_outlasts_a_full_disk() -> None:
    """Its blocks are people's as well: little would come free, and the next one takes 3 GB."""
    known, full = Notes((READY, BASE)), there(READY, BASE, shares=True, free=2 * GB)
    assert todo(known, full) == Todo(remove=(READY.ident,))
    assert not todo(known, there(BASE, shares=True, free=2 * GB))
    assert readiness(known, there(BASE, shares=True, free=2 * GB))[0].ready
    touched = there(BASE, shares=True, free=2 * GB, archives={"debian-12": TOUCHED})
    assert todo(known, touched) == Todo(compare=(BASE,))
    other = there(BASE, shares=True, free=2 * GB, archives={})
    assert todo(known, other) == Todo(remove=(BASE.ident,))


def test_it_is_counted_how_many_are_ready() -> None:
    other = replace(READY, ident="c" * 16)

    def counted(*spares: Spare, **other: object) -> str:
        (one,) = readiness(Notes(spares), there(*spares, count=2, **other))
        return one.words().partition(" ready")[0]

    assert counted() == "0 of 2"
    assert counted(READY) == "1 of 2"
    assert counted(READY, other) == "2 of 2"
    assert counted(BASE, shares=True) == "1 of 2", "the next gets a copy"
    assert counted(READY, other, BASE, shares=True) == "2 of 2"
    assert counted(BASE, shares=True, at_once=True) == "2 of 2", "there, each copy takes a moment"


def test_notes_are_read_as_they_were_written() -> None:
    notes = Notes((READY, BASE), {"debian-12": FailedTemplate(ARCHIVE, "no archive", 1.5)})
    assert plain.from_json(Notes, plain.to_json(notes)) == notes
