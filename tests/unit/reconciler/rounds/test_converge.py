"""Somebody's container keeps a round from nobody else's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from reconciler.host import locks, places
from reconciler.network import resolvers
from reconciler.plan import Change, Lock, Observed, Tell, plan
from reconciler.rounds import converge
from state.errors import LxcGpuError
from state.view import View
from state.wire.messages import NOBODY
from tests.present import present
from tests.unit.reconciler.views import RESIDENT, with_


class Marks:
    """A kind whose things are marks in a dict."""

    per_user = True

    def __init__(self, name: str, lock: Lock = Lock.USER) -> None:
        self.name, self.lock = name, lock
        self.made: dict[str, str] = {}

    def desired(self, view: View) -> Mapping[str, str]:
        return dict.fromkeys(view.residents, "mark")

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        return Observed(dict(self.made))

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        self.made |= {change.name: "mark" for change in changes}
        return {}

    def describe(self, change: Change[str]) -> str:
        return f"mark {change.name}"


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Marks, Marks]:
    monkeypatch.setattr(places, "LOCKS", tmp_path)
    monkeypatch.setattr(converge, "PATIENCE", 0.3)
    return Marks("first"), Marks("second")


def test_who_is_busy_for_long_delays_nobody_else(kinds: tuple[Marks, Marks]) -> None:
    view = with_(residents={"chen": RESIDENT, "mallory": RESIDENT})
    with locks.lock(locks.user_lock("mallory")):
        outcome = converge.converge(kinds, view)
    assert [set(kind.made) for kind in kinds] == [{"chen"}, {"chen"}]
    assert [(f.kind, f.name, f.code) for f in outcome.failures] == [
        ("first", "mallory", "busy"),
        ("second", "mallory", "busy"),
    ]
    assert converge.converge(kinds, view).failures == []
    assert [set(kind.made) for kind in kinds] == [{"chen", "mallory"}] * 2


def test_what_comes_after_the_container_waits_for_it(kinds: tuple[Marks, Marks]) -> None:
    """Who leaves keeps the address on the bridge until the container has said goodbye."""
    view = with_(residents={"chen": RESIDENT, "mallory": RESIDENT})
    first, last = kinds[0], Marks("last", Lock.GLOBAL)
    seen: list[set[str]] = []

    def current() -> bool:
        seen.append(set(last.made))
        return True

    with locks.lock(locks.user_lock("mallory")):
        outcome = converge.converge((first, last), view, current=current)
    assert [f.kind for f in outcome.failures] == ["first"]
    assert seen[-1] == {"chen"}, "mallory came last of all"
    assert set(last.made) == {"chen", "mallory"}


def test_what_is_to_be_left_alone_is_so_in_that_kind_only(kinds: tuple[Marks, Marks]) -> None:
    view = with_(residents={"chen": RESIDENT, "mallory": RESIDENT})
    assert converge.converge(kinds, view, leave={"first": ["mallory"]}).failures == []
    assert [set(kind.made) for kind in kinds] == [{"chen"}, {"chen", "mallory"}]


class Mistaken(Marks):
    """A kind with a mistake in it, that a container found."""

    def __init__(self, where: str) -> None:
        super().__init__(where)

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        if self.name == "observe":
            raise RecursionError
        return super().observe(view, names)

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        if changes[0].name == "ann":
            raise RecursionError
        return super().apply(view, changes, tell)


@pytest.mark.parametrize("where", ["observe", "apply"])
def test_a_mistake_in_one_kind_ends_no_others_work(kinds: tuple[Marks, Marks], where: str) -> None:
    view, mistaken = with_(residents={"ann": RESIDENT, "chen": RESIDENT}), Mistaken(where)
    outcome = converge.converge((kinds[0], mistaken, kinds[1]), view)
    assert [(f.kind, f.code) for f in outcome.failures] == [(where, "bug")]
    assert [set(kind.made) for kind in kinds] == [{"ann", "chen"}] * 2
    assert set(mistaken.made) == ({"chen"} if where == "apply" else set())
    told = plan((Mistaken("observe"),), view)
    assert [(line.kind, line.name, present(line.failure).code) for line in told] == [
        ("observe", NOBODY, "bug")
    ]


class Unwritable(Marks):
    """A kind of which one user can't be read, and nothing be written."""

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        return Observed({}, {"mallory": LxcGpuError("unread", "no")})

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        raise OSError("the disk is full")


def test_a_user_who_cannot_be_read_is_left_alone_though_nothing_could_be_written(
    kinds: tuple[Marks, Marks],
) -> None:
    view = with_(residents={"chen": RESIDENT, "mallory": RESIDENT})
    outcome = converge.converge((Unwritable("unwritable", Lock.GLOBAL), kinds[0]), view)
    assert {(f.name, f.code) for f in outcome.failures} == {("mallory", "unread"), ("-", "system")}
    assert set(kinds[0].made) == {"chen"}


class Unread(Marks):
    """A kind of which somebody, and something that is nobody's, can't be read."""

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        errors = {name: LxcGpuError("unread", f"not {name}", "Mend it.") for name in ("ann", "-")}
        return Observed(dict(self.made), errors)


@pytest.mark.parametrize("only", [None, "ann", "chen"])
def test_a_plan_says_what_a_round_will_fail_at(
    kinds: tuple[Marks, Marks], only: str | None
) -> None:
    view, unread = with_(residents={"ann": RESIDENT, "chen": RESIDENT}), Unread("unread")
    told = [line.failure for line in plan((unread, kinds[0]), view, only) if line.failure]
    assert told == converge.converge((unread, kinds[0]), view, only=only).failures
    assert [each.about for each in told] == {
        None: ["unread", "unread ann"], "ann": ["unread ann"], "chen": [],
    }[only]  # fmt: skip


class Undone(Marks):
    """A kind whose changes something else undoes, some times."""

    def __init__(self, times: int) -> None:
        super().__init__("undone")
        self.times = times

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        self.times -= 1
        return super().apply(view, changes, tell) if self.times < 0 else {}


def test_a_request_makes_its_change_again_if_it_is_undone_at_once() -> None:
    twice, ever = Undone(converge.TRIES - 1), Undone(converge.TRIES)
    converge.put_right(twice, with_(), "chen", "mark")
    assert twice.made == {"chen": "mark"}
    with pytest.raises(LxcGpuError) as caught:
        converge.put_right(ever, with_(), "chen", "mark")
    assert caught.value.code == "still-different"


def test_containers_ask_resolvers_that_they_can_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers have no IPv6, and loopback is their own."""
    file = tmp_path / "resolv.conf"
    file.write_text(
        "nameserver 2001:db8::53\nnameserver ::1\nnameserver 127.0.0.53\n"
        "nameserver fe80::1%eth0\nnameserver 172.16.2.3\nsearch x\n"
    )
    monkeypatch.setattr(resolvers, "FILES", (tmp_path / "none", file))
    assert resolvers.resolvers(with_()) == ("172.16.2.3",)
