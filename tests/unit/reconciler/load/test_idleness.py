"""For how long nobody used a container: what looks add up to, and what spoils no count."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.host import boot, places
from reconciler.host.boot import boot_clock, boot_id
from reconciler.load import idleness
from reconciler.load.idleness import (
    BUSY,
    DAY,
    LONGEST_GAP,
    Activity,
    IdleRecord,
    Unused,
    idle_containers,
    judge,
    read_record,
    unused_for,
    write_record,
)
from tests.unit.reconciler.views import RESIDENT, with_

STEP = 600.0
QUIET = Activity("start-1", gpu=False, login=False, cpu=0.0)


def looks(*sights: Activity, step: float = STEP, since: float = 1000.0) -> Unused:
    """What is known of lqchen after these looks, one after the other."""
    record = IdleRecord()
    for number, sight in enumerate(sights):
        record = judge(record, "boot", since + number * step, {"lqchen": sight})
    return record.containers["lqchen"]


class TestAdding:
    def test_the_first_look_is_the_beginning(self) -> None:
        assert looks(QUIET).seconds == 0

    def test_quiet_looks_add_up(self) -> None:
        assert looks(*[QUIET] * 10).seconds == 9 * STEP

    @pytest.mark.parametrize(
        "used",
        [
            replace(QUIET, gpu=True),
            replace(QUIET, login=True),
            replace(QUIET, sessions=7),
            replace(QUIET, cpu=2 * BUSY * STEP),
        ],
    )
    def test_any_use_begins_anew(self, used: Activity) -> None:
        assert looks(*[QUIET] * 5, used).seconds == 0
        after = replace(used, gpu=False, login=False)
        assert looks(*[QUIET] * 5, used, after, after).seconds == 2 * STEP

    def test_another_start_begins_anew(self) -> None:
        assert looks(*[QUIET] * 5, replace(QUIET, start="start-2")).seconds == 0

    def test_who_is_stopped_is_forgotten(self) -> None:
        record = judge(IdleRecord(), "boot", 0.0, {"lqchen": QUIET, "ann": QUIET})
        assert list(judge(record, "boot", STEP, {"ann": QUIET}).containers) == ["ann"]


class TestWhatIsNotKnown:
    """Unknown is not idle."""

    def test_a_silent_driver(self) -> None:
        silent = replace(QUIET, gpu=None)
        known = looks(QUIET, QUIET, silent, silent, QUIET)
        assert (known.gpu, known.login, known.seconds) == (2 * STEP, 4 * STEP, 2 * STEP)

    def test_time_without_looks(self) -> None:
        assert looks(QUIET, QUIET, step=30 * DAY).seconds == LONGEST_GAP


class TestCpu:
    def test_housekeeping_is_no_use(self) -> None:
        tidy = [replace(QUIET, cpu=0.3 * BUSY * STEP * n) for n in range(10)]
        assert looks(*tidy).seconds == 9 * STEP

    def test_a_moment_between_two_looks_is_no_use(self) -> None:
        """Looks that follow each other within seconds are measured together."""
        record = judge(IdleRecord(), "boot", 0.0, {"a": QUIET})
        record = judge(record, "boot", 5.0, {"a": replace(QUIET, cpu=3.0)})
        assert record.containers["a"].cpu == 5.0
        record = judge(record, "boot", 600.0, {"a": replace(QUIET, cpu=3.0)})
        assert record.containers["a"].cpu == 600.0

    def test_steady_work_is_seen_whatever_the_step(self) -> None:
        for step in (10.0, 100.0, 600.0):
            works = [replace(QUIET, cpu=0.5 * step * n) for n in range(int(1500 / step) + 1)]
            assert looks(*works, step=step).seconds < 600

    def test_less_than_before_is_no_use(self) -> None:
        assert looks(replace(QUIET, cpu=100.0), QUIET, QUIET).seconds == 2 * STEP


class TestTime:
    def test_a_reboot_begins_anew(self) -> None:
        record = judge(IdleRecord(), "boot", 1e6, {"a": QUIET})
        record = judge(record, "boot", 1e6 + STEP, {"a": QUIET})
        assert record.containers["a"].seconds == STEP
        assert judge(record, "other", 50.0, {"a": QUIET}).containers["a"].seconds == 0

    def test_a_record_of_the_future_begins_anew(self) -> None:
        record = judge(IdleRecord(), "boot", 1e6, {"a": QUIET})
        assert judge(record, "boot", 10.0, {"a": QUIET}).containers["a"].seconds == 0

    def test_no_wall_clock_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        boots = SimpleNamespace(
            clock_gettime=time.clock_gettime, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME
        )
        monkeypatch.setattr(boot, "time", boots)
        assert not hasattr(idleness, "time")
        assert looks(*[QUIET] * 3).seconds == 2 * STEP


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server on which lqchen's container runs since start-1."""
    monkeypatch.setattr(places, "IDLENESS", tmp_path / "idleness.json")
    monkeypatch.setattr(idleness, "INVOCATIONS", tmp_path)
    (tmp_path / "invocation:lxc-gpu@lqchen.service").symlink_to("start-1")
    return tmp_path


def kept(seconds: float, start: str = "start-1", boot: str = "") -> None:
    unused = Unused(start, gpu=seconds, login=seconds + DAY, cpu=seconds, connection=seconds)
    write_record(IdleRecord(boot or boot_id(), boot_clock(), {"lqchen": unused}))


class TestSaying:
    def test_beyond_the_policy(self, server: Path) -> None:
        kept(34 * DAY)
        assert unused_for(with_(idle_days=30), "lqchen") == pytest.approx(34 * DAY, abs=5)
        (idle,) = idle_containers(with_(idle_days=30), 1e9)
        assert idle.user == "lqchen"
        assert idle.since == pytest.approx(1e9 - 34 * DAY, abs=5)

    def test_not_before(self, server: Path) -> None:
        kept(34 * DAY)
        assert unused_for(with_(idle_days=35), "lqchen") is None
        assert idle_containers(with_(idle_days=35), 1e9) == ()

    def test_without_a_policy(self, server: Path) -> None:
        kept(3400 * DAY)
        assert unused_for(with_(), "lqchen") is None
        assert idle_containers(with_(), 1e9) == ()

    def test_not_of_others(self, server: Path) -> None:
        kept(34 * DAY)
        assert unused_for(with_(idle_days=30), "ann") is None
        assert idle_containers(with_(idle_days=30, residents={"ann": RESIDENT}), 1e9) == ()

    def test_not_of_who_is_stopped_since(self, server: Path) -> None:
        kept(34 * DAY)
        (server / "invocation:lxc-gpu@lqchen.service").unlink()
        assert idle_containers(with_(idle_days=30), 1e9) == ()

    def test_not_of_who_was_started_since(self, server: Path) -> None:
        kept(34 * DAY, start="start-0")
        assert idle_containers(with_(idle_days=30), 1e9) == ()

    def test_not_from_before_a_reboot(self, server: Path) -> None:
        kept(34 * DAY, boot="another one")
        assert idle_containers(with_(idle_days=30), 1e9) == ()


class TestTheFile:
    def test_comes_back_the_same(self, server: Path) -> None:
        record = IdleRecord("boot", 5.5, {"a": Unused("s", 1, 2, 3, 4, 5, 6), "b": Unused("s")})
        write_record(record)
        assert read_record() == record
        assert places.IDLENESS.stat().st_mode & 0o777 == 0o644

    def test_an_older_versions_counts_go_on(self, server: Path) -> None:
        """To it, a connection was no use; nobody who waited for `idle` begins at 0."""
        kept(34 * DAY)
        fields = json.loads(places.IDLENESS.read_text())
        for name in ("connection", "episode", "told"):
            del fields["containers"]["lqchen"][name]
        places.IDLENESS.write_text(json.dumps(fields))
        assert unused_for(with_(idle_days=30), "lqchen") == pytest.approx(34 * DAY, abs=5)
        assert read_record().containers["lqchen"].told == ()

    def test_where_connections_are_unknown_an_older_versions_count_stops(self) -> None:
        unused = Unused("start-1", gpu=DAY, login=DAY, cpu=DAY, connection=None)
        record = IdleRecord("boot", 1000.0, {"lqchen": unused})
        unknown = replace(QUIET, connected=None)
        for number in range(1, 4):
            record = judge(record, "boot", 1000.0 + number * STEP, {"lqchen": unknown})
        assert record.containers["lqchen"].seconds == DAY

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", "7", '{"boot":1}', "[" * 100_000, "\0", '{"containers":{"a":1}}',
         '{"boot":"b","looked":"x","containers":{}}', '{"boot":"b","looked":NaN,"containers":{}}',
         '{"boot":"b","looked":-1,"containers":{}}'],
    )  # fmt: skip
    def test_garbage_is_nothing(self, server: Path, text: str) -> None:
        places.IDLENESS.write_text(text)
        assert read_record() == IdleRecord()

    @pytest.mark.parametrize("value", ["x", -1, float("nan"), float("inf"), True, None, [], {}])
    @pytest.mark.parametrize("name", ["gpu", "login", "cpu", "measured", "cpu_time"])
    def test_garbage_in_a_field(self, server: Path, name: str, value: object) -> None:
        kept(DAY)
        fields = json.loads(places.IDLENESS.read_text())
        fields["containers"]["lqchen"][name] = value
        places.IDLENESS.write_text(json.dumps(fields))
        assert read_record() == IdleRecord()
        assert unused_for(with_(idle_days=1), "lqchen") is None

    def test_that_is_no_file(self, server: Path) -> None:
        assert read_record() == IdleRecord()
        places.IDLENESS.mkdir()
        assert read_record() == IdleRecord()
