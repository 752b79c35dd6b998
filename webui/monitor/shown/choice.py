"""Which servers somebody wants to see, in which order: from the address of the page. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from webui.monitor.shown.cards import MonitorCard

LONGEST = 100
"""Letters of a word that is searched for."""


class SortOrder(StrEnum):
    """What comes first."""

    NAME = "name"
    FREE = "free"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class Choice:
    """What a page is asked for."""

    free: bool = False
    """Only servers with a free GPU."""
    user: str = ""
    """Only servers where this person runs something: a login, or a part of the full name."""
    text: str = ""
    """Only servers with this in their name, or in that of a GPU or a person."""
    order: SortOrder = SortOrder.NAME

    @property
    def everything(self) -> bool:
        """Whether no server is left out."""
        return not (self.free or self.user or self.text)


def choice(words: Mapping[str, str]) -> Choice:
    """What the parameters of an address ask for; what can't be understood asks for nothing."""
    user = (words.get("user") or words.get("me") or "").strip()[:LONGEST]
    text = words.get("text", "").strip()[:LONGEST]
    order = words.get("sort", "")
    free = words.get("free", "") not in ("", "0")
    return Choice(free, user, text, SortOrder(order) if order in set(SortOrder) else SortOrder.NAME)


def chosen(cards: Iterable[MonitorCard], wanted: Choice) -> tuple[MonitorCard, ...]:
    """Those of `cards` that are asked for, in order; what isn't known comes last.

    Those of the same rank stay as they are given: by name.
    """
    kept = (card for card in cards if _fits(card, wanted))
    return tuple(sorted(kept, key=lambda card: _place(card, wanted.order)))


def in_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort names by, which puts gpu2 before gpu10."""
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
    """Whether `user` is a whole word, or several, of a full name."""
    return f" {user} " in f" {name} "


def _place(card: MonitorCard, order: SortOrder) -> float:
    if order is SortOrder.FREE:
        return -card.free
    if order is SortOrder.CPU:
        return 1 if card.cpu is None else -card.cpu
    if order is SortOrder.GPU:
        return 1 if card.gpu is None else -card.gpu
    return 0
