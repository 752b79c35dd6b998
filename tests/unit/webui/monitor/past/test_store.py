"""The history on disk: restarts, kills, other releases, and every disk that fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.server_load import ReservedGpus
from tests.present import present
from tests.threads import none_to_be_had
from tests.unit.webui.monitor.past.histories import MONDAY, Clock, Opened, ann, asked, hear
from tests.unit.webui.monitor.small_loads import gpu, load
from webui.monitor.past.history import History


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
from tests.unit.webui.monitor.past.histories import *
from tests.unit.webui.monitor.small_loads import gpu
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
