"""The second step: who is told and stopped when, and what keeps a container from being stopped."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.doctor.service import unseen_connections, untold
from reconciler.host import places
from reconciler.load import idle_stop
from reconciler.load.connections import connected_ports
from reconciler.load.idle_stop import IdleAction, Stopped, step, tell
from reconciler.load.idleness import BUSY, DAY, Activity, IdleRecord, Unused, judge, still_unused
from reconciler.network import conntrack
from reconciler.network.conntrack import open_to
from reconciler.notices import store as notices
from state.wire.findings import Level
from state.wire.notices import NoticeKind
from tests.unit.reconciler.views import RESIDENT, with_

HOUR = 3600.0
QUIET = Activity("s1", gpu=False, login=False, cpu=0.0)
VIEW = with_(idle_days=14, idle_stop_days=21)


def unused(days: float, *told: float, episode: str = "e1") -> Unused:
    seconds = days * DAY
    return Unused("s1", seconds, seconds, seconds, connection=seconds, episode=episode,
                  told=tuple(day * DAY for day in told))  # fmt: skip


class TestStep:
    @pytest.mark.parametrize(
        ("days", "told", "wanted"),
        [
            (13.9, (), IdleAction()),
            (14, (), IdleAction(name=True, unsaid=True)),
            (17, (15, 16), IdleAction(name=True, unsaid=True)),
            (18, (), IdleAction(name=True, warn=1, left=3 * DAY)),
            (20.5, (), IdleAction(name=True, warn=1, left=2 * DAY)),
            (18.5, (18,), IdleAction(name=True, left=2.5 * DAY)),
            (19, (18,), IdleAction(name=True, warn=2, left=2 * DAY)),
            (400, (), IdleAction(name=True, warn=1, left=2 * DAY)),
            (400, (399.5,), IdleAction(name=True, left=DAY)),
            (400, (398, 399.5), IdleAction(name=True)),
            (400.5, (398, 399.5), IdleAction(name=True, stop=True)),
            (20.9, (18, 19), IdleAction(name=True)),
            (21, (18, 19), IdleAction(name=True, stop=True)),
        ],
    )
    def test_by_days(self, days: float, told: tuple[float, ...], wanted: IdleAction) -> None:
        assert step(unused(days, *told), 14, 21, "") == wanted

    def test_never_without_the_policy_or_with_a_reason_to_keep_it(self) -> None:
        assert step(unused(400, 398, 399), 14, None, "") == IdleAction(name=True, unsaid=True)
        assert step(unused(400, 398, 399), None, None, "") == IdleAction()
        assert step(unused(400, 398, 399), 14, 21, "the demo") == IdleAction(name=True, unsaid=True)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "NOTICES", tmp_path / "notices.json")
    monkeypatch.setattr(places, "STOPPED_IDLE", tmp_path / "stopped")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(places, "IDLENESS", tmp_path / "idleness.json")
    return tmp_path


def said() -> list[str]:
    return sorted(notice.kind.value for notice in notices.open_notices())


def mail_is_accepted() -> None:
    notices.accept([notice.id for notice in notices.open_notices()], 1.0)


class TestTold:
    def looks(self, days: float, record: IdleRecord) -> tuple[IdleRecord, list[str]]:
        """One look after so many days without use."""
        old = record.containers.get("lqchen", unused(0))
        new = IdleRecord("b", 0.0, {"lqchen": replace(unused(days), told=old.told)})
        return tell(VIEW, record, new, 1e9)

    def test_twice_on_two_days_before_it_is_stopped(self, kept: Path) -> None:
        record, due = self.looks(13, IdleRecord())
        assert (said(), due) == ([], [])
        record, due = self.looks(14, record)
        assert said() == ["idle"]
        mail_is_accepted()
        record, due = self.looks(18, record)
        assert said() == ["will-stop"]
        for day in (18.1, 30, 90):
            record, due = self.looks(day, record)
            assert due == [], "no mail was accepted"
        mail_is_accepted()
        record, due = self.looks(90.1, record)
        assert said() == []
        mail_is_accepted()
        record, due = self.looks(91, record)
        assert (said(), due) == ([], [])
        record, due = self.looks(91.1, record)
        assert (said(), due) == (["will-stop"], [])
        mail_is_accepted()
        record, due = self.looks(91.2, record)
        assert due == []
        record, due = self.looks(92.2, record)
        assert due == ["lqchen"]

    def test_use_takes_it_back_and_begins_anew(self, kept: Path) -> None:
        record, _ = self.looks(14, IdleRecord())
        record, _ = self.looks(18, record)
        assert said() == ["idle", "will-stop"]
        used = IdleRecord("b", 0.0, {"lqchen": unused(0, episode="e2")})
        record, _ = tell(VIEW, record, used, 1e9)
        assert said() == []
        record, _ = tell(
            VIEW, record, IdleRecord("b", 0.0, {"lqchen": unused(14, episode="e2")}), 1e9
        )
        assert said() == ["idle"]

    def test_damaged_notices_stop_nobody(self, kept: Path) -> None:
        places.NOTICES.write_text("{")
        with pytest.raises(Exception, match="no idle container is stopped"):
            self.looks(400, IdleRecord())

    def test_a_policy_that_is_gone_takes_the_warning_back(self, kept: Path) -> None:
        record, _ = self.looks(14, IdleRecord())
        record, _ = self.looks(18, record)
        keeps = with_(idle_days=14, idle_stop_days=21,
                      residents={"lqchen": replace(RESIDENT, keep="the demo")})  # fmt: skip
        mail_is_accepted()
        record, _ = self.looks(18.1, record)
        assert record.containers["lqchen"].told
        record, due = tell(keeps, record, record, 1e9)
        assert (said(), due, record.containers["lqchen"].told) == ([], [], ())
        assert not notices.accepted("lqchen", NoticeKind.WILL_STOP, "e1-1")

    def test_one_that_was_put_off_is_told_again(self, kept: Path) -> None:
        later = with_(idle_days=14, idle_stop_days=60)
        record = IdleRecord("b", 0.0, {"lqchen": unused(22, 18, 19)})
        record, due = tell(later, record, record, 1e9)
        assert (due, record.containers["lqchen"].told) == ([], ())
        record = IdleRecord("b", 0.0, {"lqchen": unused(61)})
        assert tell(later, record, record, 1e9)[1] == []
        assert said() == ["idle", "will-stop"]

    def test_who_left_is_no_concern(self, kept: Path) -> None:
        left = IdleRecord("b", 0.0, {"bob": unused(400, 398, 399)})
        assert tell(VIEW, left, left, 1e9)[1] == []


class TestTheCount:
    def of(self, record: IdleRecord) -> Unused:
        return record.containers["a"]

    def long_unused(self) -> IdleRecord:
        before = IdleRecord("b1", 1000.0, {"a": unused(20, 18, 19)})
        return judge(before, "b1", 1600.0, {"a": QUIET})

    def test_outlives_a_reboot_after_which_it_came_back(self) -> None:
        old = self.long_unused()
        waits = judge(old, "b2", 50.0, {}, waiting=["a"])
        assert self.of(waits).seconds == self.of(old).seconds
        back = replace(QUIET, start="s2", came_back=0)
        new = judge(waits, "b2", 650.0, {"a": back})
        assert self.of(new).seconds == self.of(old).seconds, "nobody looked meanwhile"
        assert (self.of(new).told, self.of(new).episode) == ((18 * DAY, 19 * DAY), "e1")
        assert self.of(judge(new, "b2", 1250.0, {"a": back})).seconds == 20 * DAY + 1200

    @pytest.mark.parametrize(
        "sight",
        [
            replace(QUIET, start="s2"),
            replace(QUIET, start="s2", came_back=0, sessions=7),
            replace(QUIET, start="s2", came_back=0, login=True),
            replace(QUIET, start="s2", came_back=0, connected=True),
            replace(QUIET, start="s2", came_back=0, gpu=True),
        ],
    )
    def test_a_persons_start_or_any_use_since_is_one(self, sight: Activity) -> None:
        new = self.of(judge(self.long_unused(), "b2", 50.0, {"a": sight}))
        assert (new.seconds, new.told) == (0, ())
        assert new.episode != "e1"

    def test_the_same_start_in_another_boot_is_another_one(self) -> None:
        assert self.of(judge(self.long_unused(), "b2", 50.0, {"a": QUIET})).seconds == 0

    def test_a_quiet_connection_is_a_use_and_an_unknown_one_doesnt_count(self) -> None:
        old = self.long_unused()
        on = judge(old, "b1", 2200.0, {"a": replace(QUIET, connected=True)})
        assert self.of(on).seconds == 0
        unknown = judge(old, "b1", 2200.0, {"a": replace(QUIET, connected=None)})
        assert self.of(unknown).seconds == self.of(old).seconds
        assert self.of(unknown).episode == "e1"

    def test_one_that_fakes_nothing_is_judged_by_itself(self) -> None:
        busy = replace(QUIET, login=True, connected=True)
        record = judge(IdleRecord("b1", 0.0, {"a": unused(20), "b": unused(20)}), "b1", 600.0,
                       {"a": QUIET, "b": busy})  # fmt: skip
        assert record.containers["a"].seconds == 20 * DAY + 600
        assert record.containers["b"].seconds == 0

    @pytest.mark.parametrize(
        "sight",
        [
            None,
            replace(QUIET, start="s2"),
            replace(QUIET, sessions=1),
            replace(QUIET, gpu=True),
            replace(QUIET, gpu=None),
            replace(QUIET, login=True),
            replace(QUIET, connected=True),
            replace(QUIET, connected=None),
            replace(QUIET, cpu=100 + 2 * BUSY * 600),
        ],
    )
    def test_the_last_look_before_a_stop(self, sight: Activity | None) -> None:
        looked = replace(unused(22), measured=1000.0, cpu_time=100.0)
        assert still_unused(looked, replace(QUIET, cpu=100.1), 1001.0)
        assert still_unused(looked, replace(QUIET, cpu=100 + 0.5 * BUSY * 3600), 4600.0)
        if sight is not None:
            assert not still_unused(looked, sight, 1600.0)


def test_why_it_was_stopped_is_kept_until_it_starts(kept: Path) -> None:
    assert idle_stop.stopped("ann") is None
    idle_stop.note_stopped("ann", Stopped(1e9, 21.5 * DAY))
    assert idle_stop.stopped("ann") == Stopped(1e9, 21.5 * DAY)
    assert "21 days" in idle_stop.in_words(Stopped(1e9, 21.5 * DAY))
    for damaged in ("", "{", "[]", '{"at": "x"}'):
        (places.STOPPED_IDLE / "ann").write_text(damaged)
        assert idle_stop.stopped("ann") is None
    idle_stop.forget_stopped("ann")
    idle_stop.forget_stopped("ann")


def test_the_doctor_names_who_is_not_stopped_for_want_of_mail() -> None:
    late = IdleRecord("b", 0.0, {"lqchen": unused(22), "bob": unused(90)})
    (finding,) = untold(VIEW, late)
    assert finding.level is Level.WRONG
    assert "container of lqchen for 21 days." in finding.text
    assert list(untold(VIEW, IdleRecord("b", 0.0, {"lqchen": unused(22, 18, 19)}))) == []
    assert list(untold(with_(idle_days=14), late)) == []


def test_the_doctor_says_why_nothing_is_idle_on_a_kernel_that_lists_no_connections() -> None:
    with pytest.raises(OSError, match="lists no connections") as caught:
        list(conntrack._entries(kernel_says(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -95))))
    finding = unseen_connections(caught.value)
    assert finding.level is Level.WRONG
    assert "none is named or stopped" in finding.text


def kernel_says(raw: bytes) -> socket.socket:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernels.send(raw)
    return ours


def attribute(kind: int, content: bytes) -> bytes:
    padded = content + bytes(-len(content) % 4)
    return struct.pack("=HH", 4 + len(content), kind) + padded


def entry(*, status: int = 1 << 5, state: int = 3, protocol: int = 6) -> bytes:
    reply = attribute(0x8002, attribute(0x8001, attribute(1, bytes([10, 77, 0, 33])))
                      + attribute(0x8002, attribute(1, bytes([protocol]))))  # fmt: skip
    tcp = attribute(0x8004, attribute(0x8001, attribute(1, bytes([state]))))
    return bytes(4) + reply + attribute(3, struct.pack(">I", status)) + tcp


def test_what_the_kernel_lists_of_connections() -> None:
    there = bytes([10, 77, 0, 33])
    assert open_to(entry()) == there
    assert open_to(entry(status=0)) == b"", "nobody led it elsewhere"
    assert open_to(entry(state=7)) == b"", "it has ended"
    assert open_to(entry(protocol=17)) == b""
    assert open_to(entry(protocol=17, status=1 << 5 | 1 << 2)) == there
    assert open_to(bytes(4)) == b""
    for cut in range(len(entry())):
        open_to(entry()[:cut].ljust(4, b"\0"))


def test_what_a_container_lists_of_its_sockets() -> None:
    head = b"  sl  local_address rem_address   st tx_queue\n"
    line = b"   0: 2100000A:1F90 0202A8C0:D431 01 00000000:00000000\n"
    assert list(connected_ports(head + line)) == [8080]
    assert list(connected_ports(head + line.replace(b" 01 ", b" 0A "))) == []
    assert list(connected_ports(head + line.replace(b"0202A8C0", b"0100007F"))) == []
    assert list(connected_ports(head + b"\xff\n: :\n  1: x:y z 01\n" + line)) == [8080]
