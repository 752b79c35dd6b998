"""Pictures of the monitor, with GPUs that don't exist: loads are generated.

The page, its history and the browser are real. monitor.png: on a desk in the light, on a phone in
the dark; reservations.png: the same of the next fortnight; monitor-history.png: a week.
"""

from __future__ import annotations

import base64
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser

from state.errors import LxcGpuError
from state.wire.server_load import IdleContainer, ServerLoad
from tests.generated_loads import load, with_reservations
from tests.integration.monitored import FULL_NAMES, make_monitored
from tests.integration.web import Web, served, with_groups

HERE = Path(__file__).parent
SEEDS = {"gpu17": 10, "gpu18": 10, "gpu19": 11}
SIDE_BY_SIDE = """
<!doctype html>
<body style="margin:0;display:flex;align-items:flex-start;gap:16px;background:#8a93a0;padding:16px">
{images}</body>
"""


def take(chromium: Browser) -> None:
    """All pictures of the monitor."""
    kept = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # the page may still fetch
    with kept as folder, _page(Path(folder)) as url:
        _desk_and_phone(chromium, f"{url}/monitor", 905, "monitor.png")
        _desk_and_phone(chromium, f"{url}/monitor/reservations", 830, "reservations.png")
        week = _shot(chromium, f"{url}/monitor/history", 1000, 1275, "light")
        (HERE / "monitor-history.png").write_bytes(base64.b64decode(week))


def _desk_and_phone(chromium: Browser, address: str, height: int, name: str) -> None:
    """A page on a desk in the light, beside it on a phone in the dark."""
    desk = _shot(chromium, address, 1240, height, "light")
    phone = _shot(chromium, address, 390, height, "dark")
    both = chromium.new_page(viewport={"width": 1240 + 390 + 48, "height": height + 32})
    images = "".join(
        f'<img width="{width}" style="border-radius:8px" src="data:image/png;base64,{shot}">'
        for width, shot in ((1240, desk), (390, phone))
    )
    both.set_content(SIDE_BY_SIDE.format(images=images))
    both.locator("body").screenshot(path=HERE / name)


def _shot(chromium: Browser, address: str, width: int, height: int, scheme: str) -> str:
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_timeout(3000)  # the first event is there, and bars have moved
    shot = base64.b64encode(page.screenshot()).decode()
    page.close()
    return shot


@contextmanager
def _page(folder: Path):
    web, names = make_monitored(
        folder, len(SEEDS), {**FULL_NAMES, "bob": "Bob Archer", "ivo": "Ivo Petrov"}
    )
    web = with_groups(web, {name: f"cn={name},dc=mylab" for name in ("Robotics", "Vision")})
    vision = dict.fromkeys(("ann", "bob", "chi", "gus"), ("Vision",))
    robotics = dict.fromkeys(("dora", "hana"), ("Robotics",))
    web.parts.history.belong({**vision, **robotics, "emil": ("Robotics", "Vision")})
    now = time.time()
    for minute in range(24 * 60, -1, -1):
        at = now - 60 * minute
        for name in names:
            if not (name == "gpu18" and 300 < minute < 420):  # nothing was heard for two hours
                web.parts.history.note(name, replace(_load(name, at), interval=60.0), at)
    web.parts.history.flush()
    for name in names:
        most = {"gpu17": 34, "gpu18": 12}.get(name, 0)
        web.parts.latest.post(
            name, with_reservations(_load(name, now), now - now % 3600, most=most)
        )
    _fall_silent(web, names[-1])
    with served(web) as url:
        yield url


def _load(server: str, at: float) -> ServerLoad:
    gpus = 4 if server == "gpu18" else 8
    given = load(server, at, SEEDS[server], gpus=gpus, busy=0.75)
    idle = (IdleContainer("fay", at - 16 * 86_400),) if server == "gpu17" else ()
    return replace(given, idle=idle)


def _fall_silent(web: Web, server: str) -> None:
    web.parts.latest.silent(
        server,
        LxcGpuError("unreachable", f"{server} refuses connections on port 22.", "Is it up?"),
    )
