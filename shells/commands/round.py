"""Runs a round in a program of its own, for the root helper. It doesn't load the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from reconciler.host.config import read_server_config
from reconciler.plan import AnyKind
from reconciler.rounds.order import KINDS
from reconciler.rounds.round import Scope, run_round
from state.errors import LxcGpuError
from state.wire import messages


def main(argv: Sequence[str], news: bytes = b"") -> int:
    """Run a round for `--user USER` and `--kind KIND`, printing JSON lines. The exit status.

    `news` came with a nudge (`state.git.news`).
    """
    options = tuple(zip(argv[::2], argv[1::2], strict=True))  # getopt would load gettext, 4 ms
    if not {name for name, _ in options} <= {"--kind", "--user"}:
        raise ValueError(f"neither --kind nor --user: {argv}")
    names = tuple(value for name, value in options if name == "--kind")
    return in_json(names, dict(options).get("--user"), news)


def in_json(names: Sequence[str], user: str | None, news: bytes = b"") -> int:
    """Run a round, and write its progress and its report to stdout. The exit status."""
    try:
        scope = replace(scope_of(names, user), news=news)
        report = run_round(read_server_config(), scope, _send)
    except LxcGpuError as error:
        _send(messages.refusal(error))
        return 1
    _send(report)
    return 0 if report.converged or report.suspended else 1


def scope_of(names: Sequence[str], user: str | None) -> Scope:
    """The scope of a round for these options. LxcGpuError if there is no such kind."""
    return Scope(kinds_called(names), user, whole=not (user or names))


def kinds_called(names: Sequence[str]) -> tuple[AnyKind, ...]:
    """The kinds with these names, in the order of rounds; without names, all."""
    known = {kind.name: kind for kind in KINDS}
    if unknown := [name for name in names if name not in known]:
        raise LxcGpuError(
            "usage", f"There is no kind {unknown[0]}.", f"The kinds: {', '.join(known)}."
        )
    return tuple(kind for name, kind in known.items() if not names or name in names)


def _send(message: messages.Message) -> None:
    """Write a JSON line. The round goes on even if the reader has gone."""
    try:
        sys.stdout.write(messages.encode(message))
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
