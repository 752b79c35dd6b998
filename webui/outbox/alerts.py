"""Alerts for sysadmins: one when something has been wrong for a while, one when it is over. Pure.

What isn't known changes nothing: for a silent server, and after a start of the page, no trouble
begins and none is over.
A server's own sentences are shown only on the page, under the server's name. Whoever takes a server
over can put only single words into an alert, which form no address and no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from state.wire.server_load import FileSystem, ServerLoad
from webui.monitor.heard.latest import LastHeard
from webui.outbox.letters import Letter
from webui.servers.board import Phase, ServerStanding

FULL, ROOM_AGAIN = 0.95, 0.92
"""Shares of a disk in use: trouble begins at the first, and is over below the second."""
_MOST_LINES = 60
_Judge = Callable[["ServerTrouble", bool, str], None]
"""Takes a trouble, whether it is present, and its words."""
_WORD, _VERSION = re.compile(r"[A-Za-z0-9/_-]{1,40}"), re.compile(r"[0-9.]{1,20}")


class AlertKind(StrEnum):
    """What can be wrong with a server."""

    SILENT = "silent"
    FAILING = "failing"
    DRIVER = "driver"
    DISK = "disk"


LASTS: Mapping[AlertKind, float] = {
    AlertKind.SILENT: 600.0,
    AlertKind.FAILING: 1200.0,
    AlertKind.DRIVER: 600.0,
    AlertKind.DISK: 600.0,
}
"""Seconds that each has to last before it is reported, and again before its end is. A round is
asked for every ten minutes, so two rounds have to fail."""


@dataclass(frozen=True, order=True)
class ServerTrouble:
    """One thing that is or may be wrong."""

    server: str
    kind: AlertKind
    place: str = ""
    """The mount point of a disk; empty for everything else."""


@dataclass(frozen=True)
class LookResult:
    """The result of one look at all servers."""

    wrong: Mapping[ServerTrouble, str]
    """Each with its words."""
    well: frozenset[ServerTrouble]
    """What is certainly not wrong. Of everything else, nothing is known."""


@dataclass(frozen=True)
class Known:
    """What was reported, and what may be reported soon."""

    said: Mapping[ServerTrouble, str] = field(default_factory=dict)
    """What sysadmins were told is wrong, in those words."""
    since: Mapping[ServerTrouble, float] = field(default_factory=dict)
    """Since when a trouble differs from what was reported."""


@dataclass(frozen=True)
class AlertNews:
    """What changed, for one letter. Both may be empty."""

    begun: tuple[str, ...] = ()
    over: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.begun or self.over)


def look(
    servers: Collection[str],
    seen: Mapping[str, LastHeard],
    standings: Mapping[str, ServerStanding],
    said: Collection[ServerTrouble],
) -> LookResult:
    """What is wrong with `servers`. `said` are the reported troubles, which may be over."""
    wrong: dict[ServerTrouble, str] = {}
    well: set[ServerTrouble] = set()

    def judge(trouble: ServerTrouble, bad: bool, words: str) -> None:
        if bad:
            wrong[trouble] = words
        else:
            well.add(trouble)

    for server in servers:
        now = seen.get(server)
        if now is not None and (now.silent_since is not None or now.load is not None):
            silent = now.silent_since is not None
            judge(ServerTrouble(server, AlertKind.SILENT), silent, f"{server} is silent")
            if now.load is not None and not silent:
                own = [t for t in said if t.server == server and t.kind is AlertKind.DISK]
                _judge_load(server, now.load, own, judge)
        standing = standings.get(server)
        if standing is not None and standing.outcome.phase is not Phase.UNREACHABLE:
            _judge_round(server, standing, judge)
    return LookResult(wrong, frozenset(well))


def _judge_load(server: str, load: ServerLoad, own: list[ServerTrouble], judge: _Judge) -> None:
    driver = load.driver
    loaded, installed = map(_version, (driver.loaded, driver.installed))
    words = (
        f"{server}: NVIDIA's kernel module is version {loaded}, but its libraries are {installed}."
        " A reboot loads the matching module."
    )
    judge(ServerTrouble(server, AlertKind.DRIVER), not driver.in_step, words)
    mounted = {each.mounted for each in load.file_systems}
    for disk in load.file_systems:
        share = _share(disk)
        if not ROOM_AGAIN <= share < FULL:
            words = f"{server}: the disk at {_one_word(disk.mounted)} is {share:.0%} full"
            judge(ServerTrouble(server, AlertKind.DISK, disk.mounted), share >= FULL, words)
    for trouble in own:
        if load.file_systems and trouble.place not in mounted:  # it was unmounted
            judge(trouble, False, "")


def _judge_round(server: str, standing: ServerStanding, judge: _Judge) -> None:
    report = standing.report
    if report is None or report.suspended:
        return
    why = "; ".join(
        f"{said.about}: {_one_word(said.code)}"
        for said in (
            each._replace(kind=_one_word(each.kind), name=_one_word(each.name))
            for each in report.failures[:3]
        )
    )
    words = f"{server}: rounds fail: {'it refuses the newest revision' if report.refused else why}"
    judge(ServerTrouble(server, AlertKind.FAILING), bool(report.refused or report.failures), words)


def after(
    known: Known, sight: LookResult, servers: Collection[str], now: float, *, quiet: bool = False
) -> tuple[Known, AlertNews]:
    """What is known after a look, and what to report. Troubles of other servers are forgotten.

    If `quiet`, there is nothing to report yet.
    """
    said = {t: words for t, words in known.said.items() if t.server in servers}
    otherwise = {t for t in sight.wrong if t not in said} | {t for t in sight.well if t in said}
    unsure = {t for t in known.since if t not in sight.wrong and t not in sight.well}
    since = {
        t: min(known.since.get(t, now), now) for t in otherwise | unsure if t.server in servers
    }
    ready = (t for t in otherwise if t in since and now - since[t] >= LASTS[t.kind])
    due = [] if quiet else sorted(ready)
    begun = tuple(sight.wrong[t] for t in due if t not in said)
    over = tuple(_over(t) for t in due if t in said)
    for trouble in due:
        del since[trouble]
        if trouble in said:
            del said[trouble]
        else:
            said[trouble] = sight.wrong[trouble]
    return Known(said, since), AlertNews(begun, over)


def letter(news: AlertNews, public_url: str) -> Letter:
    """The letter that reports the news to sysadmins."""
    lines = [*news.begun, *news.over]
    subject = lines[0] if len(lines) == 1 else f"{len(lines)} changes on the GPU servers"
    text = "\n\n".join(_parts(news, public_url))
    return Letter(f"[lxc-gpu] {subject[:120]}", text + "\n")


def _parts(news: AlertNews, public_url: str) -> Iterator[str]:
    for title, lines in (("Wrong now:", news.begun), ("Over:", news.over)):
        if lines:
            more = [f"... and {len(lines) - _MOST_LINES} more"] * (len(lines) > _MOST_LINES)
            yield "\n".join([title, *(f"* {each}" for each in (*lines[:_MOST_LINES], *more))])
    yield (
        f"All servers and their messages: {public_url}/servers\n"
        "-- \nYou get this because /etc/lxc-gpu/web.toml names you ([mail] sysadmins, or\n"
        "[webhook]). Each problem is reported once, and once more when it is over."
    )


def _over(trouble: ServerTrouble) -> str:
    match trouble.kind:
        case AlertKind.SILENT:
            return f"{trouble.server} is heard again"
        case AlertKind.FAILING:
            return f"{trouble.server}: rounds succeed again"
        case AlertKind.DRIVER:
            return f"{trouble.server}: NVIDIA's module and libraries match again"
        case AlertKind.DISK:
            return f"{trouble.server}: the disk at {_one_word(trouble.place)} has room again"


def _share(disk: FileSystem) -> float:
    return disk.used / disk.total if disk.total else 0.0


def _one_word(word: str) -> str:
    """`word`, or `?` if a server said anything but a word."""
    return word if _WORD.fullmatch(word) else "?"


def _version(text: str) -> str:
    return text if _VERSION.fullmatch(text) else "?" if text else "none"
