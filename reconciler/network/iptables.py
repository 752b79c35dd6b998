"""Our chains in iptables: observed with iptables-save, replaced with one iptables-restore.

iptables-restore(8): with --noflush, a chain that is declared is emptied and filled again in the
same transaction, and no other chain is touched. Rules are compared as iptables-save prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reconciler.network.generation import generation
from state import command

_SAVE = "iptables-save"
WAIT = "--wait=10"
"""Seconds to wait for other programs that change the tables (Docker, ufw)."""


class Table(NamedTuple):
    """One table: the rules of each chain, in order, without their `-A CHAIN`."""

    chains: Mapping[str, tuple[str, ...]]


def parse(text: str) -> Mapping[str, Table]:
    """The tables by name, as iptables-save(8) prints them."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:], {})
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ")[0], [])
        elif line.startswith("-A "):
            chain, _, rule = line.removeprefix("-A ").partition(" ")  # empty: it only counts
            chains.setdefault(chain, []).append(rule)
    return {
        table: Table({name: tuple(rules) for name, rules in chains.items()})
        for table, chains in tables.items()
    }


def read(table: str) -> Table:
    """The table `nat` or `filter` as it is now."""
    return _read().get(table, Table({}))


@dataclass
class _Known:
    """What was read last."""

    state: tuple[int, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)


_known = _Known()


def _read(timeout: float = 60) -> Mapping[str, Table]:
    """All tables. They are read again only if the kernel's rules, or the program, have changed.

    Three kinds look at them in each round, the watcher every five seconds. Rules of the old
    iptables (iptables-legacy) aren't nftables rules: they are read each time.
    """
    now = _state()
    if not now or now != _known.state:
        text = command.run([_SAVE], timeout=timeout).stdout
        of_nftables = "(nf_tables)" in text.partition("\n")[0]
        _known.tables = parse(text)
        _known.state = now if of_nftables and _state() == now else ()
    return _known.tables


def _state() -> tuple[int, ...]:
    """What is another one once other rules would be read; empty if it isn't known.

    That is the kernel's count of changes, and the program: update-alternatives(1) chooses it.
    """
    count = generation()
    for folder in command.SEARCH_PATH.split(":"):
        with suppress(OSError):
            program = Path(folder, _SAVE).stat()
            found = (program.st_dev, program.st_ino, program.st_mtime_ns)
            return () if count is None else (count, *found)
    return ()


def remember(timeout: float) -> None:
    """Read them now, for processes that this one forks later.

    Those read them again only if the kernel's rules were changed meanwhile. LxcGpuError if that
    can't be done within `timeout` seconds.
    """
    if _state():
        _read(timeout)


def replace(table: str, chains: Mapping[str, Sequence[str]], extra: Sequence[str] = ()) -> None:
    """Give each of `chains` exactly these rules, then run the `extra` lines; all or nothing."""
    lines = [f"*{table}"]
    lines += [f":{chain} - [0:0]" for chain in chains]
    lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
    text = "\n".join([*lines, *extra, "COMMIT"]) + "\n"
    command.run(["iptables-restore", "--noflush", WAIT], stdin=text)
