"""What no state needs: files too large, dates that no calendar has, branches without end.

Commits are hostile, on any branch: what is pushed to one today is merged tomorrow, and pages,
servers and terminals read it forever. All that is new in a push is judged, by object.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence

from state.errors import LxcGpuError
from state.git.commits import LATEST, MAIN, shown
from state.git.plumbing import lost
from state.git.repository import Repository
from state.trust.lineage import BadCommitError, CommitObject, commits

MIB = 1 << 20
LARGEST = {"blob": MIB, "commit": MIB, "tree": 16 * MIB}
"""Bytes of one object; a file of the state has 64 KiB at most."""
MOST_BRANCHES = 100
MOST_BESIDES_MAIN = 64 * MIB
"""Bytes on disk, of all branches but main together."""
LEAST_FREE = 1024 * MIB
"""Bytes of the disk that are left to main."""
LONGEST_NAME = 100
SETTINGS = {
    "receive.maxInputSize": str(64 * MIB),
    "core.bigFileThreshold": str(MIB),
}
"""For Git itself, before the hook: how large a push may be; what is never held in memory whole."""

_DATE = re.compile(rb"> ([0-9]{1,12}) [+-]([0-9]{2})([0-9]{2})$")
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_AMEND = "Correct it (`git commit --amend`, `git rebase -i`), then push again."


class PushRefusedError(LxcGpuError):
    """A push that would break the state repository."""


def refused(message: str, hint: str = "") -> PushRefusedError:
    """The error that `message` says, which begins with what was pushed."""
    return PushRefusedError("push-refused", f"Refused: {message}", hint)


def judge_objects(repository: Repository, revisions: Sequence[str]) -> None:
    """Refuse objects that no state needs, of those that come with `revisions`."""
    listed = repository.git.run("rev-list", "--objects", *revisions, "--not", "--all")
    names = dict(line.partition(b" ")[::2] for line in listed.splitlines())
    shape = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    sizes = repository.git.run("cat-file", shape, stdin=b"\n".join(names))
    fresh = []
    for line in sizes.splitlines():
        name, kind, *rest = line.split()
        if not rest:
            raise lost(name.decode("ascii"))
        size, most = int(rest[0]), LARGEST.get(kind.decode("ascii"), 0)
        if size > most:
            path = shown(names[name].decode("utf-8", "replace")) or name.decode("ascii")
            what = f"has {size / MIB:.1f} MiB; the most is {most // MIB}"
            raise refused(f"{path} {what if most else 'is a tag'}.", _AMEND)
        if kind == b"commit":
            fresh.append(name.decode("ascii"))
    try:
        for commit in commits(repository.git, fresh):
            for reason in _reasons(commit):
                raise refused(f"{commit}: {reason}.", _AMEND)
    except BadCommitError as error:
        raise refused(f"{error}.", _AMEND) from None


def _reasons(commit: CommitObject) -> Iterator[str]:
    """What is wrong with what a commit says of itself."""
    for line in commit.payload.partition(b"\n\n")[0].split(b"\n"):
        name, _, value = line.partition(b" ")
        if name in (b"author", b"committer"):
            found = _DATE.search(value)
            seconds, hours, minutes = map(int, found.groups()) if found else (LATEST + 1, 0, 0)
            if seconds > LATEST or hours > 23 or minutes > 59:
                yield "its dates must be of the years 1970 to 9999"
        if name == b"encoding" and value.lower() not in (b"utf-8", b"utf8"):
            yield "its texts must be UTF-8 (git config --unset i18n.commitEncoding)"
    try:
        text = commit.payload.decode("utf-8")
    except UnicodeDecodeError:
        yield "its texts must be UTF-8"
    else:
        if _NO_TEXT.search(text):
            yield "control characters stand in its texts"


def judge_branches(repository: Repository, pushed: Sequence[tuple[str, str]], main: str) -> None:
    """Refuse branches besides main that take too much: `pushed` are revisions by their names.

    `main` is what that branch will be; empty if there is none.
    """
    for ref, _ in pushed:
        if len(ref) > LONGEST_NAME or not ref.isprintable():
            raise refused(
                f"{shown(ref)} can't be the name of a branch: {LONGEST_NAME} letters at most."
            )
    known = repository.git.run("for-each-ref", "--format=%(refname)").decode("utf-8", "replace")
    if len({*known.split(), *(ref for ref, _ in pushed)} - {MAIN}) > MOST_BRANCHES:
        raise refused(f"there are {MOST_BRANCHES} branches besides main.", _DELETE)
    without = ["--not", main] if main else []
    words = ("--disk-usage", "--objects", "--all", *(new for _, new in pushed), *without)
    if int(repository.git.word("rev-list", *words)) > MOST_BESIDES_MAIN:
        most = MOST_BESIDES_MAIN // MIB
        raise refused(f"all branches besides main may take {most} MiB together.", _DELETE)
    if shutil.disk_usage(repository.path).free < LEAST_FREE:
        raise refused("the disk is nearly full; what is left is for main.", _DELETE)


_DELETE = "Delete those that are merged: git push origin --delete BRANCH"
