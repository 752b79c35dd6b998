"""The page against a real Active Directory: two Samba domain controllers that replicate.

What needs GPU servers besides is in test_web.py and test_story.py, which run against both kinds of
directory (`setup/test --all`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from laboratory.demo.browser import browser
from laboratory.directory import samba
from laboratory.directory.people import ANN, CAROL, DORA, GROUP_DN, LQCHEN, OUTSIDER
from laboratory.hosts import Lab
from playwright.sync_api import Page, expect

from state.wire.findings import Level, from_json
from tests.lab.fleet import BARE, directory_down
from tests.lab.pages import PATIENCE_MS, saves, tip
from tests.lab.running import DOMAIN_LAB, setup_lab


@pytest.fixture(scope="module")
def page(domain: Lab) -> Iterator[Page]:
    """A browser's window."""
    with browser() as chromium:
        yield chromium.new_page()


def _state(domain: Lab, path: str) -> str:
    return domain.host("iam").sh(f"git -c safe.directory='*' -C {BARE} show main:{path}").stdout


def _saved(page: Page) -> None:
    expect(page.locator("h1")).to_have_text("Saved", timeout=PATIENCE_MS)


def _wrong(domain: Lab, *words: str) -> list[str]:
    """What the doctor finds; GPU servers that the lab may have are others' business."""
    done = domain.host("iam").run(["lxc-gpu", "doctor", "--json", *words], check=False)
    found = (each for each in from_json(done.stdout) if each.level == Level.WRONG)
    return [each.text for each in found if each.area != "servers"]


class TestDomain:
    def test_the_controllers_replicate(self, domain: Lab) -> None:
        for host in domain.controllers:
            said = host.run(["samba-tool", "drs", "showrepl", "--summary"]).stdout
            assert "ALL GOOD" in said, said

    def test_each_has_its_own_certificate_by_the_labs_authority(self, domain: Lab) -> None:
        for host in domain.controllers:
            checks = f"""openssl s_client -connect {host.name}.mylab.com:636 -verify_return_error \\
                -verify_hostname {host.name}.mylab.com -CAfile /etc/lxc-gpu/ldap-ca.pem </dev/null
                """
            assert "Verify return code: 0" in domain.host("iam").sh(checks).stdout

    def test_a_lab_keeps_its_kind_of_directory(self, domain: Lab) -> None:
        done = setup_lab("up", "--directory", "openldap", name=DOMAIN_LAB)
        assert done.returncode == 1
        assert "setup/lab down" in done.stderr
        assert domain.place.directory == "ad"
        assert setup_lab("exec", "ldap", "true", name=DOMAIN_LAB).returncode == 1


class TestLogin:
    def test_a_person_logs_in_and_is_known_by_what_the_domain_says(
        self, page: Page, domain: Lab
    ) -> None:
        saves(page, domain, LQCHEN)
        _saved(page)
        said = _state(domain, "users/lqchen.yaml")
        shown = domain.host("dc1").run(["samba-tool", "user", "show", "LQChen"]).stdout
        (guid,) = re.findall("^objectGUID: (.*)$", shown, re.M)
        for line in ("name: Lequn Chen", "login: LQChen", f"directory_id: {guid}"):
            assert f"{line}\n" in said

    def test_somebody_in_a_group_of_the_group_gets_in(self, page: Page, domain: Lab) -> None:
        direct = domain.host("dc1").run(["samba-tool", "group", "listmembers", "gpu-users"]).stdout
        assert DORA.login not in direct.split()
        saves(page, domain, DORA)
        _saved(page)

    def test_a_password_with_umlauts(self, page: Page, domain: Lab) -> None:
        saves(page, domain, CAROL)
        _saved(page)

    def test_who_is_outside_or_types_a_wrong_password_saves_nothing(
        self, page: Page, domain: Lab
    ) -> None:
        before = tip(domain.host("iam"))
        saves(page, domain, OUTSIDER)
        expect(page.get_by_role("alert")).to_contain_text("among those who may use")
        saves(page, domain, ANN, "not it")
        expect(page.get_by_role("alert")).to_contain_text("password is wrong")
        assert tip(domain.host("iam")) == before

    def test_a_renamed_person_stays_the_same_user(self, page: Page, domain: Lab) -> None:
        saves(page, domain, ANN)
        _saved(page)
        renamed = replace(ANN, login="annika", name="Annika Example")
        dc1 = domain.host("dc1")
        dc1.run(["samba-tool", "user", "rename", "ann", "--samaccountname=annika",
                 "--upn=annika@mylab.com", "--display-name=Annika Example"])  # fmt: skip
        try:
            saves(page, domain, renamed, at="ann")
            _saved(page)
            assert "login: annika\n" in _state(domain, "users/ann.yaml")
            assert "annika" not in _state(domain, "users/")
        finally:
            dc1.run(["samba-tool", "user", "rename", "annika", "--samaccountname=ann",
                     "--upn=ann@mylab.com", "--display-name=Ann Example"])  # fmt: skip


class TestDoctor:
    def test_finds_nothing_wrong(self, domain: Lab) -> None:
        assert _wrong(domain) == []

    def test_tells_who_may_log_in(self, domain: Lab) -> None:
        for person in (LQCHEN, DORA):
            assert _wrong(domain, "--login", person.login) == []
        (outside,) = _wrong(domain, "--login", OUTSIDER.login)
        assert GROUP_DN.partition(",")[0] in outside


class TestDeadController:
    @pytest.mark.parametrize("dead", samba.CONTROLLERS)
    def test_the_other_one_is_asked(self, page: Page, domain: Lab, dead: str) -> None:
        with directory_down(domain.host(dead)):
            saves(page, domain, CAROL)
            _saved(page)
            (found,) = _wrong(domain)
            assert f"{dead}.mylab.com" in found
