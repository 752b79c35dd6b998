"""Lanes: how often a silent server is asked, and what ends in order."""

from __future__ import annotations

import threading
import time

import pytest

from state.errors import LxcGpuError
from state.model.keys import parse_key
from tests.threads import none_to_be_had, wait_until
from tests.unit.webui.monitor.small_loads import load
from webui.monitor.heard import listening
from webui.monitor.heard.latest import Latest
from webui.monitor.heard.listening import Listeners
from webui.servers.contact import Target, UnreachableError
from webui.servers.metered import Allowance

KEY = parse_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIuLYnLzgRTCUsGzYVs5LbPMDYjM0vLPhvKYrwVSnSY3")
GPU17 = Target("gpu17", "192.0.2.17", 22, KEY)
BROKEN = UnreachableError("load-broken", "It broke.", "Mend it.")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(listening, "LONGEST_PAUSE", 0.8)
    monkeypatch.setattr(listening, "STEADY", 0.3)


def listen(contact, seconds: float, targets=None) -> Latest:
    latest = Latest()
    listeners = Listeners(targets or (lambda: {"gpu17": GPU17}), contact, latest, latest.post)
    listeners.watch(0.05)
    time.sleep(seconds)
    listeners.stop()
    return latest


def test_a_silent_server_is_asked_less_and_less_often():
    asked = []

    def contact(target):
        asked.append(time.monotonic())
        raise BROKEN
        yield

    latest = listen(contact, 3)
    seen = latest.all()["gpu17"]
    assert (seen.why, seen.hint) == ("It broke.", "Mend it.")
    assert 4 <= len(asked) <= 8
    assert asked[-1] - asked[-2] > 2 * (asked[1] - asked[0])


def test_a_stream_that_ends_in_order_is_no_silence():
    ends, silences = [], []

    def contact(target):
        yield load()
        time.sleep(0.35)
        ends.append(time.monotonic())

    latest = Latest()
    latest.silent = lambda *said: silences.append(said)  # type: ignore[method-assign]
    listeners = Listeners(lambda: {"gpu17": GPU17}, contact, latest, latest.post)
    listeners.watch(1)
    time.sleep(1.2)
    listeners.stop()
    assert len(ends) >= 3
    assert silences == []


def test_a_server_that_ends_at_once_is_not_asked_without_end():
    asked = []

    def contact(target):
        asked.append(1)
        yield load()

    seen = listen(contact, 1).all()["gpu17"]
    assert "as soon as it began" in seen.why
    assert len(asked) < 6


def test_a_mistake_of_ours_ends_no_lane(caplog):
    def contact(target):
        if not caplog.text:
            raise ZeroDivisionError
        yield load()
        time.sleep(10)

    assert listen(contact, 1).all()["gpu17"].silent_since is None
    assert "event=crashed" in caplog.text


def test_one_that_hangs_holds_up_no_other():
    def contact(target):
        if target.name == "hangs":
            time.sleep(60)
        while True:
            yield load(target.name)
            time.sleep(0.05)

    names = {name: Target(name, "192.0.2.1", 22, KEY) for name in ("hangs", "gpu17", "gpu18")}
    assert listen(contact, 0.5, lambda: names).all().keys() == {"gpu17", "gpu18"}


def test_the_state_may_come_later_and_servers_may_move(caplog):
    moments, heard = [0], set()

    def targets():
        moments[0] += 1
        if moments[0] < 4:
            raise LxcGpuError("state-unreadable", "The state can't be read.")
        return {"gpu17": GPU17 if moments[0] < 10 else Target("gpu17", "192.0.2.99", 22, KEY)}

    def contact(target):
        while True:
            heard.add((moments[0] >= 12, target.address))
            yield load()
            time.sleep(0.02)

    assert listen(contact, 1.5, targets).all()["gpu17"].load is not None
    assert (False, "192.0.2.17") in heard
    assert {address for late, address in heard if late} == {"192.0.2.99"}
    assert "event=background-failed work=listeners code=state-unreadable" in caplog.text


def test_lanes_end_with_the_servers():
    def contact(target):
        while True:
            yield load(target.name)
            time.sleep(0.02)

    there = {"gone": Target("gone", "192.0.2.1", 22, KEY)}
    latest = Latest()
    listeners = Listeners(lambda: there, contact, latest, latest.post)
    for _ in range(3):
        listeners.look()
        time.sleep(0.2)
        there.clear()
    assert latest.all() == {}
    assert not [thread for thread in threading.enumerate() if thread.name == "load gone"]


def test_an_allowance_is_saved_up_and_no_further():
    now = [0.0]
    allowance = Allowance(10, 2, clock=lambda: now[0])
    assert allowance.spend(10)
    assert not allowance.spend(1)
    now[0] = 3.0
    assert allowance.spend(4)
    now[0] = 1000.0
    assert not allowance.spend(11)


def test_a_server_whose_lane_could_not_begin_is_heard_later():
    def contact(target):
        while True:
            yield load(target.name)
            time.sleep(0.05)

    latest = Latest()
    listeners = Listeners(lambda: {"gpu17": GPU17}, contact, latest, latest.post)
    with none_to_be_had(), pytest.raises(LxcGpuError):
        listeners.look()
    listeners.look()
    wait_until(lambda: "gpu17" in latest.all())
    listeners.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_that_died_is_said_and_begun_anew(caplog):
    died = []

    def contact(target):
        if not died:
            died.append(1)
            raise SystemExit
        while True:
            yield load(target.name)
            time.sleep(0.05)

    latest = Latest()
    listeners = Listeners(lambda: {"gpu17": GPU17}, contact, latest, latest.post)
    listeners.watch(0.05)
    wait_until(lambda: "gpu17" in latest.all() and latest.all()["gpu17"].load is not None)
    listeners.stop()
    assert "event=load-silent server=gpu17 code=load-mistake" in caplog.text
