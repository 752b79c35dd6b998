"""Lanes: how often a silent server is asked, and what ends in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from itertools import pairwise
from typing import Any

import pytest

from state.errors import LxcGpuError
from state.model.keys import parse_key
from state.wire.server_load import ServerLoad
from tests.patience import HANGS, eventually
from tests.threads import none_to_be_had
from tests.unit.webui.monitor.small_loads import load
from webui.monitor.heard import listening
from webui.monitor.heard.latest import Latest
from webui.monitor.heard.listening import Listeners
from webui.servers.contact import Target, UnreachableError
from webui.servers.rate_limit import TokenBucket

KEY = parse_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW")
GPU17 = Target("gpu17", "192.0.2.17", 22, KEY)
BROKEN = UnreachableError("load-broken", "It broke.", "Mend it.")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(listening, "LONGEST_PAUSE", 0.8)
    monkeypatch.setattr(listening, "STEADY", 0.3)


def listen(
    contact: Callable[..., Any],
    until: Callable[..., Any],
    targets: Callable[..., Any] | None = None,
) -> Latest:
    """Listen until something holds of what was heard."""
    latest = Latest()
    listeners = Listeners(targets or (lambda: {"gpu17": GPU17}), contact, latest, latest.post)
    listeners.watch(0.05)
    try:
        eventually(lambda: until(latest))
    finally:
        listeners.stop()
    return latest


def apart(moments: list[float], pauses: tuple[float, ...] | tuple[float, float, float]) -> bool:
    """Whether there was at least each pause between moments, give or take a quarter."""
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    return all(gap >= 0.75 * pause for gap, pause in zip(gaps, pauses, strict=False))


def test_a_silent_server_is_asked_less_and_less_often() -> None:
    asked = []

    def contact(target: Target) -> Iterator[None]:
        asked.append(time.monotonic())
        raise BROKEN
        yield

    seen = listen(contact, lambda _: len(asked) >= 6).all()["gpu17"]
    assert (seen.why, seen.hint) == ("It broke.", "Mend it.")
    assert apart(asked, (0.1, 0.2, 0.4, 0.8, 0.8))


def test_a_stream_that_ends_in_order_is_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    ends = []

    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        yield load()
        time.sleep(0.35)
        ends.append(time.monotonic())

    heard = listen(contact, lambda _: len(ends) >= 3).all()["gpu17"]
    assert heard.silent_since is None
    assert "event=load-silent" not in caplog.text


def test_a_server_that_ends_at_once_is_not_asked_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "STEADY", HANGS)
    asked = []

    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        asked.append(time.monotonic())
        yield load()

    seen = listen(contact, lambda _: len(asked) >= 4).all()["gpu17"]
    assert "right after it began" in seen.why
    assert apart(asked, (0.1, 0.2, 0.4))


def test_a_mistake_of_ours_ends_no_lane(caplog: pytest.LogCaptureFixture) -> None:
    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        if not caplog.text:
            raise ZeroDivisionError
        yield load()
        time.sleep(HANGS)

    def heard(latest: Latest) -> bool:
        return "gpu17" in latest.all() and latest.all()["gpu17"].load is not None

    assert listen(contact, heard).all()["gpu17"].silent_since is None
    assert "event=crashed" in caplog.text


def test_one_that_hangs_holds_up_no_other() -> None:
    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        if target.name == "hangs":
            time.sleep(60)
        while True:
            yield load(target.name)
            time.sleep(0.05)

    names = {name: Target(name, "192.0.2.1", 22, KEY) for name in ("hangs", "gpu17", "gpu18")}
    others = {"gpu17", "gpu18"}
    heard = listen(contact, lambda latest: others <= latest.all().keys(), lambda: names)
    assert heard.all().keys() == others


def test_the_state_may_come_later_and_servers_may_move(caplog: pytest.LogCaptureFixture) -> None:
    moments, heard = [0], []

    def targets() -> dict[str, Target] | None:
        moments[0] += 1
        if moments[0] < 4:
            raise LxcGpuError("state-unreadable", "The state can't be read.")
        return {"gpu17": GPU17 if moments[0] < 10 else Target("gpu17", "192.0.2.99", 22, KEY)}

    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        while True:
            heard.append(target.address)
            yield load()
            time.sleep(0.02)

    moved = ["192.0.2.99"] * 10
    assert listen(contact, lambda _: heard[-10:] == moved, targets).all()["gpu17"].load is not None
    assert heard[0] == "192.0.2.17"
    assert "event=background-failed work=listeners code=state-unreadable" in caplog.text


def test_lanes_end_with_the_servers() -> None:
    def contact(target: Target) -> Generator[ServerLoad, None, None]:
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
    eventually(lambda: "load gone" not in [thread.name for thread in threading.enumerate()])


def test_an_allowance_is_saved_up_and_no_further() -> None:
    now = [0.0]
    allowance = TokenBucket(10, 2, clock=lambda: now[0])
    assert allowance.spend(10)
    assert not allowance.spend(1)
    now[0] = 3.0
    assert allowance.spend(4)
    now[0] = 1000.0
    assert not allowance.spend(11)


def test_a_server_whose_lane_could_not_begin_is_heard_later() -> None:
    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        while True:
            yield load(target.name)
            time.sleep(0.05)

    latest = Latest()
    listeners = Listeners(lambda: {"gpu17": GPU17}, contact, latest, latest.post)
    with none_to_be_had(), pytest.raises(LxcGpuError):
        listeners.look()
    listeners.look()
    eventually(lambda: "gpu17" in latest.all())
    listeners.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_that_died_is_said_and_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    died: list[int] = []

    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        if not died:
            died.append(1)
            raise SystemExit
        while True:
            yield load(target.name)
            time.sleep(0.05)

    latest = Latest()
    listeners = Listeners(lambda: {"gpu17": GPU17}, contact, latest, latest.post)
    listeners.watch(0.05)
    eventually(lambda: "gpu17" in latest.all() and latest.all()["gpu17"].load is not None)
    listeners.stop()
    assert "event=load-silent server=gpu17 code=load-mistake" in caplog.text
