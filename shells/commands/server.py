"""Commands for sysadmins on a GPU server: plan, reconcile, status."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from shells.terminal import Terminal
from state.errors import LxcGpuError
from state.plain import to_plain
from state.wire import messages
from state.words import plural

if TYPE_CHECKING:
    from reconciler.plan import Planned

_JSON = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on stdout.")
_USER = click.option("--user", help="Only changes for this user.")
_KIND = click.option(
    "--kind",
    "names",
    multiple=True,
    metavar="KIND",
    help="Only changes of this kind; may be repeated.",
)


@click.command()
@_JSON
@_USER
@_KIND
def plan(as_json: bool, user: str | None, names: tuple[str, ...]) -> None:
    """Show what `reconcile` would change on this server. Changes nothing.

    Ends with 1 if `reconcile` would do so for what can be seen already.
    """
    from reconciler.host.config import read_server_config
    from reconciler.host.published import published_view
    from reconciler.host.suspension import suspension
    from reconciler.plan import plan as planned_for
    from reconciler.rounds.newest import newest_view
    from shells.commands.round import kinds_called

    require_root()
    newest = newest_view(read_server_config(), published_view())
    lines = planned_for(kinds_called(names), newest.view, user)
    if newest.refused:
        Terminal().note(f"The newest revision is not taken: {newest.refused}")
    held = suspension()
    if held is not None:
        Terminal().note(_suspended_text(held.words()))
    if as_json:
        facts = {
            "revision": newest.view.revision,
            "refused": newest.refused,
            "suspended": held.words() if held else "",
            "plan": to_plain(lines),
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print_plan(newest.view.revision, lines, "reconcile" if held is None else "resume")
    sys.exit(1 if newest.refused or any(line.failure for line in lines) else 0)


@click.command()
@_JSON
@_USER
@_KIND
def reconcile(as_json: bool, user: str | None, names: tuple[str, ...]) -> None:
    """Fetch the newest revision now, and change this server accordingly."""
    from shells.commands.round import in_json

    require_root()
    sys.exit(in_json(names, user) if as_json else _in_words(names, user))


def _in_words(names: Sequence[str], user: str | None) -> int:
    """Run a round, and print it for people. The exit status."""
    from reconciler.host.config import read_server_config
    from reconciler.rounds.round import run_round
    from shells.commands.round import scope_of

    terminal = Terminal()
    report = run_round(read_server_config(), scope_of(names, user), terminal.progress)
    terminal.result(_report_text(report))
    return 0 if report.converged or report.suspended else 1


@click.command()
@_JSON
@click.option("--fleet", is_flag=True, help="Show the whole fleet, also on a GPU server.")
@click.option("--page", metavar="URL", help="The address of the lab's web page. Default: "
              "LXC_GPU_PAGE, or `page:` in fleet.yaml of the current clone.")  # fmt: skip
def status(as_json: bool, fleet: bool, page: str | None) -> None:
    """Show the status of this server; elsewhere, that of the whole fleet, from its web page."""
    from reconciler.host import places

    if fleet or page or not places.SERVER_CONFIG.exists():
        from shells.commands.fleet_status import show

        show(page, as_json=as_json)
    else:
        _show_this_server(as_json)


def _show_this_server(as_json: bool) -> None:
    """Print the result of the last round here."""
    from reconciler.host.status import read_status
    from reconciler.host.suspension import suspension

    report, held = read_status(), suspension()
    if report is None:
        raise LxcGpuError(
            "no-status", "No round has ended on this machine yet.", "Run `lxc-gpu reconcile`."
        )
    if held is not None:
        report = report._replace(suspended=held.words())
    if as_json:
        click.echo(json.dumps({**to_plain(report), "converged": report.converged}))
    else:
        Terminal().result(f"{_report_text(report)}\nThe round ended {_ago(report.finished)}.")
        for line in _ready_systems():
            Terminal().result(line)


def _ready_systems() -> list[str]:
    """Lines about templates of which a system is ready; none if this isn't root."""
    from reconciler.host.published import published_view
    from reconciler.rounds.keep_spares import ready

    view = published_view()
    if view is None or os.geteuid() != 0:
        return []
    try:
        found = ready(view)
    except (LxcGpuError, OSError):  # rounds report what is wrong with the disk
        return []
    return [f"Systems from {one.template}: {one.words()}." for one in found if view.spares]


def require_root() -> None:
    """LxcGpuError unless this runs as root."""
    if os.geteuid() != 0:
        raise LxcGpuError(
            "not-root",
            "This command needs root: it reads and changes the whole server.",
            "Use sudo.",
        )


def _print_plan(revision: str, lines: tuple[Planned, ...], by: str) -> None:
    """Print what a round would do; the command `by` runs one."""
    terminal = Terminal()
    if not lines:
        terminal.result(f"Nothing to do: this server is as revision {revision[:10]} says.")
        return
    changes = [line for line in lines if line.failure is None]
    failures = [line.failure for line in lines if line.failure is not None]
    width = max((len(line.kind) for line in changes), default=0)
    for line in changes:
        terminal.result(f"{line.kind:<{width}}  {line.words}")
    for failure in failures:
        terminal.result(_failure_text(failure))
    terminal.note(_outlook(revision[:10], len(changes), len(failures), by))


def _outlook(revision: str, changes: int, failures: int, by: str) -> str:
    """What a round would come to."""
    makes = f"; `lxc-gpu {by}` makes {'it' if changes == 1 else 'them'}" if changes else ""
    words = f"{plural(changes, 'change')} to revision {revision}{makes}."
    if not failures:
        return words
    return f"{words} {plural(failures, 'failure')}: `lxc-gpu {by}` fails in the same way."


def _suspended_text(why: str) -> str:
    return f"SUSPENDED, so nothing is changed: {why}; `lxc-gpu resume` ends it"


def _failure_text(failure: messages.Failure) -> str:
    words = " ".join(f"{failure.message} {failure.hint}".split())
    return f"FAILED {failure.about}: {words} ({failure.code})"


def _report_text(report: messages.Report) -> str:
    lines = [f"  {change}" for change in report.changes]
    lines += map(_failure_text, report.failures)
    if report.suspended:
        lines.append(_suspended_text(report.suspended))
    lines += [f"  drifted {_ago(d.when)}: {d.words}" for d in report.drift if not report.changes]
    if report.refused:
        lines.append(f"REFUSED the newest revision: {report.refused}")
    changes = {0: "nothing to change", 1: "1 change"}.get(
        len(report.changes), f"{len(report.changes)} changes"
    )
    word = "converged" if report.converged else "NOT converged"
    return "\n".join(
        [
            *lines,
            f"{report.server}: {word} at revision {report.revision[:10]}, {changes}, "
            f"{report.seconds:.2f} s",
        ]
    )


def _ago(when: float) -> str:
    """How long ago that was, in words."""
    seconds = max(0, round(time.time() - when))
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"
