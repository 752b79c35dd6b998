"""The history: sums, gaps, restarts, and every disk that doesn't do as it should."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from state.errors import LxcGpuError
from state.wire.server_load import ReservedGpus, UserLoad
from tests.present import present
from tests.threads import none_to_be_had
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.past import ledger
from webui.monitor.past.history import History
from webui.monitor.past.records import Used

MONDAY = 1_795_392_000.0  # 2026-11-23, midnight UTC: the week 2026-W48 begins


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(MONDAY)


Opened = Callable[..., History]


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    """Begins a history; each is closed when the test ends."""
    with ExitStack() as closed:

        def opened(path: str = "history.db", **settings: Any) -> History:
            history = History(tmp_path / path, **{"clock": clock, **settings})
            closed.callback(history.stop)
            return history

        yield opened


@pytest.fixture
def history(opened: Opened) -> History:
    return opened()


def asked(path: Path, words: str) -> list[Any]:
    """What another program reads; `with` alone doesn't close a connection."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(words).fetchall()


def hear(
    history: History, clock: Clock, seconds: float, *gpus: Any, server: str = "gpu17", **more: Any
) -> None:
    """A load each five seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5
        history.note(server, load(server, *gpus, **more), clock.now)


def ann(history: History, week: str) -> Used:
    (found,) = [used for used in history.used(week) if used.user == "ann"]
    return found


def test_hours_of_a_week(history: History, clock: Clock) -> None:
    users = (UserLoad("ann", 4.0, 2 * GIB, 1),)
    hear(history, clock, 3605, gpu(0, "ann", busy=50.0), gpu(1), users=users)
    history.flush()
    used = ann(history, "2026-W48")
    assert (used.server, used.week) == ("gpu17", "2026-W48")
    assert used.gpu_hours == pytest.approx(1)
    assert used.gpu_busy_hours == pytest.approx(0.5)
    assert used.gpu_memory_gib_hours == pytest.approx(10)
    assert used.memory_gib_hours == pytest.approx(2)
    assert used.cpu_hours == pytest.approx(4)
    (heard,) = history.heard("2026-W48")
    assert heard.hours == pytest.approx(1)
    assert heard.gpu_hours == pytest.approx(2)
    assert history.weeks() == ("2026-W48",)
    assert history.used_by("ann") == (used,)
    assert history.used_by("bob") == ()


def test_a_week_ends_at_midnight_utc(history: History, clock: Clock) -> None:
    clock.now = MONDAY - 60
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    assert history.weeks() == ("2026-W48", "2026-W47")
    assert ann(history, "2026-W47").gpu_hours * 3600 == pytest.approx(50)
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(65)
    assert [used.week for used in history.used_by("ann", weeks=1)] == ["2026-W48"]


def test_weeks_go_on_over_a_year_s_end(history: History, clock: Clock) -> None:
    clock.now = MONDAY + 6 * 7 * 86_400 - 60  # 2027-01-03, a Sunday, 23:59 UTC
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    assert history.weeks() == ("2027-W01", "2026-W53")
    assert ann(history, "2026-W53").gpu_hours * 3600 == pytest.approx(50)


def test_no_week_is_longer_where_clocks_are_put_back(
    history: History, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        clock.now = MONDAY - 5 * 7 * 86_400 - 120  # before the week that ends on 2026-10-25
        for _ in range(9 * 24 * 60):
            clock.now += 60
            history.note("gpu17", load("gpu17", gpu(0, "ann"), interval=60.0), clock.now)
        history.flush()
        assert history.heard("2026-W43")[0].hours == pytest.approx(168)
        assert ann(history, "2026-W43").gpu_hours == pytest.approx(168)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_lines_are_read_week_by_week_and_never_in_part(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    clock.now = MONDAY - 60
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    lines = history.lines(history.weeks())
    assert [each.week for each in next(lines)] == ["2026-W48"]
    (tmp_path / "history.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(LxcGpuError):
        next(lines)


def test_an_outage_is_a_gap_and_no_zero(history: History, clock: Clock) -> None:
    hear(history, clock, 300, gpu(0, "ann"))
    clock.now += 600
    hear(history, clock, 300, gpu(0, "ann"))
    history.flush()
    points = history.points("gpu17", clock.now - 1200, 60)
    assert len(points) == 20
    assert [point.cpu for point in points[-4:]] == pytest.approx([20] * 4)
    assert all(point.cpu is None and point.held is None for point in points[6:14])
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(590)


@pytest.mark.parametrize(("since", "step", "count"), [(3600, 60, 60), (86_400, 600, 144)])
def test_a_plot_has_a_point_for_each_step(
    history: History, clock: Clock, since: int, step: int, count: int
) -> None:
    clock.now += 7.5
    hear(history, clock, 60, gpu(0, "ann"))
    for server in ("gpu17", "nobody"):
        points = history.points(server, clock.now - since, step)
        assert len(points) == count
        assert {b.at - a.at for a, b in itertools.pairwise(points)} == {step}
    last = history.points("gpu17", clock.now - since, step)[-1]
    assert [last.cpu, last.memory] == pytest.approx([20, 25])
    assert [last.gpu, last.held] == pytest.approx([50, 100])


def test_plots_go_back_two_days_and_no_further(history: History, clock: Clock) -> None:
    for _ in range(60):
        hear(history, clock, 60, gpu(0, "ann"))
        clock.now += 3540
    points = history.points("gpu17", clock.now - 40 * 86_400, 60)
    assert len(points) == 2880
    history.flush()
    hours = history.points("gpu17", clock.now - 2 * 86_400, 3600)
    assert [point.cpu is None for point in hours] == [False] * 47 + [True]
    assert history.points("gpu17", clock.now - 3 * 86_400, 3600)[0].cpu is None


def test_a_clock_that_was_years_ahead_does_no_lasting_harm(
    history: History, clock: Clock, opened: Opened
) -> None:
    hear(history, clock, 65, gpu(0, "ann"))
    clock.now += 4 * 365 * 86_400
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    clock.now = MONDAY + 300
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    again = opened()
    again.flush()
    for each in (history, again):
        assert each.points("gpu17", clock.now - 60, 60)[-1].cpu == pytest.approx(20)
        assert each.weeks() == ("2026-W48",)
    hear(again, clock, 65, gpu(0, "ann"))
    assert again.points("gpu17", clock.now - 60, 60)[-1].cpu == pytest.approx(20)


def test_a_restart_loses_nothing(history: History, clock: Clock, opened: Opened) -> None:
    hear(history, clock, 90, gpu(0, "ann"))
    history.flush()
    again = opened()
    again.flush()
    hear(again, clock, 30, gpu(0, "ann"))
    again.flush()
    assert ann(again, "2026-W48").gpu_hours * 3600 == pytest.approx(85 + 25)
    assert [p.cpu for p in again.points("gpu17", MONDAY - 1, 60)] == pytest.approx([20] * 3)
    third = opened()
    third.flush()
    assert third.all_points(MONDAY - 1, 60) == again.all_points(MONDAY - 1, 60)


def test_a_kill_loses_what_was_not_written_and_no_more(tmp_path: Path, opened: Opened) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from tests.unit.webui.monitor.past.test_history import *
clock = Clock(MONDAY)
history = History(Path({str(tmp_path)!r}) / "history.db", clock=clock)
while True:
    hear(history, clock, 60, gpu(0, "ann"))
    history.flush()
    print(int(clock.now - MONDAY), flush=True)
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for _ in range(20):
        written = int(running.stdout.readline())
    os.kill(running.pid, signal.SIGKILL)
    written = [written, *map(int, running.communicate()[0].split())][-1]
    history = opened(clock=Clock(MONDAY + written + 60))
    history.flush()
    assert history.problem is None
    kept = ann(history, "2026-W48").gpu_hours * 3600
    assert kept in (pytest.approx(written - 5), pytest.approx(written + 55))


def test_a_file_that_is_no_database_is_put_aside(
    history: History, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "history.db").write_text("my shopping list\n" * 100)
    hear(history, clock, 60, gpu(0, "ann"))
    history.flush()
    assert history.problem is None
    assert ann(history, "2026-W48").gpu_hours > 0
    (aside,) = tmp_path.glob("history.db.damaged-*")
    assert aside.read_text().startswith("my shopping list")
    assert "event=use-damaged" in caplog.text
    assert str(aside) in caplog.text


def test_a_database_that_breaks_while_it_is_open(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    hear(history, clock, 3000, gpu(0, "ann"))
    history.flush()
    asked(tmp_path / "history.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    size = (tmp_path / "history.db").stat().st_size
    with (tmp_path / "history.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    assert history.used("2026-W48") == ()
    assert history.problem is not None
    assert history.problem.code == "monitor-history-damaged"
    for _ in range(2):
        hear(history, clock, 60, gpu(0, "ann"))
        history.flush()
    assert history.problem is None
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(120)
    assert history.points("gpu17", MONDAY - 1, 60)[10].cpu == pytest.approx(20)


def test_a_disk_that_damages_every_database_is_not_filled_with_them(
    history: History, clock: Clock, tmp_path: Path, opened: Opened
) -> None:
    for _ in range(3):
        hear(history, clock, 60, gpu(0, "ann"))
        history.stop()
        (tmp_path / "history.db").write_text("no" * 1000)
        history = opened()
        history.flush()
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    assert history.problem is not None
    assert history.problem.code == "monitor-history-damaged"
    assert history.used("2026-W48") == ()


def test_a_full_disk_ends_and_nothing_is_lost(
    history: History, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    store = present(history._store)
    store._database.execute("PRAGMA max_page_count = 1")  # what SQLite does when the disk is full
    for n in range(50):
        hear(history, clock, 60, gpu(0, *(f"user{n}-{k}" for k in range(20))), gpu(1, "ann"))
        history.flush()
    assert history.problem is not None
    assert "full" in history.problem.message
    assert caplog.text.count("event=use-failed") == 1
    assert history.points("gpu17", clock.now - 600, 60)[-1].cpu is not None
    store._database.execute("PRAGMA max_page_count = 1000000")
    history.flush()
    assert history.problem is None
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(60 + 3000)


def test_a_folder_that_is_not_there(clock: Clock, tmp_path: Path, opened: Opened) -> None:
    history = opened("missing/history.db")
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    assert history.problem is not None
    assert str(tmp_path / "missing") in history.problem.message + history.problem.hint
    assert history.weeks() == () == history.used("2026-W48")
    (tmp_path / "missing").mkdir()
    history.flush()
    assert history.problem is None
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(60)


def test_a_file_that_is_moved_away_is_begun_anew(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    (tmp_path / "history.db").rename(tmp_path / "elsewhere.db")
    hear(history, clock, 60, gpu(0, "ann"))
    history.flush()
    assert history.problem is None
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(60)


def test_a_newer_one_is_left_as_it_is(history: History, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    assert history.problem is not None
    assert history.problem.code == "monitor-history-newer"
    assert path.read_bytes() == before


BEFORE_RESERVATIONS = """
CREATE TABLE minutes (server TEXT, minute INTEGER, seconds REAL NOT NULL, cpu REAL NOT NULL,
    memory REAL NOT NULL, gpu_seconds REAL NOT NULL, gpu REAL NOT NULL, held_seconds REAL NOT NULL,
    held REAL NOT NULL, PRIMARY KEY (minute, server)) WITHOUT ROWID;
CREATE TABLE use (day TEXT, server TEXT, user TEXT, gpu REAL NOT NULL, gpu_busy REAL NOT NULL,
    gpu_memory REAL NOT NULL, memory REAL NOT NULL, cpu REAL NOT NULL,
    PRIMARY KEY (day, server, user)) WITHOUT ROWID;
CREATE TABLE heard (day TEXT, server TEXT, seconds REAL NOT NULL, gpus REAL NOT NULL,
    PRIMARY KEY (day, server)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
ITS_WORD = """
INSERT INTO use (day, server, user, gpu, gpu_busy, gpu_memory, memory, cpu)
    VALUES ('2026-11-23', 'gpu17', 'ann', 3600, 1, 1, 1, 1)
    ON CONFLICT DO UPDATE SET gpu = gpu + excluded.gpu
"""
"""What an lxc-gpu wrote that knew of no reservations."""
ANNS = ReservedGpus("ann-1", "ann", ("GPU-0", "GPU-1"), 0.0, 10.0)


@pytest.mark.parametrize("killed", [False, True])
def test_what_an_older_one_kept_is_taken_on_and_it_can_come_back(
    history: History, clock: Clock, tmp_path: Path, killed: bool, opened: Opened
) -> None:
    with sqlite3.connect(tmp_path / "history.db") as older:
        older.executescript(BEFORE_RESERVATIONS)
        older.execute(ITS_WORD)
        if killed:  # between two columns
            older.execute("ALTER TABLE use ADD COLUMN reserved REAL NOT NULL DEFAULT 0")
    hear(history, clock, 7205, gpu(0, "ann"), gpu(1), at=5.0, reservations=(ANNS,))
    history.flush()
    used = ann(history, "2026-W48")
    assert used.gpu_hours == pytest.approx(3)
    assert used.gpu_reserved_hours == pytest.approx(4)
    assert used.gpu_reserved_unused_hours == pytest.approx(2)
    older.execute(ITS_WORD)
    older.commit()
    older.close()
    again = opened()
    again.flush()
    assert ann(again, "2026-W48").gpu_hours == pytest.approx(4)
    assert ann(again, "2026-W48").gpu_reserved_hours == pytest.approx(4)


def test_an_older_one_goes_on_with_what_this_one_made(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    with sqlite3.connect(tmp_path / "history.db") as older:
        assert older.execute("PRAGMA user_version").fetchone() == (1,)  # it looks at nothing else
        older.execute(ITS_WORD.replace("'ann'", "'bob'"))
    older.close()
    hear(history, clock, 60, gpu(0, "ann"))
    history.flush()
    assert {each.user for each in history.used("2026-W48")} == {"ann", "bob"}


def test_groups_are_kept_and_a_past_week_stays_as_it_was(
    history: History, clock: Clock, opened: Opened
) -> None:
    history.belong({"ann": ("Vision",), "bob": ()})
    hear(history, clock, 65, gpu(0, "ann"), gpu(1, "bob"))
    history.flush()
    clock.now += 7 * 86_400
    history.belong({"bob": ("Vision",)})  # ann has left: nothing is learnt of her any more
    history.flush()
    again = opened(groups=("Vision",))
    again.flush()
    kept = again.belonging()
    assert [kept.of("ann", week) for week in ("2026-W48", "2026-W49")] == [("Vision",)] * 2
    assert [kept.of("bob", week) for week in ("2026-W48", "2026-W49")] == [(), ("Vision",)]
    hear(again, clock, 65, gpu(0, "ann", "bob"), gpu(1, "chi"))
    totals = again.group_totals()["gpu17"]
    assert (totals["Vision"].gpu, totals["others"].gpu) == (60, 60)


def test_the_same_groups_each_hour_are_written_once(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    for _ in range(5):
        history.belong({"ann": ("Vision",)})
        history.flush()
        clock.now += 7 * 86_400
    rows = asked(tmp_path / "history.db", "SELECT * FROM belongs")
    assert rows == [("ann", "2026-W48", '["Vision"]')]


def test_groups_that_could_not_be_written_are_written_later(tmp_path: Path, opened: Opened) -> None:
    history = opened("missing/history.db")
    history.belong({"ann": ("Vision",)})
    history.flush()
    (tmp_path / "missing").mkdir()
    history.flush()
    assert history.belonging().of("ann", "2026-W48") == ("Vision",)


def test_until_groups_are_known_nobody_counts_as_one_of_the_others(
    clock: Clock, opened: Opened
) -> None:
    history = opened(groups=("Vision",))
    hear(history, clock, 65, gpu(0, "ann"))
    assert history.group_totals() == {}
    history.belong({"ann": ("Vision", "no longer configured")})
    hear(history, clock, 60, gpu(0, "ann"))
    assert set(history.group_totals()["gpu17"]) == {"Vision"}


def test_groups_are_forgotten_with_the_last_use(clock: Clock, opened: Opened) -> None:
    history = opened(keep_use_days=7)
    history.belong({"ann": ("Vision",), "bob": ("Vision",)})
    hear(history, clock, 65, gpu(0, "ann"), gpu(1, "bob"))
    history.flush()
    for _ in range(3):
        clock.now += 7 * 86_400
        hear(history, clock, 65, gpu(0, "bob"))
        history.belong({"bob": (f"group of {clock.now:.0f}",)})
        history.flush()
    history._forget()
    history.flush()
    assert set(history.belonging().since) == {"bob"}
    assert [week for week, _ in history.belonging().since["bob"]] == ["2026-W50", "2026-W51"]


def test_what_is_old_is_deleted_and_no_week_in_part(
    tmp_path: Path, clock: Clock, opened: Opened
) -> None:
    history = opened(keep_use_days=10)
    for _ in range(21):
        hear(history, clock, 60, gpu(0, "ann"))
        clock.now += 86_400 - 60
    history.flush()
    clock.now += 2 * 86_400
    history._forget()
    history.flush()
    assert history.weeks() == ("2026-W50", "2026-W49")
    assert ann(history, "2026-W49").gpu_hours * 3600 == pytest.approx(7 * 55)
    assert asked(tmp_path / "history.db", "SELECT count(*) FROM minutes") == [(0,)]


def test_a_server_that_makes_names_up_fills_nothing(
    history: History, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_USERS", 10)
    for n in range(100):
        hear(history, clock, 10, users=(UserLoad(f"user{n}", 1.0, 1, 1),))
    hear(history, clock, 60, gpu(0, "ann"), server="gpu18")
    history.flush()
    assert len([u for u in history.used("2026-W48") if u.server == "gpu17"]) == 10
    assert len(history.totals()["gpu17"]) == 10
    assert ann(history, "2026-W48").server == "gpu18"


@pytest.mark.parametrize("week", ["", "2026-W99", "2026-48", "../../x", "9999-W53", "0000-W01"])
def test_no_week(history: History, week: str) -> None:
    history.flush()
    assert history.used(week) == () == history.heard(week)


def test_names_are_data(history: History, clock: Clock) -> None:
    name = "Robert'); DROP TABLE use;--"
    hear(history, clock, 60, gpu(0, name))
    history.flush()
    (used,) = history.used("2026-W48")
    assert used.user == name


def test_it_is_written_at_the_end(tmp_path: Path, opened: Opened) -> None:
    now = time.time()
    history = opened(clock=time.time)
    history.watch()
    history.note("gpu17", load("gpu17", gpu(0, "ann")), now - 5)
    history.note("gpu17", load("gpu17", gpu(0, "ann")), now)
    history.stop()
    rows = asked(tmp_path / "history.db", "SELECT gpu FROM use")
    assert rows == [(5.0,)] or rows == [(pytest.approx(5.0),)]


def test_what_only_a_reader_finds_damaged_is_put_aside_too(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    hear(history, clock, 600, gpu(0, "ann"))
    history.flush()
    with sqlite3.connect(tmp_path / "history.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        asked = "SELECT rootpage FROM sqlite_schema WHERE name = 'heard'"
        (page,) = database.execute(asked).fetchone()
    database.close()
    with (tmp_path / "history.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    history.weeks()
    hear(history, clock, 60, gpu(0, "ann"))
    history.flush()
    assert history.problem is None
    assert history.weeks() == ("2026-W48",)
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_it_is_written_at_the_end_even_if_no_thread_could_begin(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    with none_to_be_had(), pytest.raises(LxcGpuError):
        history.watch()
    hear(history, clock, 60, gpu(0, "ann"))
    history.stop()
    rows = asked(tmp_path / "history.db", "SELECT user FROM use")
    assert rows == [("ann",)]
