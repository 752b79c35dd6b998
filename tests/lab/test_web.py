"""The IAM page against the lab's real directory and servers, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from laboratory.demo.browser import browser
from laboratory.directory.people import ANN, DORA, NO_POSIX_NAME, OUTSIDER
from laboratory.layout import DOMAIN, SOURCE_INSIDE
from playwright.sync_api import Page, expect

from tests.lab.fleet import Fleet, directory_down, in_both_directories
from tests.lab.pages import PATIENCE_MS, new_key, saves, tip
from tests.patience import eventually

PAGE = f"http://iam.{DOMAIN}"
OUR_SITE = "/etc/nginx/sites-enabled/zz-lxc-gpu.conf"


@pytest.fixture(scope="module")
def page(fleet: Fleet) -> Iterator[Page]:
    """A browser's window."""
    with browser() as chromium:
        yield chromium.new_page()


@in_both_directories
def test_an_outsider_with_the_right_password_is_told_so_and_nothing_is_saved(
    page: Page, fleet: Fleet
) -> None:
    before = tip(fleet.iam)
    saves(page, fleet.lab, OUTSIDER)
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    assert tip(fleet.iam) == before


@in_both_directories
def test_a_wrong_password_keeps_the_paste_and_saves_nothing(page: Page, fleet: Fleet) -> None:
    before = tip(fleet.iam)
    saves(page, fleet.lab, ANN, "not it")
    expect(page.get_by_role("alert")).to_contain_text("password is wrong")
    assert page.locator("textarea").input_value().startswith("ssh-ed25519 ")
    assert page.get_by_label("Laboratory password").input_value() == ""
    assert tip(fleet.iam) == before


@in_both_directories
@pytest.mark.usefixtures("nudges")
def test_somebody_in_a_group_of_the_group_gets_in(page: Page, fleet: Fleet) -> None:
    saves(page, fleet.lab, DORA)
    expect(page.locator("li.server", has_text="gpu17")).to_contain_text(
        "converged", timeout=PATIENCE_MS
    )


@in_both_directories
def test_a_login_that_is_no_name_of_an_account_gets_one(page: Page, fleet: Fleet) -> None:
    saves(page, fleet.lab, NO_POSIX_NAME)
    expect(page.locator("h1")).to_have_text("Saved", timeout=PATIENCE_MS)
    users = page.request.get(f"{fleet.lab.web_url.rstrip('/')}/users").text().split()
    assert "lequn-chen2" in users


@pytest.mark.usefixtures("nudges")
def test_a_dead_server_delays_nobody_and_is_named(page: Page, fleet: Fleet) -> None:
    fleet.gpu18.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        saves(page, fleet.lab, DORA)
        gpu17 = page.locator("li.server", has_text="gpu17")
        expect(gpu17).to_contain_text("converged", timeout=PATIENCE_MS)
        gpu18 = page.locator("li.server", has_text="gpu18")
        expect(gpu18).to_contain_text("unreachable", timeout=PATIENCE_MS)
    finally:
        fleet.gpu18.run(["systemctl", "start", "ssh.service"])


@in_both_directories
def test_a_directory_that_is_down_is_not_the_persons_fault(page: Page, fleet: Fleet) -> None:
    before = tip(fleet.iam)
    with directory_down(*fleet.lab.controllers):
        saves(page, fleet.lab, DORA)
        expect(page.get_by_role("alert")).to_contain_text("directory", timeout=PATIENCE_MS)
    assert tip(fleet.iam) == before


def test_nothing_is_allocated_by_looking(page: Page, fleet: Fleet) -> None:
    before = tip(fleet.iam)
    base = fleet.lab.web_url.rstrip("/")
    assert page.request.get(f"{base}/user/bob").ok
    assert page.request.get(f"{base}/user/bob/port").status == 404
    assert tip(fleet.iam) == before


def _sites(fleet: Fleet) -> list[str]:
    """What nginx answers for the page, for another name, and for a name that it doesn't know.

    nginx takes on its configuration in the background.
    """
    asks = f"curl -sSLk --resolve iam.{DOMAIN}:443:{fleet.iam.spec.address} {PAGE}/"
    marks = {"Vision Lab": "the page", "the wiki": "the wiki", "Welcome to nginx": "Debian's own"}
    answers = [fleet.types(f"{asks} {name}").stdout for name in ("", "-H Host:wiki", "-H Host:x")]
    return [next((said for mark, said in marks.items() if mark in a), a) for a in answers]


class TestInFront:
    """nginx, which is all that people reach of the page."""

    def test_it_names_who_asks_whatever_they_say(self, fleet: Fleet) -> None:
        login = f"nobody{time.time_ns()}"
        said = fleet.types(f"""curl -sS -o /dev/null -w '%{{http_code}}' \\
            -H 'X-Forwarded-For: 203.0.113.9' -H 'Forwarded: for=203.0.113.9' \\
            -d login={login} -d password=x --data-urlencode keys='{new_key("x")}' \\
            {PAGE}/user/{login}""")
        assert said.stdout == "403", said.stdout + said.stderr
        log = fleet.iam.sh(f"journalctl -t lxc-gpu-web -o cat | grep user={login}").stdout
        assert f"source={fleet.lab.host('laptop').spec.address} " in log

    def test_nobody_else_opens_the_socket_of_the_page(self, fleet: Fleet) -> None:
        script = "import socket; socket.socket(socket.AF_UNIX).connect('/run/lxc-gpu-web/page')"
        for name, opens in (("www-data", True), ("nobody", False), ("sshd", False)):
            words = ["runuser", "-u", name, "--", "/usr/bin/python3", "-c", script]
            assert fleet.iam.run(words, check=False).ok == opens, name
        assert fleet.iam.sh("ss -Hltn '! sport = 22' | grep -v ':80 '", check=False).stdout == ""

    def test_a_page_that_is_away_is_said_in_words(self, fleet: Fleet) -> None:
        fleet.iam.sh("systemctl stop lxc-gpu-web.socket")
        try:
            shown = fleet.types(f"curl -sS {PAGE}/user/lqchen").stdout
        finally:
            fleet.iam.sh("systemctl start lxc-gpu-web")
        assert "Try again in a minute." in shown
        eventually(lambda: fleet.types(f"curl -fsS {PAGE}/").ok)

    def test_no_request_is_refused_while_the_page_restarts(self, fleet: Fleet) -> None:
        ask = f"curl -s -o /dev/null -w '%{{http_code}} ' {PAGE}/"
        for ended in ("restart", "kill --signal KILL"):
            fleet.iam.sh(f"systemctl {ended} lxc-gpu-web")
            assert fleet.types(f"{ask}; {ask}").stdout == "200 200 ", ended

    def test_a_page_that_refuses_its_configuration_keeps_nobody_waiting(self, fleet: Fleet) -> None:
        toml = "/etc/lxc-gpu/web.toml"
        fleet.iam.sh(f"cp -p {toml} {toml}.kept; echo nonsense = 1 >>{toml}")
        try:
            fleet.iam.sh("systemctl restart lxc-gpu-web")
            shown = fleet.types(f"curl -sS {PAGE}/").stdout
            findings = fleet.iam.run(["lxc-gpu", "doctor"], check=False).stdout
        finally:
            fleet.iam.sh(f"mv {toml}.kept {toml}; systemctl restart lxc-gpu-web")
        assert "Try again in a minute." in shown
        assert "nonsense`" in findings
        assert fleet.types(f"curl -fsS {PAGE}/").ok

    def test_an_nginx_that_is_broken_already_costs_no_page(self, fleet: Fleet) -> None:
        fleet.iam.sh("echo nonsense >/etc/nginx/sites-enabled/wiki")
        try:
            done = fleet.iam.run([f"{SOURCE_INSIDE}/setup/web-server"], timeout=120, check=False)
        finally:
            fleet.iam.sh("rm /etc/nginx/sites-enabled/wiki")
        assert not done.ok
        assert "sites-enabled/wiki" in done.stderr
        assert fleet.types(f"curl -fsS {PAGE}/").ok
        fleet.iam.run([f"{SOURCE_INSIDE}/setup/web-server"], timeout=120)

    def test_other_sites_of_the_machine_stay_with_tls_and_without(self, fleet: Fleet) -> None:
        fleet.iam.sh(f"""
            cd /etc/nginx
            rm {OUR_SITE}
            cp sites-available/default /root/default
            echo '# edited' >>sites-available/default
            ln -s /etc/nginx/sites-available/default sites-enabled/default
            echo 'server {{ listen 80; server_name wiki; return 200 "the wiki"; }}' \\
                >sites-enabled/wiki
            echo 'server {{ listen 80; server_name iam.{DOMAIN}; return 200 "of old"; }}' \\
                >conf.d/lxc-gpu.conf""")
        try:
            for script in ("web-server --tls-self-signed", "web-server"):
                fleet.iam.sh(f"{SOURCE_INSIDE}/setup/{script}", timeout=120)
                eventually(lambda: _sites(fleet) == ["the page", "the wiki", "Debian's own"])
                fleet.iam.sh("rm -r /etc/lxc-gpu/tls", check=False)
        finally:
            fleet.iam.sh(
                f"""
                cd /etc/nginx
                rm -rf /etc/lxc-gpu/tls sites-enabled/wiki conf.d/lxc-gpu.conf*
                mv /root/default sites-available/default
                {SOURCE_INSIDE}/setup/web-server""",
                timeout=120,
            )
        left = fleet.iam.sh("ls /etc/nginx/sites-enabled").stdout
        assert left == "zz-lxc-gpu.conf\n", "Debian's own, unedited, is put out of effect"
