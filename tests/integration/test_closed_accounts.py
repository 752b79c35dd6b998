"""Who logs in to a closed account of a real Active Directory (Samba) learns why."""

from __future__ import annotations

import pytest

from state.model.documents import User
from tests.integration import active_directory
from tests.integration.test_active_directory import config
from webui.directory.connections import NotAllowedError, WrongLoginError
from webui.directory.ldap import Directory

LONG_AGO = "132000000000000000"
NEVER_OPEN = bytes(21)
CLOSED = {
    "account-disabled": {"userAccountControl": 514},
    "account-expired": {"accountExpires": LONG_AGO},
    "password-first": {"pwdLastSet": 0},
    "login-hours": {"logonHours": NEVER_OPEN},
    "login-elsewhere": {"userWorkstations": "SOMEWHERE"},
    "password-expired": {},
}
GONE = {"account-disabled", "account-expired"}
"""What the roll counts as gone."""


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    with active_directory.running(tmp_path_factory.mktemp("domain")) as domain:
        for code, attributes in CLOSED.items():
            dn = domain.add_person(code, f"Person {code}", "right horse")
            if attributes:
                domain.modify(dn, **attributes)
            else:
                domain.age_password(dn)
        yield domain


@pytest.fixture(params=["service account", "template"])
def directory(request, domain):
    ways = {"bind_dn": "", "bind_password_file": None, "bind_template": "{login}@mylab.com"}
    return Directory(config(domain, **(ways if request.param == "template" else {})))


def refused(directory: Directory, login: str, password: str) -> WrongLoginError:
    with pytest.raises(WrongLoginError) as caught:
        directory.authenticate(login, password)
    return caught.value


@pytest.mark.parametrize("code", CLOSED)
def test_the_right_password_learns_why_and_a_wrong_one_nothing(directory, code):
    with pytest.raises(NotAllowedError) as closed:
        directory.authenticate(code, "right horse")
    assert closed.value.code == code
    assert closed.value.message.startswith("Your password is right, but ")
    wrong, unknown = (refused(directory, login, "wrong horse") for login in (code, "nobody-at-all"))
    assert (wrong.code, str(wrong)) == (unknown.code, str(unknown))


def test_a_lock_after_guesses_looks_as_a_wrong_password(domain, directory):
    """Active Directory says it for wrong passwords, too: it would tell which logins exist."""
    domain.add_person("locked", "Lock Ed", "right horse")
    domain.modify(active_directory.BASE, lockoutThreshold="2")
    try:
        for password in ("wrong", "wrong", "wrong", "right horse"):
            last = refused(directory, "locked", password)
        assert "data 775" in last.details
    finally:
        domain.modify(active_directory.BASE, lockoutThreshold="0")
        domain.delete(f"CN=Lock Ed,{active_directory.PEOPLE}")


def test_who_only_needs_a_new_password_is_not_gone(domain):
    numbers = {"port": 22000, "subid": 10_000_000, "uid": 20000}
    users = {code: User(name=code, login=code, **numbers) for code in CLOSED}
    rule = {"allow": "(objectCategory=person)", "allow_groups": []}
    found = Directory(config(domain, **rule)).look_up_all(users)
    assert {code for code, each in found.items() if each.gone} == GONE
