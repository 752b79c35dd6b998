"""Our table in nftables: read with nft(8), replaced in one transaction.

What nft prints differs from what it was given, and from release to release. So the wanted table is
loaded into an empty network namespace and printed there, and the two prints are compared. A table
found to be as wanted isn't compared again until the kernel's rules change, nor are elements read
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.host import places
from reconciler.network.filters import IDENTITIES, PORTS, TABLE
from reconciler.network.generation import generation
from state import command
from state.files import read_text, write_file

NAME = " ".join(TABLE)
SHOW = ("nft", "--terse", "list", "table", *TABLE)
LOAD_AND_SHOW = ("sh", "-euc", 'nft --file -; exec "$@"', "sh", *SHOW)
"""Two runs of nft, as one would list the table as it was before."""
SETS = (PORTS, IDENTITIES)


class Element(NamedTuple):
    """One element of one of our sets."""

    of: str
    """The set's name."""
    value: str
    """In the syntax of nft, e.g. `"veth20031_*" . 02:00:0a:4d:00:21 . 10.77.0.33`."""
    owner: str
    """Its comment: the user."""


def shown() -> str | None:
    """The table without the sets' elements, as nft prints it; None if it isn't there."""
    done = command.run(SHOW, check=False)
    return done.stdout if done.ok else None


def found(wanted: str) -> str | None:
    """`wanted` itself if the table is as wanted; else what `shown` says."""
    number = generation()
    note = f"{number}\n{wanted}"
    if number is not None and read_text(places.RULES_COMPARED) == note:
        return wanted
    there = shown()
    if there is None or there != in_words_of_nft(wanted):
        return there
    if number is not None and generation() == number:
        with suppress(OSError):  # then it is compared again
            write_file(places.RULES_COMPARED, note)
    return wanted


def in_words_of_nft(text: str) -> str:
    """How nft prints the table `text` once it is loaded."""
    return command.run(["unshare", "--net", *LOAD_AND_SHOW], stdin=text).stdout


@dataclass
class _Known:
    """What was read last."""

    number: int | None = None
    """The kernel's count of changes then; None: it isn't known."""
    elements: tuple[Element, ...] = ()


_known = _Known()


def elements(timeout: float = 60) -> tuple[Element, ...]:
    """All elements of our sets; none if the sets are missing. LxcGpuError if they can't be read.

    They are read again only if the kernel's rules have changed, by programs that may take
    `timeout` seconds each.
    """
    number = generation()
    if number is None or number != _known.number:
        _known.elements = _read(timeout)
        _known.number = number if generation() == number else None
    return _known.elements


def _read(timeout: float) -> tuple[Element, ...]:
    found: list[Element] = []
    for name in SETS:
        argv = ["nft", "--json", "list", "set", *TABLE, name]
        done = command.run(argv, check=False, timeout=timeout)
        if done.ok:
            found += parse(done.stdout)
        elif "No such file or directory" not in done.stderr:
            raise command.failure(done)  # unreadable is not empty: others would lose theirs
    return tuple(found)


def parse(text: str) -> tuple[Element, ...]:
    """The elements in what `nft --json list set` prints (libnftables-json(5))."""
    sets = [part["set"] for part in json.loads(text)["nftables"] if "set" in part]
    return tuple(_element(s["name"], given) for s in sets for given in s.get("elem", ()))


def _element(of: str, given: object) -> Element:
    inner = given.get("elem") if isinstance(given, dict) else None
    value, owner = (inner["val"], inner.get("comment", "")) if inner else (given, "")
    parts = value["concat"] if isinstance(value, dict) and "concat" in value else [value]
    first, *others = (part if isinstance(part, str) else json.dumps(part) for part in parts)
    return Element(of, " . ".join([f'"{first}"', *others]), owner)


def replace_table(text: str) -> None:
    """Replace our table by the table `text`; the sets keep their elements."""
    # the first line makes the table, as only an existing one can be deleted
    _load(f"table {NAME}\ndelete table {NAME}\n{text}", elements())


def replace_elements(wanted: Sequence[Element]) -> None:
    """Give both sets exactly these elements, all or nothing.

    Not one by one: nft 1.0.6 finds no wildcard to delete.
    """
    _load("".join(f"flush set {NAME} {name}\n" for name in SETS), wanted)


def _load(text: str, wanted: Sequence[Element]) -> None:
    by_set: Mapping[str, list[str]] = {name: [] for name in SETS}
    for e in wanted:
        by_set[e.of].append(f'{e.value} comment "{e.owner}"' if e.owner else e.value)
    adding = "".join(
        f"add element {NAME} {name} {{ {', '.join(values)} }}\n"
        for name, values in by_set.items()
        if values
    )
    command.run(["nft", "--file", "-"], stdin=text + adding)
