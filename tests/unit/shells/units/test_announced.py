"""What the announced unit asks of the root helper, which is a socket of the test's here."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.host import locks, places
from reconciler.requests import power
from shells.helper import client
from shells.units import announced, clock
from shells.verbs import VerbRequest, restart
from state import bus
from state.bus import Variant
from state.errors import LxcGpuError
from state.view import Announcement, to_json
from state.wire import messages
from tests.unit.played_socket import PlayedSocket
from tests.unit.reconciler.views import RESIDENT, with_
from tests.unit.systemd import PlayedSystemd

USERS = [f"user{number}" for number in range(3)]
DONE = messages.Answer("Done.", {"was_running": True})
BUSY = messages.Refusal("busy", "Other work on your container is under way.")
RUNS = {"ActiveState": Variant("s", "active")} | {
    name: Variant("t", 0) for name in ("MainPID", "MemoryCurrent", "TasksCurrent")
}
FAULT = messages.Refusal("fault", "No.")


class Helper(PlayedSocket):
    """Answers requests, each user's as it is told to; by default they are done."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.says: dict[str, messages.Message] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        super().__init__(path)

    def answer(self, connection: socket.socket) -> None:
        asked = json.loads(connection.recv(1 << 16))
        self.asked.append((asked["verb"], asked["user"], asked["options"]))
        self.meanwhile()
        answer = self.says.get(asked["user"], DONE)
        connection.sendall(messages.encode(answer).encode())


def announce(*, stop: bool) -> None:
    """Have an announcement in the view that stops containers now, or none."""
    each = Announcement("ram", "New disks", time.time() - 60, time.time() + 3600, stop=True)
    view = with_(residents=dict.fromkeys(USERS, RESIDENT), announcements=(each,) if stop else ())
    places.VIEW.write_text(to_json(view))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    """A server on which three containers run, and whose clock is steady."""
    for name in ("VIEW", "RUNNING", "DOWN", "CLOCK_SEEN", "CAME_BACK"):
        monkeypatch.setattr(places, name, tmp_path / name.lower())
    monkeypatch.setattr(bus, "SOCKET", str(tmp_path / "private"))
    systemd = PlayedSystemd(tmp_path / "private", RUNS)
    monkeypatch.setattr(client, "ROOT_SOCKET", str(tmp_path / "root.sock"))
    monkeypatch.setattr(announced, "PATIENCE", 0.0)
    places.RUNNING.mkdir()
    for user in USERS:
        (places.RUNNING / user).touch()
    clock.is_steady()
    helper = Helper(tmp_path / "root.sock")
    yield helper
    helper.end()
    systemd.end()


def down() -> list[str]:
    return sorted(path.name for path in places.DOWN.glob("*"))


def test_what_runs_is_shut_down_and_comes_back(helper: Helper) -> None:
    announce(stop=True)
    assert announced.main([]) == 0
    assert sorted(helper.asked) == [("stop", user, {"announced": ""}) for user in USERS]
    assert down() == USERS
    helper.asked.clear()
    announce(stop=False)
    assert announced.main([]) == 0
    options = {"announced": "", "quick": ""}
    assert sorted(helper.asked) == [("start", user, options) for user in USERS]
    assert down() == []


def test_a_clock_that_was_just_moved_shuts_nothing_down(
    helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(stop=True)
    places.CLOCK_SEEN.write_text(json.dumps({"ahead": 0.0, "since": 0.0}))
    monkeypatch.setattr(clock, "SETTLED", 600.0)
    for _ in range(3):
        assert announced.main([]) == 0
        assert (helper.asked, down()) == ([], [])
    monkeypatch.setattr(clock, "SETTLED", 0.0)
    assert announced.main([]) == 0
    assert len(helper.asked) == len(USERS), "it has stood"


def test_the_first_look_after_a_boot_shuts_nothing_down(helper: Helper) -> None:
    announce(stop=True)
    places.CLOCK_SEEN.unlink()
    assert announced.main([]) == 0
    assert (helper.asked, down()) == ([], [])


def test_but_it_brings_back(helper: Helper) -> None:
    announce(stop=False)
    places.CLOCK_SEEN.unlink()
    places.DOWN.mkdir()
    (places.DOWN / USERS[0]).touch()
    assert announced.main([]) == 0
    assert [user for _, user, _ in helper.asked] == [USERS[0]]


def test_who_is_busy_is_no_failure_and_is_asked_again(helper: Helper) -> None:
    announce(stop=True)
    helper.says[USERS[0]] = BUSY
    for _ in range(2):
        helper.asked.clear()
        assert announced.main([]) == 0
        assert {user for _, user, _ in helper.asked} == set(USERS)
    announce(stop=False)
    for _ in range(2):
        helper.asked.clear()
        assert announced.main([]) == 0
        assert USERS[0] in {user for _, user, _ in helper.asked}
        assert down() == [USERS[0]]
    helper.says.clear()
    assert announced.main([]) == 0
    assert down() == []


def test_one_that_fails_is_said_and_a_start_is_not_repeated_at_once(helper: Helper) -> None:
    announce(stop=True)
    helper.says[USERS[0]] = FAULT
    assert announced.main([]) == 1
    announce(stop=False)
    assert announced.main([]) == 1
    helper.asked.clear()
    assert announced.main([]) == 0
    assert (helper.asked, down()) == ([], [USERS[0]])


def test_one_that_is_taken_away_meanwhile_stops_no_more(
    helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "AT_ONCE", 1)
    announce(stop=True)
    helper.meanwhile = lambda: announce(stop=False)
    assert announced.main([]) == 0
    assert [user for _, user, _ in helper.asked] == [USERS[0]]
    assert announced.main([]) == 0
    assert down() == []


def test_no_lock_of_a_container_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOCKS", tmp_path)
    with locks.lock(locks.user_lock("ann")), pytest.raises(LxcGpuError) as caught:  # noqa: SIM117
        with power.alone("ann", print, wait=False):
            pass
    assert caught.value.code == "busy"


def test_a_restart_is_refused_before_anything_is_shut_down(helper: Helper, tmp_path: Path) -> None:
    announce(stop=True)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/done\n")
    with pytest.raises(LxcGpuError, match="are shut down until") as caught:
        restart.answer(VerbRequest(USERS[0], {}), print)
    assert caught.value.code == "closed"
    assert not (tmp_path / "done").exists()


def test_a_note_that_goes_meanwhile_is_not_due(helper: Helper) -> None:
    assert not announced._due("ann")
