"""The IAM page against the lab's real directory and servers, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laboratory.demo.browser import browser
from laboratory.directory.people import ANN, DORA, NO_POSIX_NAME, OUTSIDER, Person
from playwright.sync_api import Page, expect

from state.command import run
from tests.lab.fleet import BARE, Fleet

PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def page(fleet: Fleet) -> Iterator[Page]:
    """A browser's window."""
    with browser() as chromium:
        yield chromium.new_page()


def _tip(fleet: Fleet) -> str:
    return fleet.iam.sh(f"git -c safe.directory='*' -C {BARE} rev-parse main").stdout.strip()


def _new_key(comment: str) -> str:
    """A fresh public key; the private one is thrown away."""
    script = (
        'd=$(mktemp -d); ssh-keygen -q -t ed25519 -N "" -C "$1" -f $d/k; cat $d/k.pub; rm -r $d'
    )
    return run(["sh", "-euc", script, "sh", comment]).stdout.strip()


def _saves(page: Page, fleet: Fleet, person: Person, password: str | None = None) -> None:
    """The person opens their page, pastes a new key, types a password, saves."""
    page.goto(f"{fleet.lab.web_url.rstrip('/')}/user/{person.login}")
    page.locator("textarea").fill(_new_key(f"{person.login}@test"))
    page.get_by_label("Login").fill(person.login)
    page.get_by_label("Laboratory password").fill(person.password if password is None else password)
    page.get_by_role("button", name="Save").click()


def test_an_outsider_with_the_right_password_is_told_so_and_nothing_is_saved(
    page: Page, fleet: Fleet
) -> None:
    before = _tip(fleet)
    _saves(page, fleet, OUTSIDER)
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    assert _tip(fleet) == before


def test_a_wrong_password_keeps_the_paste_and_saves_nothing(page: Page, fleet: Fleet) -> None:
    before = _tip(fleet)
    _saves(page, fleet, ANN, "not it")
    expect(page.get_by_role("alert")).to_contain_text("don't belong together")
    assert page.locator("textarea").input_value().startswith("ssh-ed25519 ")
    assert page.get_by_label("Laboratory password").input_value() == ""
    assert _tip(fleet) == before


@pytest.mark.usefixtures("nudges")
def test_somebody_in_a_group_of_the_group_gets_in(page: Page, fleet: Fleet) -> None:
    _saves(page, fleet, DORA)
    expect(page.locator("li.server", has_text="gpu17")).to_contain_text(
        "converged", timeout=PATIENCE_MS
    )


def test_a_login_that_is_no_name_of_an_account_gets_one(page: Page, fleet: Fleet) -> None:
    _saves(page, fleet, NO_POSIX_NAME)
    expect(page.locator("h1")).to_have_text("Saved", timeout=PATIENCE_MS)
    users = page.request.get(f"{fleet.lab.web_url.rstrip('/')}/users").text().split()
    assert "lequn-chen2" in users


@pytest.mark.usefixtures("nudges")
def test_a_dead_server_delays_nobody_and_is_named(page: Page, fleet: Fleet) -> None:
    fleet.gpu18.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        _saves(page, fleet, DORA)
        gpu17 = page.locator("li.server", has_text="gpu17")
        expect(gpu17).to_contain_text("converged", timeout=PATIENCE_MS)
        gpu18 = page.locator("li.server", has_text="gpu18")
        expect(gpu18).to_contain_text("unreachable", timeout=PATIENCE_MS)
    finally:
        fleet.gpu18.run(["systemctl", "start", "ssh.service"])


def test_a_directory_that_is_down_is_not_the_persons_fault(page: Page, fleet: Fleet) -> None:
    before = _tip(fleet)
    ldap = fleet.lab.host("ldap")
    ldap.run(["systemctl", "stop", "slapd"])
    try:
        _saves(page, fleet, DORA)
        expect(page.get_by_role("alert")).to_contain_text("directory", timeout=PATIENCE_MS)
    finally:
        ldap.run(["systemctl", "start", "slapd"])
    assert _tip(fleet) == before


def test_nothing_is_allocated_by_looking(page: Page, fleet: Fleet) -> None:
    before = _tip(fleet)
    base = fleet.lab.web_url.rstrip("/")
    assert page.request.get(f"{base}/user/bob").ok
    assert page.request.get(f"{base}/user/bob/port").status == 404
    assert _tip(fleet) == before
