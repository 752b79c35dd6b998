"""A person in front of the pages, with and without JavaScript; the servers are dead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.window import CHROMIUM, UNREADABLE, WIDER, person
from tests.integration import slapd
from tests.integration.slapd import Slapd
from tests.integration.web import KEY, OTHER, PEOPLE, make_web, served
from webui.howto import chapters

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
    pytest.mark.skipif(not Path("/usr/sbin/slapd").exists(), reason="needs slapd"),
]
DEAD = {"gpu17": ("127.0.0.1", 1), "gpu18": ("127.0.0.2", 1)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def address(tmp_path: Path, directory: Slapd) -> Iterator[str]:
    with served(make_web(tmp_path, directory, DEAD)) as url:
        yield url


def save(page: Page, address: str, keys: str, password: str = "right horse") -> None:
    page.goto(address)
    page.get_by_label("Your login").fill("LQChen")
    page.get_by_role("button", name="Go to my page").click()
    page.locator("#pasted").fill(keys)
    page.get_by_label("Laboratory password").fill(password)
    page.get_by_role("button", name="Save").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_from_the_first_page_to_the_live_result(
    browser: Browser, address: str, scripts: bool
) -> None:
    with person(browser, java_script_enabled=scripts) as page:
        save(page, address, f"{KEY} lqchen@laptop")
        page.wait_for_url("**/save/*")
        page.get_by_text("0 of 2 servers converged; 2 will follow").wait_for(timeout=10_000)
        assert page.get_by_text("refuses connections").count() == 2
        page.get_by_role("link", name="What to do next").click()
        assert page.get_by_role("heading", name="Lequn Chen").is_visible()
        assert page.get_by_text("ssh register@gpu17-manage lqchen").is_visible()
        through = page.get_by_text("/.ssh/config-connect -o ~/.ssh/lxc-gpu.config")
        assert not through.is_visible()
        page.get_by_text("Or have ssh start your container automatically").click()
        assert through.is_visible()
        copies = page.get_by_role("button", name="Copy", exact=True).count()
        assert copies > 0 if scripts else copies == 0


def test_a_mistake_keeps_what_was_pasted_but_not_the_password(
    browser: Browser, address: str
) -> None:
    with person(browser) as page:
        save(page, address, f"{KEY} laptop\nnonsense")
        page.get_by_text("line 2").wait_for()
        assert page.locator("#pasted").input_value() == f"{KEY} laptop\nnonsense"
        assert page.get_by_label("Laboratory password").input_value() == ""
        assert page.evaluate("document.activeElement.id") == "pasted"
        page.locator("#pasted").fill(f"{KEY} laptop")
        page.get_by_label("Laboratory password").fill("wrong")
        page.get_by_role("button", name="Save").click()
        page.locator("#password-problem").wait_for()
        assert page.evaluate("document.activeElement.id") == "password"
        page.get_by_label("Laboratory password").fill("right horse")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/save/*")


def test_removing_a_line_removes_the_key(browser: Browser, address: str) -> None:
    with person(browser) as page:
        save(page, address, f"{KEY} laptop\n{OTHER} desk")
        page.wait_for_url("**/save/*")
        page.goto(f"{address}/user/lqchen")
        assert page.locator(".key").count() == 2
        save(page, address, f"{OTHER} desk")
        page.wait_for_url("**/save/*")
        page.goto(f"{address}/user/lqchen")
        assert page.locator(".key-name").all_inner_texts() == ["desk"]


def test_copying_gives_the_whole_command(browser: Browser, address: str) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    with person(browser, permissions=allowed) as page:
        page.goto(f"{address}/guide")
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == (
            "ssh-keygen -t ed25519\ncat ~/.ssh/id_ed25519.pub"
        )


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_the_how_to_has_the_readers_own_names_on_every_page(
    browser: Browser, address: str, scripts: bool
) -> None:
    with person(browser, java_script_enabled=scripts) as page:
        page.goto(f"{address}/guide")
        page.get_by_label("Your login").fill("LQChen")
        page.get_by_label("Server").select_option("gpu18")
        page.get_by_role("button", name="Fill in").click()
        page.get_by_text("ssh register@gpu18-manage lqchen").wait_for()
        page.get_by_role("article").get_by_role("link", name="Copy files, mount folders").click()
        page.get_by_text("rsync -av project gpu18:").wait_for()
        page.get_by_role("link", name="Windows →").click()
        page.get_by_text("/user/lqchen/.ssh/config -o lxc-gpu.config").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_can_be_read(
    browser: Browser, address: str, scheme: str
) -> None:
    with person(browser, viewport={"width": 360, "height": 740}, color_scheme=scheme) as page:
        save(page, address, f"{KEY} laptop")
        page.wait_for_url("**/save/*")
        paths = (
            "/",
            "/guide",
            *(f"/guide/{each.name}?login=lqchen" for each in chapters()),
            "/history",
            "/server/gpu17",
            "/user/lqchen",
            "/user/NewPerson",
            "/nowhere",
            page.url,
        )
        for path in paths:
            page.goto(path if path.startswith("http") else f"{address}{path}")
            assert page.evaluate(WIDER) == 0, path
            assert page.evaluate(UNREADABLE) == [], path
