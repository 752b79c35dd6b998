"""Checks which old homes of people containers can't see, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.doctor.server import CheckedServer
from reconciler.mounts import old_homes, sources
from reconciler.mounts.old_homes import OldHomeResult
from state.errors import LxcGpuError
from state.view import View
from state.wire.findings import Area, Finding

area = Area("mounts")
MOST_NAMED = 10


def shown(server: CheckedServer) -> Iterator[Finding]:
    """Which old homes are found, which are left alone, and whether their owners can be mapped."""
    if server.view is None:
        return
    mounts = {s: m for s, m in sources.all_mounts(server.view).items() if m.access == "home"}
    for mount in mounts.values():
        try:
            sources.examined(mount)
        except LxcGpuError as error:
            yield area.wrong(f"{error.message} ({error.code})", error.hint)
    if mounts:
        found = old_homes.look(server.view, server.view.residents)
        yield from _maps(found)
        yield from _grouped(server.view, found)


def _maps(found: Mapping[str, Mapping[str, OldHomeResult]]) -> Iterator[Finding]:
    """Try one home of each source, not the source itself: homes may be on other file systems."""
    homes = {s: each.home for of in found.values() for s, each in of.items() if each.home}
    for source, home in sorted(homes.items()):
        try:
            old_homes.try_to_map(source, home)
        except LxcGpuError as error:
            yield area.wrong(f"{error.message} ({error.code})", error.hint)


def _grouped(view: View, found: Mapping[str, Mapping[str, OldHomeResult]]) -> Iterator[Finding]:
    """One finding for each kind of problem: its people, and the message of the first."""
    problems: dict[str, dict[str, LxcGpuError]] = {}
    for user, of in sorted(found.items()):
        for each in of.values():
            if each.problem is not None:
                problems.setdefault(each.problem.code, {})[user] = each.problem
    for code, of_whom in sorted(problems.items()):
        people, first = [*of_whom], next(iter(of_whom.values()))
        named = ", ".join(people[:MOST_NAMED]) + (", ..." if people[MOST_NAMED:] else "")
        yield area.note(
            f"Containers start without the old homes of {len(people)} of {len(view.residents)} "
            f"users ({code}): {named}. The first: {first.message}",
            first.hint,
        )
    clear = sum(
        any(each.home and each.problem is None for each in of.values()) for of in found.values()
    )
    yield area.ok(f"old homes of {clear} of {len(view.residents)} users are found")
