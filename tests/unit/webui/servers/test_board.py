"""Saves and servers in memory."""

from __future__ import annotations

from threading import Thread

from webui.servers.board import Board, NudgeOutcome, Phase


def outcome(server: str, phase: Phase) -> NudgeOutcome:
    return NudgeOutcome(server, phase, "in words")


def test_a_save_is_finished_when_all_servers_are() -> None:
    board = Board()
    token = board.open("lqchen", "abc", ["gpu17", "gpu18"])
    board.post(outcome("gpu17", Phase.CONVERGED), [token])
    save = board.save(token)
    assert save is not None
    assert not save.finished
    board.post(outcome("gpu18", Phase.UNREACHABLE), [token])
    save = board.save(token)
    assert save is not None
    assert save.finished
    assert not save.converged


def test_old_saves_are_forgotten_and_tokens_differ() -> None:
    board = Board(most_saves=10)
    tokens = [board.open("lqchen", "abc", ["gpu17"]) for _ in range(50)]
    assert len(set(tokens)) == 50
    assert [board.save(token) is not None for token in tokens].count(True) == 10
    board.post(outcome("gpu17", Phase.CONVERGED), tokens)  # forgotten ones do no harm


def test_since_when_a_server_is_unreachable_is_remembered() -> None:
    now = [100.0]
    board = Board(clock=lambda: now[0])
    board.post(outcome("gpu17", Phase.UNREACHABLE), [])
    now[0] = 200.0
    board.post(outcome("gpu17", Phase.UNREACHABLE), [])
    assert board.standings()["gpu17"].outcome.since == 100.0
    board.post(outcome("gpu17", Phase.CONVERGED), [])
    assert board.standings()["gpu17"].outcome.since is None
    now[0] = 300.0
    board.post(outcome("gpu17", Phase.UNREACHABLE), [])
    assert board.standings()["gpu17"].outcome.since == 300.0


def test_a_reader_wakes_up_at_once_when_something_happens() -> None:
    board = Board()
    token = board.open("lqchen", "abc", ["gpu17"])
    Thread(target=lambda: board.post(outcome("gpu17", Phase.CONVERGED), [token])).start()
    save = board.wait(token, 0, 10)
    assert save is not None
    assert save.version == 1
    assert board.wait(token, 1, 0.01) == save
    assert board.wait("no such token", 0, 10) is None
