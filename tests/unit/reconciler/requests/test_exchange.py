"""What is said of an exchange of systems that an announcement came in between of."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.requests import exchange
from shells.verbs import VerbRequest
from shells.verbs.recover import answered
from state.view import Announcement
from tests.unit.reconciler.views import RESIDENT, with_

ENDS = time.time() + 3600
RAM = Announcement("ram", "New disks", time.time() - 60, ENDS, stop=True)


def test_what_an_announcement_keeps_down_is_no_system_that_does_not_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "DOWN", tmp_path / "down")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    (tmp_path / "lqchen").mkdir()
    view = with_(containers=str(tmp_path), announcements=(RAM,))
    down = exchange._Down(view, RESIDENT, was_running=True, notes=("x",))
    done = exchange._go_on(down, "lqchen", down.notes, print).ended()
    assert (done.running, done.comes_back) == (False, True)
    note = "Yours is started automatically after that."
    assert done.notes[0] == "x"
    assert done.notes[1].endswith(f"New disks. {note}")
    assert (places.DOWN / "lqchen").exists()
    said = answered(VerbRequest("lqchen", {}), done, "is back").text
    assert note in said
    assert "Start it" not in said


def test_nor_is_what_was_down_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "DOWN", tmp_path / "down")
    (tmp_path / "lqchen").mkdir()
    view = with_(containers=str(tmp_path), announcements=(RAM,))
    down = exchange._Down(view, RESIDENT, was_running=False, notes=())
    done = exchange._go_on(down, "lqchen", down.notes, print).ended()
    assert (done.running, done.comes_back, done.notes) == (False, False, ())
    assert not places.DOWN.exists()
