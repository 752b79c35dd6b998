"""Runs a program to which raw systems look shifted: `over.py FIRST SIZE SLOT... -- PROGRAM...`.

Root starts it by its path. The program itself becomes the user later (setpriv(1)).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reconciler.mounts.tree import Tree, cover


def over(trees: Sequence[Tree], argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` so that it sees these systems of one container shifted."""
    raw = [tree for tree in trees if tree.raw]
    if not raw:
        return list(argv)
    ids = [str(raw[0].first), str(raw[0].size)]
    slots = [str(tree.slot) for tree in raw]
    return ["/usr/bin/python3", "-IS", str(Path(__file__).resolve()), *ids, *slots, "--", *argv]


def main(argv: Sequence[str]) -> None:
    """Become the program. OSError if it can't be."""
    end = argv.index("--")
    first, size, *slots = argv[:end]
    cover([Tree(Path(slot), int(first), int(size)) for slot in slots])
    program = argv[end + 1 :]
    os.execvp(program[0], list(program))  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
