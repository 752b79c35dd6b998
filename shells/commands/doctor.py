"""`lxc-gpu doctor`: says what is wrong on this machine, and what to type. Changes nothing.

On a GPU server `reconciler.doctor` has the checks. On the web machine the web page has most of
them. They run in a program of their own, as the page's account, so that nothing here imports the
page.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import textwrap
from pathlib import Path

import click

from reconciler.host import places
from reconciler.host.published import published_view
from shells.terminal import Terminal
from state import command
from state.errors import LxcGpuError
from state.wire.findings import Area, Finding, Level, examine, from_json, to_json, worst_last
from state.words import plural

WEB_TOML = Path("/etc/lxc-gpu/web.toml")
WEB_ACCOUNT = "lxc-gpu"
WEB_LIMIT = 60.0
MARKS = {Level.OK: ("✓", "green"), Level.NOTE: ("!", "yellow"), Level.WRONG: ("✗", "red")}
WORDS = {Level.OK: "ok   ", Level.NOTE: "note ", Level.WRONG: "WRONG"}
"""Words in place of marks, for grep in a pipe."""
WIDEST = 100


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON on stdout.")
@click.option(
    "--user", metavar="NAME", help="On a GPU server: find why it doesn't work for this user."
)
@click.option(
    "--login", metavar="LOGIN", help="On the web machine: check whether this person can log in."
)
@click.option(
    "--mail", metavar="ADDRESS", help="On the web machine: send a test mail to this address."
)
def doctor(as_json: bool, user: str | None, login: str | None, mail: str | None) -> None:
    """Find what is wrong on this machine, and say what to type. Changes nothing."""
    if os.geteuid() != 0:
        raise LxcGpuError("not-root", "This checks the whole machine.", "Use sudo.")
    findings = _look(user, login, mail)
    if as_json:
        click.echo(to_json(findings))
    else:
        show(
            findings,
            Terminal(sys.stdout, sys.stdout),
            user or login or mail or socket.gethostname(),
        )
    sys.exit(1 if any(finding.level is Level.WRONG for finding in findings) else 0)


def _look(user: str | None, login: str | None, mail: str | None) -> list[Finding]:
    server, web = places.SERVER_CONFIG.exists(), WEB_TOML.exists()
    if not (server or web):
        raise LxcGpuError(
            "not-ours",
            "This machine is neither a GPU server of lxc-gpu nor its web machine.",
            "`setup/gpu-server` or `setup/web-server` makes it one.",
        )
    if (user and not server) or ((login or mail) and not web):
        where = "GPU server" if user else "web machine"
        raise LxcGpuError("usage", f"This machine is not a {where}.", f"Type that on a {where}.")
    if user:
        return _user(user)
    if login:
        return _web("--login", login)
    if mail:
        return _web("--mail", mail)
    return _server() if server else [*_iam(), *_web()]


def _server() -> list[Finding]:
    from reconciler.doctor.checks import SERVER
    from reconciler.doctor.server import this_server

    try:
        return examine(SERVER, this_server())
    except LxcGpuError as error:
        return [Area("config").wrong(error.message, error.hint)]


def _user(name: str) -> list[Finding]:
    from reconciler.doctor.checks import USER
    from reconciler.doctor.server import this_server
    from reconciler.doctor.user import CheckedUser

    view = published_view()
    if view is None:
        raise LxcGpuError("no-view", "No round has ended here yet.", "lxc-gpu doctor")
    user = name if name in view.registrants else view.user_of(name)  # ps(1) shows the account
    return examine(
        USER, CheckedUser(this_server(), view, user if user in view.registrants else name)
    )


def _iam() -> list[Finding]:
    from reconciler.doctor.checks import IAM

    return examine(IAM, None)


def _web(*options: str) -> list[Finding]:
    """Run the web page's own checks, as its account."""
    drop = ["runuser", "-u", WEB_ACCOUNT, "--"]
    argv: list[str | Path] = [
        *drop,
        sys.executable,
        "-I",
        "-m",
        "webui.doctor",
        "--config",
        WEB_TOML,
        *options,
    ]
    kept = {"HOME": str(places.KEPT)}
    done = command.run(argv, env=kept, cwd=Path("/"), timeout=WEB_LIMIT, check=False)
    try:
        return from_json(done.stdout)
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        text = f"The web page's own checks don't run: {last}"
        return [Area("page").wrong(text, "Run `setup/web-server` again.")]


def show(findings: list[Finding], terminal: Terminal, about: str) -> None:
    """Print a line for each finding, the worst last, with hints below that can be copied."""
    on_terminal = sys.stdout.isatty()
    width = min(WIDEST, shutil.get_terminal_size().columns) if on_terminal else 10_000
    area_width = max((len(finding.area) for finding in findings), default=0)
    for finding in worst_last(findings):
        if on_terminal:
            mark, color = MARKS[finding.level]
            begin, indent = terminal.paint(mark, color), 1
        else:
            begin = WORDS[finding.level]
            indent = len(begin)
        indent += area_width + 3
        first, *rest = _wrapped(finding.text, width - indent)
        print(f"{begin} {terminal.paint(f'{finding.area:<{area_width}}', 'dim')}  {first}")
        for line in rest:
            print(" " * indent + line)
        for line in _wrapped(finding.hint, width - indent - 2) if finding.hint else ():
            print(" " * indent + terminal.paint(f"  {line}", "bold"))
    print(f"\n{about}: {_count(findings, terminal)}")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 30), break_long_words=False, break_on_hyphens=False)


def _count(findings: list[Finding], terminal: Terminal) -> str:
    of = {level: sum(f.level is level for f in findings) for level in Level}
    notes = {0: "", 1: ", 1 note"}.get(of[Level.NOTE], f", {of[Level.NOTE]} notes")
    if not of[Level.WRONG]:
        return terminal.paint("nothing wrong", "green") + f" ({of[Level.OK]} ok{notes})"
    wrong = plural(of[Level.WRONG], "thing is wrong", "things are wrong")
    return terminal.paint(wrong, "red") + f" ({of[Level.OK]} ok{notes})"
