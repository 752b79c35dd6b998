"""Which servers a page shows, and in which order, by the parameters of its address. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from webui.monitor.shown.cards import MonitorCard

LONGEST = 100
"""Letters of a search text, at most."""


class SortOrder(StrEnum):
    """What servers are sorted by."""

    NAME = "name"
    FREE = "free"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class Choice:
    """The servers to show."""

    free: bool = False
    """Only servers with a free GPU."""
    user: str = ""
    """Only servers where this person runs something: a login, or words of the full name."""
    text: str = ""
    """Only servers with this text in their name, or in the name of a GPU or a person."""
    order: SortOrder = SortOrder.NAME

    @property
    def everything(self) -> bool:
        """Whether no server is left out."""
        return not (self.free or self.user or self.text)


def choice(words: Mapping[str, str]) -> Choice:
    """The choice that the parameters of an address make. Invalid ones are ignored."""
    user = (words.get("user") or words.get("me") or "").strip()[:LONGEST]
    text = words.get("text", "").strip()[:LONGEST]
    order = words.get("sort", "")
    free = words.get("free", "") not in ("", "0")
    return Choice(free, user, text, SortOrder(order) if order in set(SortOrder) else SortOrder.NAME)


def chosen(cards: Iterable[MonitorCard], wanted: Choice) -> tuple[MonitorCard, ...]:
    """The cards that are wanted, sorted. Those with unknown values come last.

    Cards of the same rank stay in the given order.
    """
    kept = (card for card in cards if _fits(card, wanted))
    return tuple(sorted(kept, key=lambda card: _place(card, wanted.order)))


def in_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key for names that puts gpu2 before gpu10."""
    parts = re.findall(r"\d+|\D+", name, re.ASCII)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


def _fits(card: MonitorCard, wanted: Choice) -> bool:
    user, text = wanted.user.casefold(), wanted.text.casefold()
    return (
        (not wanted.free or card.free > 0)
        and (not user or user in card.people or any(_part(user, each) for each in card.people))
        and text in card.texts
    )


def _part(user: str, name: str) -> bool:
    """Whether `user` is one or more whole words of `name`."""
    return f" {user} " in f" {name} "


def _place(card: MonitorCard, order: SortOrder) -> float:
    if order is SortOrder.FREE:
        return -card.free
    if order is SortOrder.CPU:
        return 1 if card.cpu is None else -card.cpu
    if order is SortOrder.GPU:
        return 1 if card.gpu is None else -card.gpu
    return 0
