"""What people do on the IAM page, in a real browser."""

from __future__ import annotations

from laboratory.directory.people import LabPerson
from laboratory.hosts import Host, Lab
from playwright.sync_api import Page

from state.command import run
from tests.lab.fleet import BARE

PATIENCE_MS = 30_000


def tip(iam: Host) -> str:
    """The newest revision of the state."""
    return iam.sh(f"git -c safe.directory='*' -C {BARE} rev-parse main").stdout.strip()


def new_key(comment: str) -> str:
    """A fresh public key; the private one is thrown away."""
    script = (
        'd=$(mktemp -d); ssh-keygen -q -t ed25519 -N "" -C "$1" -f $d/k; cat $d/k.pub; rm -r $d'
    )
    return run(["sh", "-euc", script, "sh", comment]).stdout.strip()


def saves(
    page: Page, lab: Lab, person: LabPerson, password: str | None = None, *, at: str = ""
) -> None:
    """The person opens their page, pastes a new key, types a password, saves."""
    page.goto(f"{lab.web_url.rstrip('/')}/user/{at or person.login}")
    page.locator("textarea").fill(new_key(f"{person.login}@test"))
    page.get_by_label("Login").fill(person.login)
    page.get_by_label("Laboratory password").fill(person.password if password is None else password)
    page.get_by_role("button", name="Save").click()
