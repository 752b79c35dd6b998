"""The monitor's pages and events, by the whole application; loads are made up and posted."""

from __future__ import annotations

import csv
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.wrappers import Response

from state.errors import LxcGpuError
from state.wire.messages import LATEST
from state.wire.server_load import (
    GpuProblem,
    GpuUser,
    IdleContainer,
    ReservedGpus,
    ServerLoad,
    UserLoad,
)
from tests.generated_loads import load, with_reservations
from tests.integration.monitored import make_monitored
from tests.integration.web import Web, push, served, with_groups
from tests.patience import HANGS, cpu_seconds, eventually
from tests.present import present
from webui.pages.monitor import MONITORS, RESERVED
from webui.pages.monitor_history import TABLES

EVIL = '<script>alert("1")</script>'
GONE = LxcGpuError("gone", "No route to host.", "Is it up?")


@pytest.fixture
def web(tmp_path: Path) -> Web:
    return make_monitored(tmp_path, 2)[0]


def get(web: Web, path: str) -> str:
    with web.app.test_client().get(path) as answer:
        assert answer.status_code == 200
        return answer.get_data(as_text=True)


def first_event(web: Web, query: str = "") -> dict[str, Any]:
    with web.app.test_client().get(f"/monitor/events{query}") as answer:
        return told(first_piece(answer))


def first_piece(answer: Response) -> bytes:
    return next(pieces(answer))


def pieces(answer: Response) -> Iterator[bytes]:
    for piece in answer.response:
        assert isinstance(piece, bytes)
        yield piece


def told(event: bytes) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(event.partition(b"data: ")[2])
    return data


def test_before_anything_was_heard_every_page_works(web: Web) -> None:
    for path in (
        "/",
        "/monitor",
        "/monitor/history",
        "/monitor/reservations",
        "/server/gpu17",
        "/user/ann",
        "/user/New",
    ):
        assert get(web, path)
    assert get(web, "/monitor").count("not heard yet") == 2
    assert "There is nothing yet" in get(web, "/monitor/history")
    assert get(web, "/monitor/history.csv").count("\n") == 1


def test_what_is_heard_is_shown_and_silence_too(web: Web) -> None:
    web.parts.latest.post("gpu17", load("gpu17", time.time(), gpus=4, busy=0))
    web.parts.latest.silent("gpu18", GONE)
    page = get(web, "/monitor")
    assert "4 of 4 GPUs are free" in page
    assert re.search(r'href="#server-gpu17">gpu17: <strong>4 free', page)
    assert re.search(r'href="#server-gpu18">gpu18: not heard', page)
    assert "No route to host. " in page
    assert "4 of 4 GPUs free" in get(web, "/")
    assert "4 of 4 free" in get(web, "/server/gpu17")
    web.parts.latest.silent("gpu17", GONE)
    page = get(web, "/monitor")
    assert "No GPU is known" in page
    assert "was free" in page
    assert "Silent for" in get(web, "/")


def test_filters_stand_in_the_address_and_hold_for_events(web: Web) -> None:
    busy = load("gpu17", 0.0, gpus=2, busy=1)
    busy = replace(busy, gpus=tuple(replace(g, users=(GpuUser("ann", 5),)) for g in busy.gpus),
                   users=())  # fmt: skip
    web.parts.latest.post("gpu17", busy)
    web.parts.latest.post("gpu18", replace(load("gpu18", 0.0, gpus=2, busy=0), users=()))
    for query, there, missing in (
        ("?free=1", "gpu18", "gpu17"),
        ("?user=ann", "gpu17", "gpu18"),
        ("?me=Ann+Lee", "gpu17", "gpu18"),
        ("?text=18", "gpu18", "gpu17"),
    ):
        page = get(web, f"/monitor{query}")
        assert f'id="server-{there}"' in page
        assert f'id="server-{missing}"' not in page
        assert "1 of 2 servers are shown." in page
        event = first_event(web, query)
        assert (event["order"], list(event["cards"])) == ([there], [there])
    assert "No server matches" in get(web, "/monitor?text=nothing")


def test_reservations_of_all_servers_and_of_one(web: Web) -> None:
    now = time.time()
    given = with_reservations(load("gpu17", now, gpus=8, busy=0), now)
    web.parts.latest.post("gpu17", given)
    web.parts.latest.post("gpu18", load("gpu18", now, gpus=2))
    page = get(web, "/monitor/reservations")
    assert page.count('<svg class="days"') == 1
    assert "ssh gpu17-manage reserve 2 8h" in page
    assert "ssh gpu18-manage reserve 1 8h" in page
    assert "Nobody has reserved any of its 2 GPUs" in page
    assert "Times are in the web machine" in page
    first = given.reservations[0]
    assert re.search(r"reserved for <a [^>]*>[^<]+</a> until <time", get(web, "/monitor"))
    assert first.user in get(web, "/server/gpu17")
    alone = get(web, f"/monitor/reservations?user={first.user}")
    assert 'id="server-gpu17"' in alone
    assert 'id="server-gpu18"' not in alone
    assert get(web, "/monitor").count("/monitor/reservations") == 1
    web.parts.latest.silent("gpu17", GONE)
    assert "This is what was known then." in get(web, "/monitor/reservations")
    with web.app.test_client().get("/monitor/reservations/events") as answer:
        event = told(first_piece(answer))
    assert list(event["cards"]) == ["gpu17", "gpu18"]


def test_five_hundred_reservations_cost_the_monitor_little_and_are_drawn_once(web: Web) -> None:
    def told(count: int) -> ServerLoad:
        given = load("gpu17", time.time(), gpus=8)
        return replace(
            given,
            reservations=tuple(
                ReservedGpus(str(n), "ann", (given.gpus[n % 8].uuid,), begins, begins + 3600)
                for n in range(count)
                for begins in (given.at + 3600 * (n // 8),)
            ),
        )

    def cost(count: int) -> float:
        def look() -> None:
            web.parts.latest.post("gpu17", newest)
            get(web, "/monitor")

        newest = told(count)
        return cpu_seconds(look)

    get(web, "/monitor")
    assert cost(500) < 5 * cost(0)
    calendars = web.app.extensions[RESERVED]
    newest = told(500)
    web.parts.latest.post("gpu17", newest)
    before = calendars.fleet().cards["gpu17"]
    web.parts.latest.post("gpu17", replace(newest, at=newest.at + 1, users=()))
    assert calendars.fleet().cards["gpu17"].parts[0].html == before.parts[0].html
    assert cpu_seconds(calendars.fleet) < cost(500)
    assert len(before.parts[0].html) < 200_000


def test_announced_maintenance_is_drawn_and_leaves_no_gpu_free(web: Web) -> None:
    now = time.time()
    announce(web, "soon", now + 86_400, "The switch is changed.")
    for server in ("gpu17", "gpu18"):
        web.parts.latest.post(server, load(server, now, gpus=2, busy=0))
    page = get(web, "/monitor/reservations")
    assert page.count('class="block closed"') == 2
    assert page.count("Maintenance: The switch is changed.") == 2
    assert "4 of 4 GPUs are free" in get(web, "/monitor")
    announce(web, "now", now - 60, "A disk is changed.", "servers: [gpu17]")
    eventually(lambda: "2 of 4 GPUs are free" in get(web, "/monitor"))
    assert "A disk is changed." in get(web, "/monitor")
    page = get(web, "/monitor/reservations")
    assert page.count('class="block closed"') == 3
    assert "closed now" in page


def announce(web: Web, name: str, begins: float, text: str, more: str = "") -> None:
    first, last = (
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
        for moment in (begins, begins + 9e4)
    )
    work = web.folder / "work"
    (work / "announcements").mkdir(exist_ok=True)
    said = f"text: {text}\nfrom: {first}\nuntil: {last}\nstop: true\n{more}\n"
    (work / "announcements" / f"{name}.yaml").write_text(said)
    push(work, "Announce")


def test_a_server_without_gpus_has_no_reservations(web: Web) -> None:
    web.parts.latest.post("gpu17", load("gpu17", time.time(), gpus=0))
    assert 'id="server-gpu17"' not in get(web, "/monitor/reservations")
    assert "Reserved in the next fortnight" not in get(web, "/server/gpu17")


def test_whatever_a_server_says_stays_text(web: Web) -> None:
    given = load("gpu17", 0.0, gpus=2, busy=1)
    hostile = replace(given.gpus[0], name=EVIL, uuid=f'"{EVIL}', users=(GpuUser(EVIL, 5),))
    given = replace(
        given,
        gpus=(hostile, *given.gpus[1:]),
        gpu_problem=GpuProblem(EVIL, f"`{EVIL}`"),
        file_systems=tuple(replace(each, mounted=EVIL) for each in given.file_systems),
        disks=tuple(replace(each, name=EVIL) for each in given.disks),
        network=tuple(replace(each, name=EVIL) for each in given.network),
        users=(UserLoad(EVIL, 1.0, 5, 1), UserLoad("ann/../bob", 1.0, 5, 1)),
        idle=(IdleContainer(EVIL, 0.0), IdleContainer("lqchen", LATEST)),
        reservations=(
            ReservedGpus(EVIL, EVIL, (hostile.uuid,), 0.0, LATEST, LATEST, (EVIL, "lqchen")),
        ),
    )
    web.parts.latest.post("gpu17", given)
    for at in (time.time() - 65, time.time() - 60):
        web.parts.history.note("gpu17", given, at)
    web.parts.history.flush()
    event = json.dumps(first_event(web))
    get(web, "/user/lqchen")
    paths = ("/monitor", "/server/gpu17", "/monitor/history", "/monitor/reservations")
    for text in (event, *(get(web, path) for path in paths)):
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text
    assert "<script>alert" not in get(web, f"/monitor?text={EVIL}&user={EVIL}")


def test_past_weeks_by_person_and_server_and_as_csv(web: Web) -> None:
    history, now = web.parts.history, time.time()
    given = replace(load("gpu17", 0.0, gpus=2, busy=1), interval=60.0)
    given = replace(given, gpus=tuple(replace(g, users=(GpuUser("ann", 5),)) for g in given.gpus))
    for minute in range(31):
        history.note("gpu17", given, now - 60 * (40 - minute))
    history.flush()
    page = get(web, "/monitor/history")
    assert "Ann Lee" in page
    assert "1.0 hours" in page
    rows = list(csv.DictReader(get(web, "/monitor/history.csv?week=all&user=ann").splitlines()))
    assert {row["name"] for row in rows} == {"Ann Lee"}
    assert sum(float(row["gpu_hours"]) for row in rows) == pytest.approx(1.0, abs=0.05)
    alone = get(web, "/monitor/history?user=Ann+Lee&server=gpu17&week=1999-W01")
    assert "Ann Lee, week by week" in alone
    assert "By week" in alone
    assert "1.0 GPU-hours" in get(web, "/user/ann").replace("0.0 GPU-hours this week, 1.0", "1.0")
    assert "Nothing was used" in get(web, "/monitor/history?server=gpu18")


def hold(web: Web, seconds: float, **holders: str) -> None:
    """For so long until now, these GPUs were held by these people, by GPU: gpu0="ann"."""
    given = replace(load("gpu17", 0.0, gpus=2, busy=1), interval=60.0, users=())
    gpus = [
        replace(gpu, users=(GpuUser(holders[f"gpu{n}"], 5),) if f"gpu{n}" in holders else ())
        for n, gpu in enumerate(given.gpus)
    ]
    web.hear(replace(given, gpus=tuple(gpus)), seconds)


def test_past_weeks_by_group_as_a_page_as_csv_and_for_prometheus(web: Web) -> None:
    web = with_groups(web, {"Vision": "cn=v,dc=x", "Robotics": "cn=r,dc=x", "Sound": "cn=s,dc=x"})
    web.parts.history.belong({"ann": ("Robotics", "Vision"), "bob": ("Vision",), "chi": ()})
    hold(web, 3600, gpu0="ann", gpu1="chi")
    page = get(web, "/monitor/history")
    groups = present(re.search(r'id="groups".*?</table>', page, re.DOTALL))[0]
    order = re.findall(r'group=(\w+)" title=', groups)
    assert order == ["Robotics", "Sound", "Vision", "others"]
    assert groups.count("50 %") >= 3  # each of two people, and one of them twice
    assert "A person in several groups counts in each" in page
    alone = get(web, "/monitor/history?group=Vision")
    assert "Vision, week by week" in alone
    assert "Ann Lee" in alone
    assert "Chi Nguyen" not in alone
    assert "Chi Nguyen" in get(web, "/monitor/history?group=others")
    everything = "/monitor/history.csv?week=all&by=group"
    rows = list(csv.DictReader(get(web, everything).splitlines()))
    hours = {name: sum(float(r["gpu_hours"]) for r in rows if r["group"] == name) for name in order}
    expected = {"Robotics": 1, "Vision": 1, "others": 1, "Sound": 0}
    assert hours == pytest.approx(expected, abs=0.02)
    (people,) = {
        r["groups"]
        for r in csv.DictReader(get(web, "/monitor/history.csv?week=all&user=ann").splitlines())
    }
    assert people == "Robotics; Vision"
    metrics = get(web, "/metrics")
    assert re.search(
        r'lxc_gpu_group_gpu_seconds_total{server="gpu17",group="Vision"} 3\d\d\d', metrics
    )
    assert 'group="Sound"' not in metrics
    said = get(web, "/user/ann")
    assert "50\N{NO-BREAK SPACE}% of all" in said


def test_so_many_tables_are_sent_at_a_time_and_their_places_come_back(web: Web) -> None:
    hold(web, 600, gpu0="ann")
    client, path = web.app.test_client(), "/monitor/history.csv?week=all"
    for ask in [client.head, client.get] * (TABLES + 1):
        with ask(path) as answer:
            assert answer.status_code == 200
    held = [client.get(path) for _ in range(TABLES + 1)]
    assert [answer.status_code for answer in held] == [200] * TABLES + [503]
    for answer in held:
        answer.close()
    assert get(web, path)


def test_without_groups_nothing_is_said_of_any(web: Web) -> None:
    hold(web, 600, gpu0="ann")
    page = get(web, "/monitor/history?group=Vision")
    assert "By group" not in page
    assert "Ann Lee" in page
    assert "group=" not in get(web, "/metrics")
    assert get(web, "/monitor/history.csv?by=group").count("others") == 1


def test_who_left_stays_in_past_weeks_by_name(web: Web) -> None:
    hold(web, 3600, gpu0="ann")
    users, former = web.folder / "work" / "users", web.folder / "work" / "former"
    former.mkdir()
    text = (users / "ann.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(("keys", "  -"))]
    (former / "ann.yaml").write_text("\n".join(kept) + "\n")
    (users / "ann.yaml").unlink()
    push(web.folder / "work", "x")
    eventually(lambda: "ann" not in web.parts.source.newest().state.users)
    assert "Ann Lee" in get(web, "/monitor/history")


def test_a_user_s_page_says_what_they_hold(web: Web) -> None:
    given = load("gpu17", 0.0, gpus=2, busy=1)
    given = replace(
        given,
        gpus=tuple(replace(g, users=(GpuUser("ann", 2**30),)) for g in given.gpus),
        idle=(IdleContainer("ann", time.time() - 12 * 86_400),),
    )
    web.parts.latest.post("gpu17", given)
    page = get(web, "/user/ann")
    assert "GPU 0-1" in page
    assert "2.0 GiB" in page
    assert "12 days" in page
    assert "ssh gpu17-manage stop" in page


def test_live_monitors_have_so_many_places_and_give_them_back(web: Web) -> None:
    client = web.app.test_client()
    for _ in range(MONITORS + 5):
        with client.get("/monitor/events") as answer:
            assert answer.status_code == 200
    held = [client.get("/monitor/events") for _ in range(MONITORS + 1)]
    assert [answer.status_code for answer in held] == [200] * MONITORS + [503]
    for answer in held:
        answer.close()
    assert client.get("/save/x/events").status_code == 404  # of other pages, nothing was taken


def test_a_browser_that_goes_gives_its_place_back(web: Web) -> None:
    with served(web) as url:
        place = urlsplit(url)
        for number in range(MONITORS):
            with closing(socket.create_connection((place.hostname, place.port))) as browser:
                browser.sendall(b"GET /monitor/events HTTP/1.1\r\nHost: x\r\n\r\n")
                if not number:
                    assert b"event: fleet" in _read(browser, b"event: fleet")
        deadline = time.monotonic() + HANGS
        while time.monotonic() < deadline:
            web.parts.latest.post("gpu17", load("gpu17", time.monotonic()))
            if _free(web) == MONITORS:
                break
            time.sleep(0.5)
        assert _free(web) == MONITORS


def _read(browser: socket.socket, wanted: bytes) -> bytes:
    browser.settimeout(HANGS)
    text = b""
    while wanted not in text:
        text += browser.recv(65536)
    return text


def _free(web: Web) -> int:
    """How many places can be had now."""
    client = web.app.test_client()
    held = [client.get("/monitor/events") for _ in range(MONITORS)]
    for answer in held:
        answer.close()
    return sum(answer.status_code == 200 for answer in held)


def test_a_hundred_servers_are_a_page_of_sane_size_in_sane_time(tmp_path: Path) -> None:
    took = {}
    for count in (10, 100):
        web, names = make_monitored(tmp_path / str(count), count)
        for name in names:
            web.parts.latest.post(name, load(name, 1.0))
        page = get(web, "/monitor")
        took[count] = cpu_seconds(partial(get, web, "/monitor"))
    assert took[100] < 30 * took[10]
    assert page.count('class="card"') == 100
    assert len(page) < 1_500_000
    with web.app.test_client().get("/monitor/events") as answer:
        events = pieces(answer)
        assert len(told(next(events))["cards"]) == 100
        web.parts.latest.post(names[0], load(names[0], 3.0))
        second = next(events)
    changed = {each.partition("-")[2] for each in told(second)["parts"]}
    assert changed == {names[0]}
