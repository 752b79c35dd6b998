"""The monitor in a real browser: live, filtered, on a phone, without scripts. Loads are made up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from state.errors import LxcGpuError
from state.wire.server_load import GpuUser, IdleContainer, ReservedGpus
from tests.browser.window import CHROMIUM, UNREADABLE, WIDER, person
from tests.generated_loads import load, with_mig, with_reservations
from tests.integration.monitored import make_monitored
from tests.integration.web import Web, push, served, with_groups
from tests.present import present
from webui.pages.monitor import MONITORS

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
GONE = LxcGpuError("gone", "No route to host.", "Is it up?")
DAY = 86_400.0
LONG_GROUP = "Robotics and Autonomous Systems"
EVIL = '<img src=x onerror="alert(1)">'


def post(web: Web, server: str, *, busy: float = 0.7, percent: float = 20.0, **fields: Any) -> None:
    given = load(server, time.time(), busy=busy, gpus=4)
    cpu = replace(given.cpu, percent=percent)
    web.parts.latest.post(server, replace(given, cpu=cpu, **fields))


@pytest.fixture
def web(tmp_path: Path) -> Web:
    made, _ = make_monitored(tmp_path, 3)
    made = with_groups(made, {"Vision": "cn=v,dc=x", LONG_GROUP: "cn=r,dc=x"})
    made.parts.history.belong({"ann": ("Vision", LONG_GROUP), "bob": (LONG_GROUP,)})
    post(made, "gpu17", busy=1, percent=11, users=())
    post(made, "gpu18", busy=0, percent=22, users=())
    made.parts.latest.silent("gpu19", GONE)
    return made


@pytest.fixture
def address(web: Web) -> Iterator[str]:
    with served(web) as url:
        yield f"{url}/monitor"


def test_numbers_change_in_place_and_what_was_opened_stays(
    browser: Browser, web: Web, address: str
) -> None:
    with person(browser) as page:
        page.goto(address)
        number = page.locator("#now-gpu17 .whole .number").first
        number.evaluate("node => { node.marked = true; }")
        page.locator("#server-gpu17 rect").first.evaluate("node => { node.marked = true; }")
        page.locator("#server-gpu18 summary").click()  # three servers: all are open at first
        page.get_by_placeholder("server or GPU").focus()
        post(web, "gpu17", busy=1, percent=77)
        page.locator("#now-gpu17 .whole .number", has_text="77 %").wait_for(timeout=10_000)
        assert number.evaluate("node => node.marked")
        rect = page.locator("#server-gpu17 rect").first
        assert rect.evaluate("node => [node.marked, node.getAttribute('width')]") == [True, "77%"]
        opened = "node => node.open"
        assert page.locator("#server-gpu17 details").evaluate(opened)
        assert not page.locator("#server-gpu18 details").evaluate(opened)
        assert page.evaluate("document.activeElement.name") == "text"


def test_silence_is_marked_while_one_looks_and_ends(
    browser: Browser, web: Web, address: str
) -> None:
    with person(browser) as page:
        page.goto(address)
        assert page.locator("#server-gpu19", has_text="not heard for").count() == 1
        page.get_by_text("4 of 8 GPUs are free").wait_for()
        web.parts.latest.silent("gpu18", GONE)
        page.locator("#now-gpu18 .pill", has_text="silent for").wait_for(timeout=10_000)
        page.get_by_text("No GPU is free").wait_for()
        assert page.locator("#now-gpu18 .old").count() == 1
        assert page.locator(".where .silent").count() == 2
        post(web, "gpu18", busy=0)
        page.locator("#now-gpu18 .pill", has_text="4 of 4 free").wait_for(timeout=10_000)
        assert page.locator("#now-gpu18 .old").count() == 0


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_filters_and_order(browser: Browser, address: str, scripts: bool) -> None:
    with person(browser, java_script_enabled=scripts) as page:

        def apply() -> None:
            if not scripts:
                page.get_by_role("button", name="Show").click()

        def shown(*servers: str) -> bool:
            wanted = [f"server-{server}" for server in servers]
            for _ in range(100):
                if page.locator(".card").evaluate_all("all => all.map((c) => c.id)") == wanted:
                    return True
                page.wait_for_timeout(100)
            return False

        page.goto(address)
        assert page.get_by_role("button", name="Show").is_visible() is not scripts
        assert shown("gpu17", "gpu18", "gpu19")
        page.get_by_label("with a free GPU").check()
        apply()
        assert shown("gpu18")
        assert page.get_by_text("1 of 3 servers are shown.").is_visible()
        assert page.url.endswith("?free=1") or not scripts
        page.get_by_label("with a free GPU").uncheck()
        page.get_by_placeholder("server or GPU").fill("nothing like this")
        apply()
        assert shown()
        page.get_by_text("No server matches").wait_for()
        page.get_by_placeholder("server or GPU").fill("")
        page.get_by_label("sorted by").select_option("cpu")
        apply()
        assert shown("gpu18", "gpu17", "gpu19")


def test_without_scripts_everything_is_there_and_a_link_to_load_it_again(
    browser: Browser, web: Web, address: str
) -> None:
    with person(browser, java_script_enabled=False) as page:
        page.goto(f"{address}?sort=free")
        assert page.locator("#now-gpu17", has_text="11 %").is_visible()
        post(web, "gpu17", percent=66)
        page.get_by_role("link", name="Load the page again").click()
        assert page.locator("#now-gpu17", has_text="66 %").is_visible()
        assert page.url.endswith("?sort=free")


def test_when_no_live_place_is_left_the_page_loads_itself_again(
    browser: Browser, web: Web, address: str
) -> None:
    held = [web.app.test_client().get("/monitor/events") for _ in range(MONITORS)]
    with person(browser, may_say="status of 503") as page:
        page.context.add_init_script(
            "const real = window.setInterval; window.setInterval = (f, t) => real(f, t / 15);"
        )
        with page.expect_response("**/monitor/events") as answer:
            page.goto(address)
        assert answer.value.status == 503
        number = page.locator("#now-gpu17 .whole .number").first
        number.evaluate("node => { node.marked = true; }")
        post(web, "gpu17", busy=1, percent=88)
        page.locator("#now-gpu17", has_text="88 %").wait_for(timeout=10_000)
        assert number.evaluate("node => node.marked")
    for each in held:
        each.close()


def test_names_that_are_html_stay_text(browser: Browser, web: Web, address: str) -> None:
    given = load("gpu17", time.time(), gpus=1, busy=1)
    hostile = replace(given.gpus[0], name=EVIL, users=(GpuUser(EVIL, 5),))
    with person(browser) as page:
        page.on("dialog", lambda dialog: pytest.fail("a name ran as a script"))
        page.goto(address)
        post(web, "gpu17", gpus=(hostile,), idle=(IdleContainer(EVIL, 0.0),))
        page.locator("#now-gpu17 .who", has_text=EVIL).wait_for(timeout=10_000)
        assert page.locator("#cards img").count() == 0
        page.goto(f"{address}?text={EVIL}")
        assert page.locator("main img").count() == 0
        assert page.get_by_placeholder("server or GPU").input_value() == EVIL


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_fortnight_is_drawn_to_scale_and_says_the_same_in_words(
    browser: Browser, web: Web, address: str, scripts: bool
) -> None:
    now = time.time()
    given = load("gpu17", now, gpus=4)
    days = ReservedGpus("a", "ann", tuple(g.uuid for g in given.gpus[1:3]), now, now + 5 * DAY)
    web.parts.latest.post("gpu17", replace(given, reservations=(days,)))
    with person(
        browser, java_script_enabled=scripts, viewport={"width": 1280, "height": 800}
    ) as page:
        page.goto(f"{address}/reservations")
        card = page.locator("#server-gpu17")
        drawing = present(card.locator(".days").bounding_box())
        block = present(card.locator(".block").bounding_box())
        assert block["width"] / drawing["width"] == pytest.approx(5 / 15, abs=0.01)
        assert block["height"] / drawing["height"] == pytest.approx(2 / 5.4, abs=0.05)
        assert card.locator(".block text").text_content() == "Ann Lee"
        card.get_by_text("As a table").click()
        assert card.locator("tbody tr").inner_text().startswith("Ann Lee\t1-2\ttoday")


def test_a_reservation_comes_while_one_looks(browser: Browser, web: Web, address: str) -> None:
    now = time.time()
    given = load("gpu17", now, gpus=4)
    with person(browser) as page:
        page.goto(f"{address}/reservations")
        page.locator("#server-gpu18 .pill").evaluate("node => { node.marked = true; }")
        mine = ReservedGpus("a", "ann", (given.gpus[0].uuid,), now, now + DAY)
        web.parts.latest.post("gpu17", replace(given, reservations=(mine,)))
        page.locator("#server-gpu17 .block").wait_for(timeout=10_000)
        page.get_by_text("7 of 8 GPUs are unreserved now").wait_for()
        assert page.locator("#server-gpu18 .pill").evaluate("node => node.marked")
        page.get_by_placeholder("login or name").fill("ann")
        page.locator("#server-gpu18").wait_for(state="detached")
        assert page.locator(".card").count() == 1


def test_a_computer_with_another_clock_is_told(browser: Browser, address: str) -> None:
    with person(browser, timezone_id="Asia/Kathmandu") as page:
        page.goto(f"{address}/reservations")
        assert page.locator(".zone", has_text=re.compile(r"clock is \d+:\d\d h ")).count() == 1
    here = time.localtime().tm_gmtoff // 3600
    with person(browser, timezone_id=f"Etc/GMT{-here:+}") as page:
        page.goto(f"{address}/reservations")
        assert "clock" not in page.locator(".zone").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_every_page_of_it_fits_and_can_be_read(
    browser: Browser, web: Web, address: str, scheme: str, width: int
) -> None:
    home = address.removesuffix("/monitor")
    long = "An-unbroken-name-of-a-gpu-that-is-much-longer-than-any-phone-is-wide-and-then-some"
    given = with_mig(load("gpu17", time.time(), gpus=8, busy=0.8))
    given = replace(given, gpus=(replace(given.gpus[0], name=long), *given.gpus[1:]))
    given = with_reservations(given, time.time())
    first = replace(given.reservations[0], unused_since=time.time() - 9999, intruders=("bob",))
    given = replace(given, reservations=(first, *given.reservations[1:]))
    web.parts.latest.post("gpu17", replace(given, idle=(IdleContainer("bob", 0.0),)))
    web.parts.latest.silent("gpu18", GONE)
    reserved = ReservedGpus("1", "ann", (given.gpus[1].uuid,), 0.0, time.time() + 3600)
    for minute in range(200, 0, -1):
        at = time.time() - 60 * minute
        then = replace(given, at=at, interval=60.0, reservations=(reserved,))
        web.parts.history.note("gpu17", then, at)
    web.parts.history.flush()
    with person(browser, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        for path in ("/monitor", "/monitor/history", "/monitor/history?user=ann",
                     "/monitor/history?group=Vision", "/server/gpu17",
                     "/monitor/reservations", "/user/ann", "/"):  # fmt: skip
            page.goto(f"{home}{path}")
            page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
            assert page.evaluate(WIDER) == 0, path
            assert page.evaluate(UNREADABLE) == [], path
            assert page.evaluate(_SPILT) == [], path


def test_templates_to_choose_from_and_commands_are_whole_on_a_phone(
    browser: Browser, tmp_path: Path
) -> None:
    web, _ = make_monitored(tmp_path / "choice", 1)
    work = tmp_path / "choice" / "work"
    with (work / "servers" / "gpu17.yaml").open("a") as file:
        file.write("templates:\n  cuda-12: Debian 12 with CUDA 12.6 and PyTorch 2.5\n")
    push(work, "Offer")
    with served(web) as url, person(browser, viewport={"width": 360, "height": 800}) as page:
        for path, option in (("/server/gpu17", "cuda-12"), ("/user/ann", "--template cuda-12")):
            page.goto(f"{url}{path}")
            box = page.locator("code.whole", has_text=option).first.bounding_box()
            assert present(box)["height"] < 30
            cut = (
                "all => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)"
            )
            assert page.locator(".command pre:visible").evaluate_all(cut) == []
            assert page.evaluate(WIDER) == 0
            assert page.evaluate(UNREADABLE) == []
        page.goto(f"{url}/server/gpu17")
        assert page.get_by_text("debian-12, the default").is_visible()


_SPILT = """() => [...document.querySelectorAll(".card")].flatMap((card) => {
  // Nothing sticks out of its card: there is no scrolling to it.
  const edge = card.getBoundingClientRect().right;
  const cut = ".unseen, .who, h3, .mig-name, tbody th, dt";
  return [...card.querySelectorAll("*")]
    .filter((node) => node.getClientRects().length && !node.closest(cut))
    .filter((node) => node.getBoundingClientRect().right > edge)
    .map((node) => `${node.className} ${node.textContent}`);
})"""


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_past_weeks_of_a_group_by_a_click(
    browser: Browser, web: Web, address: str, scripts: bool
) -> None:
    given = load("gpu17", time.time(), gpus=2, busy=1)
    held = [
        replace(gpu, users=(GpuUser(("ann", "chi")[n], 5),)) for n, gpu in enumerate(given.gpus)
    ]
    web.hear(replace(given, gpus=tuple(held), users=()), 60)
    with person(browser, java_script_enabled=scripts) as page:
        page.goto(f"{address}/history")
        page.get_by_role("link", name="Vision").click()
        page.get_by_role("heading", name="Vision, week by week").wait_for()
        assert page.get_by_role("link", name="Ann Lee").is_visible()
        assert page.get_by_role("link", name="Chi Nguyen").count() == 0
        page.locator("select[name=group]").select_option("others")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="Chi Nguyen").wait_for()
        with page.expect_download() as download:
            page.get_by_role("link", name="Save as CSV").click()
        assert "Chi Nguyen" in download.value.path().read_text()
        assert "Ann Lee" not in download.value.path().read_text()


def test_a_hundred_servers_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    web, names = make_monitored(tmp_path / "many", 100)
    for name in names:
        web.parts.latest.post(name, load(name, time.time()))
    with served(web) as url, person(browser, viewport={"width": 390, "height": 844}) as page:
        page.goto(f"{url}/monitor")
        assert page.locator(".card").count() == 100
        assert page.evaluate(WIDER) == 0
        assert page.evaluate(_SPILT) == []
        assert not page.locator("details[open]").count()
        page.locator("#server-gpu20 summary").click()
        web.parts.latest.post("gpu20", load("gpu20", time.time() + 1))
        page.wait_for_timeout(5000)
        assert page.locator("details[open]").count() == 1
