"""Pictures for the documents: the IAM page by Chromium, a terminal by rich. See docs/pictures/make.

terminal.svg shows what a terminal shows in the end: each command ran on the lab's laptop with a
terminal of its own (script(1)), and what progress had overwritten is left out.
"""

from __future__ import annotations

import base64
import re
import sys
from io import StringIO
from pathlib import Path

import monitor
from laboratory import lifecycle
from laboratory.demo.browser import browser
from laboratory.demo.play import play
from laboratory.demo.story import NAME
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER, places
from laboratory.progress import ProgressLines
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH, HEIGHT = 760, 765
COLUMNS = 94
FETCH = "curl -fsS http://iam.mylab.com/user/lqchen/.ssh/known_hosts -o ~/.ssh/lxc-gpu.known_hosts"
IN_A_TERMINAL = """
fifo=$(mktemp -u); mkfifo "$fifo"; exec 3<>"$fifo"; rm "$fifo"
script -qec "$1" /dev/null <&3
"""
SESSION = (
    f"ssh register@gpu18-manage {NAME}",
    FETCH,
    "ssh gpu18-manage",
    "ssh gpu18 'whoami; sudo whoami; hostname'",
    "ssh gpu18-manage status",
)
SIDE_BY_SIDE = """
<!doctype html>
<body style="margin:0;display:flex;align-items:flex-start;gap:14px;background:#8a93a0;padding:14px">
{images}</body>
"""


def pages(lab: Lab) -> None:
    """A user's page, in the light and in the dark, side by side."""
    with browser() as chromium:
        shots = []
        for scheme in ("light", "dark"):
            page = chromium.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme
            )
            page.goto(f"{lab.web_url.rstrip('/')}/user/{NAME}")
            shots.append(base64.b64encode(page.screenshot()).decode())
        both = chromium.new_page(viewport={"width": 1200, "height": 800})
        half = f"width:{(1200 - 42) // 2}px;border-radius:6px"
        images = "".join(
            f'<img style="{half}" src="data:image/png;base64,{shot}">\n' for shot in shots
        )
        both.set_content(SIDE_BY_SIDE.format(images=images))
        both.locator("body").screenshot(path=HERE / "iam-page.png")
        home = chromium.new_page(viewport={"width": 860, "height": 300}, color_scheme="light")
        home.goto(lab.web_url)
        home.screenshot(path=HERE / "home-page.png", full_page=True)


def terminal(lab: Lab) -> None:
    """The commands of SESSION and what they print."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    laptop = lab.host("laptop")
    for line in SESSION:
        argv = ["bash", "-c", IN_A_TERMINAL, "bash", line]
        shown = laptop.run(argv, user=LAPTOP_USER, timeout=180, check=False).stdout
        console.print(Text("$ ", style="bold green") + Text(line, style="bold"))
        console.print(Text.from_ansi(_as_left_behind(shown)), end="\n\n" if shown.strip() else "\n")
    svg = console.export_svg(title=f"{NAME}@laptop", theme=MONOKAI, unique_id="lxc-gpu")
    # No font from somewhere else: the viewer's own fixed-width one will do.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "monospace").replace("Fira Code", "monospace")
    (HERE / "terminal.svg").write_text(svg)


def _as_left_behind(shown: str) -> str:
    """What is on the screen when a program has ended: overwritten lines are gone."""
    lines = (line.rpartition("\x1b[2K")[2].strip("\r") for line in shown.split("\n"))
    return "\n".join(lines).strip("\n")


def main() -> None:
    """Take all pictures; of a lab that the story was played in, with --lab NAME."""
    given = sys.argv[1:]
    if given[:1] != ["--lab"]:
        with browser() as chromium:
            monitor.take(chromium)
    if given == ["--monitor"]:
        return
    lab = Lab(places(given[1] if given[:1] == ["--lab"] else "pictures"))
    if not given:
        play(lab)
    try:
        pages(lab)
        terminal(lab)
    finally:
        if not given:
            with ProgressLines() as progress:
                lifecycle.down(lab, progress)


if __name__ == "__main__":
    main()
