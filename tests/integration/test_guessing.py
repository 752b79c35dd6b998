"""The brake on guessing passwords, at the form."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.integration import slapd
from tests.integration.forms import save
from tests.integration.slapd import Slapd
from tests.integration.web import KEY, Web, push
from webui.clone.source import StateSource
from webui.directory.transport.connections import WrongLoginError
from webui.pages import saving
from webui.services import EXTENSION


def test_guessing_gets_slow(web: Web) -> None:
    now = time.time()  # stands still: however long a look into the directory takes
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    answers = [save(web, password=f"guess {n}").status_code for n in range(8)]
    assert answers[:4] == [403] * 4
    assert 429 in answers[4:]
    assert int(save(web, password="guess").headers["Retry-After"]) >= 1


def test_a_guess_fetches_nothing(web: Web) -> None:
    now = time.time()
    signing, clone = web.parts.config.signing_key, web.folder / "quiet"
    quiet = StateSource(str(web.repository), clone, signing, 3600, lambda: now)
    known = quiet.current().revision
    parts = replace(web.parts, source=quiet, clock=lambda: now)
    push(web.folder / "work", "Say nothing new")
    now += 0.5
    guess = saving.Form("lqchen", "guess", KEY)
    with pytest.raises(WrongLoginError):
        saving.save(parts, "LQChen", guess, "192.0.2.1")
    while parts.throttle.attempt("lqchen", "192.0.2.1", now) <= 0:
        pass
    with pytest.raises(saving.SlowDownError):
        saving.save(parts, "LQChen", guess, "192.0.2.1")
    assert quiet.current().revision == known, "which waits for a fetch under way"
    now += 60
    saving.save(parts, "LQChen", replace(guess, password="right horse"), "192.0.2.1")
    assert quiet.current().revision != known


def test_guesses_count_together_however_the_login_is_typed(web: Web) -> None:
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    logins = ("lqchen", "MYLAB\\lqchen", "LQChen@example.org", "OTHER\\lqchen", "lqchen@mylab.com")
    answers = [save(web, login=login, password="guess").status_code for login in logins]
    assert answers == [403] * 4 + [429]


def test_nobody_learns_by_waiting_whose_login_another_is(web: Web, directory: Slapd) -> None:
    """Ann goes by two logins; the one tells nothing about the other, nor about who exists."""
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    slapd.modify(directory, "Ann Lee", uid=["ann", "annie"])
    try:
        tries = [save(web, login="ann", password="guess").status_code for _ in range(5)]
        assert tries == [403] * 4 + [429]
        for password in ("guess", "ann's own"):
            pages = [
                save(web, login=login, password=password).get_data(as_text=True).replace(login, "")
                for login in ("annie", "noone")
            ]
            assert pages[0] == pages[1]
            assert "If you did, wait a minute and try again." in pages[0]
        assert save(web, login="lqch\u00e9n", password="guess").status_code == 403
    finally:
        slapd.modify(directory, "Ann Lee", uid="ann")


def test_the_right_password_of_who_may_not_is_no_guess(web: Web) -> None:
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    guest = {"login": "guest", "password": "guest-secret"}
    assert [save(web, **guest).status_code for _ in range(6)] == [403] * 6
    assert "among those who may use" in save(web, **guest).get_data(as_text=True)
