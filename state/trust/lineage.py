"""The commits between two revisions, and what each changed, in three calls of Git for all of them.

Only first parents are followed: `main` is what each commit made of the one before. What came in by
a merge counts as the merge's own change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from state.git.commits import shown
from state.git.plumbing import Plumbing, lost

MOST_COMMITS = 100_000
"""Looked at in one go."""
PLAIN_MODES = ("100644", "100755")
_ID = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
FULL_ID = re.compile(_ID, re.ASCII)
"""A whole commit id: nothing shorter is ever trusted."""
_HEAD = re.compile(
    rf"tree ({_ID})\n((?:parent {_ID}\n)*)author ([^\n]*)\ncommitter [^\n]*\n".encode(), re.ASCII
)


class BadCommitError(ValueError):
    """A commit object that no Git would write."""


@dataclass(frozen=True)
class CommitObject:
    """One commit, as it is stored."""

    revision: str
    tree: str
    parents: tuple[str, ...]
    author: str
    """The author's name, fit for a screen."""
    message: str
    payload: bytes
    """The signed text: the commit without its signature."""
    signature: bytes | None

    @property
    def subject(self) -> str:
        """The first line of the message, fit for a screen."""
        return shown(self.message.lstrip("\n").partition("\n")[0], 72)

    def __str__(self) -> str:
        return f"{self.revision[:10]} '{self.subject}' by {self.author}"


@dataclass(frozen=True)
class ChangedPath:
    """A path that a commit changed, as it is afterwards; no `blob` if it is gone."""

    path: str
    mode: str
    blob: str


def first_parents(git: Plumbing, tip: str, base: str = "") -> tuple[CommitObject, ...]:
    """The first parents of `tip`, itself included, as far as `base` doesn't contain them.

    The oldest comes first, after `base` itself if that is given. GitError if a commit is missing,
    BadCommitError for a malformed one.
    """
    excluded = [f"^{base}"] if base else []
    limit = f"--max-count={MOST_COMMITS}"
    listed = git.run("rev-list", "--first-parent", limit, "--end-of-options", tip, *excluded)
    return commits(git, [*filter(None, [base]), *listed.decode("ascii").split()[::-1]])


def commits(git: Plumbing, revisions: Sequence[str]) -> tuple[CommitObject, ...]:
    """The commits with these full ids."""
    answer = git.run("cat-file", "--batch", stdin="".join(f"{r}\n" for r in revisions).encode())
    found, at = [], 0
    for revision in revisions:
        head = answer[at : answer.index(b"\n", at)].split()
        if head[1:] == [b"missing"]:
            raise lost(revision)
        if len(head) != 3 or head[1] != b"commit":
            raise BadCommitError(f"{revision} isn't a commit")
        begin = at + len(b" ".join(head)) + 1
        at = begin + int(head[2]) + 1
        found.append(parse_commit(revision, answer[begin : at - 1]))
    return tuple(found)


def parse_commit(revision: str, content: bytes) -> CommitObject:
    """The commit in `content`. BadCommitError if it isn't in the one order that Git writes."""
    head, blank, message = content.partition(b"\n\n")
    found = _HEAD.match(head + b"\n")
    if found is None or not blank:
        raise BadCommitError(f"{revision} is malformed")
    kept, signature = _without_signature(revision, (head + b"\n")[found.end() :])
    author = found[3].decode("utf-8", "replace").partition(" <")[0]
    return CommitObject(
        revision=revision,
        tree=found[1].decode("ascii"),
        parents=tuple(found[2].decode("ascii").split()[1::2]),
        author=shown(author, 60),
        message=message.decode("utf-8", "replace"),
        payload=found[0] + kept + b"\n" + message,
        signature=signature,
    )


def _without_signature(revision: str, headers: bytes) -> tuple[bytes, bytes | None]:
    """The headers but the signature's, and the signature. Two of them are one too many."""
    wanted = b"gpgsig" if len(revision) == 40 else b"gpgsig-sha256"
    kept, signature, ours = bytearray(), bytearray(), False
    for line in (each + b"\n" for each in headers.split(b"\n")[:-1]):
        if line.startswith(b" "):
            (signature if ours else kept).extend(line[1:] if ours else line)
            continue
        name, _, value = line.partition(b" ")
        ours = name == wanted
        if name in (b"gpgsig", b"gpgsig-sha256") and (signature or not ours):
            raise BadCommitError(f"{revision} carries signatures that are not its own")
        (signature if ours else kept).extend(value if ours else line)
    return bytes(kept), bytes(signature) or None


def differences(
    git: Plumbing, trees: Sequence[tuple[str, str]]
) -> tuple[tuple[ChangedPath, ...], ...]:
    """What differs in the second tree of each pair, whatever attributes and configuration say."""
    asked = "".join(f"{old} {new}\n" for old, new in trees).encode()
    options = ("--raw", "-r", "-z", "--no-renames", "--no-abbrev", "--ignore-submodules=none")
    answer = git.run("diff-tree", "--stdin", *options, stdin=asked)
    groups: list[list[ChangedPath]] = []
    at = 0
    while at < len(answer):
        if answer[at : at + 1] == b":":
            meta, path, at = _entry_at(answer, at)
            gone = meta[4] == "D"
            groups[-1].append(ChangedPath(path, meta[1], "" if gone else meta[3]))
        else:
            groups.append([])
            at = answer.index(b"\n", at) + 1
    if len(groups) != len(trees):
        raise BadCommitError("Git compared another number of trees than it was asked to")
    return tuple(map(tuple, groups))


def _entry_at(answer: bytes, at: int) -> tuple[list[str], str, int]:
    middle = answer.index(b"\0", at)
    end = answer.index(b"\0", middle + 1)
    path = answer[middle + 1 : end].decode("utf-8", "surrogateescape")
    return answer[at + 1 : middle].decode("ascii").split(), path, end + 1


def pairs(base: str, chain: Sequence[CommitObject]) -> Iterator[tuple[str, str]]:
    """The trees of each commit's first parent and its own; `base` is that before the first."""
    for commit in chain:
        yield base, commit.tree
        base = commit.tree
