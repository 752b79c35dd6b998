"""The files of one tree, straight from Git's object store, parsed once per blob."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from state.errors import LxcGpuError
from state.git.plumbing import Plumbing, lost
from state.model.layout import subject_of
from state.reading.problems import Problem
from state.reading.syntax import LARGEST_FILE, BadYamlError, Document, parse
from state.words import printable

MOST_FILES = 200_000
"""Files of ours in one tree, at most; a tree with more isn't a fleet's."""
_SPARE = 1000
"""Parsed blobs that are remembered beyond twice those that were asked for last."""
_BUFFERED = ("cat-file", "--buffer")
"""Else Git writes each object by itself, and we read ten thousand times."""


class TreeReader:
    """Reads trees by way of `git`, and remembers parsed blobs."""

    def __init__(self, git: Plumbing) -> None:
        self._git = git
        self._known: dict[str, Document] = {}
        self._sizes: dict[str, int] = {}
        """Of blobs of trees that were listed: who reads them needn't ask."""

    def files(self, tree: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        """The content of the files at `paths`, of those that exist."""
        entries = self._listed(tree, "--", *paths) if paths else iter(())
        blobs = {path: blob for _, blob, path in entries}
        contents = dict(self.contents(dict.fromkeys(blobs.values(), "")))
        return {path: contents[blob] for path, blob in blobs.items()}

    def blobs(self, tree: str) -> tuple[dict[str, str], list[Problem]]:
        """The blob ids of our files by path, and what isn't a plain file with a sane name."""
        blobs: dict[str, str] = {}
        problems: list[Problem] = []
        for mode, blob, path in self._listed("-r", tree):
            try:
                ours = subject_of(path) is not None
            except ValueError as error:
                problems.append(Problem(_shown(path), 0, str(error)))
                continue
            if ours and mode not in ("100644", "100755"):
                problems.append(Problem(path, 0, "must be a plain file, no link or submodule"))
            elif ours:
                blobs[path] = blob
        if len(blobs) > MOST_FILES:
            raise LxcGpuError("state-too-large", f"The state has more than {MOST_FILES} files.")
        return blobs, problems

    def documents(self, blobs: Mapping[str, str], problems: list[Problem]) -> dict[str, Document]:
        """The parsed files by path; what can't be parsed is added to `problems`."""
        parsed, wrong = self.parsed(blobs.values())
        problems += [Problem(p, *wrong[blob]) for p, blob in blobs.items() if blob in wrong]
        return {path: parsed[blob] for path, blob in blobs.items() if blob not in wrong}

    def parsed(
        self, blobs: Iterable[str]
    ) -> tuple[Mapping[str, Document], Mapping[str, tuple[int, str]]]:
        """What the blobs say, by id; of those that can't be parsed, the line and why."""
        wanted = dict.fromkeys(blobs, "")
        known = self._known
        fresh: dict[str, Document] = {}
        wrong: dict[str, tuple[int, str]] = {}
        for blob, content in self.contents({b: "" for b in wanted if b not in known}):
            try:
                fresh[blob] = parse(content)
            except BadYamlError as error:
                wrong[blob] = (error.line, str(error))
        if len(known) + len(fresh) > 2 * len(wanted) + _SPARE:
            known = {blob: known[blob] for blob in wanted if blob in known}
        self._known = {**known, **fresh}
        return self._known, wrong

    def entry(self, tree: str, path: str) -> tuple[str, str]:
        """Mode and object id of one path; both empty if it isn't there."""
        listed = self._listed(tree, "--", path)
        return next(((mode, found) for mode, found, _ in listed), ("", ""))

    def _listed(self, *words: str) -> Iterator[tuple[str, str, str]]:
        """Mode, object id and path of each entry that `git ls-tree WORDS` prints."""
        for entry in self._git.run("ls-tree", "-lz", "--full-tree", *words).split(b"\0"):
            if entry:
                head, _, path = entry.partition(b"\t")
                mode, _, found, size = head.decode("ascii").split()
                if size.isdecimal():  # of a folder or a damaged blob, Git says something else
                    self._sizes[found] = int(size)
                yield mode, found, path.decode("utf-8", "surrogateescape")

    def contents(self, blobs: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Each blob's content; of one that is too large only so much that it shows."""
        if not blobs:
            return
        self._learn_sizes([blob for blob in blobs if blob not in self._sizes])
        sane = []
        for blob in blobs:
            if self._sizes[blob] > LARGEST_FILE:
                yield blob, bytes(LARGEST_FILE + 1)
            else:
                sane.append(blob)
        if not sane:
            return
        answer = self._git.run(*_BUFFERED, "--batch", stdin="\n".join(sane).encode())
        at = 0
        for blob in sane:
            head, _, _ = answer[at : at + 200].partition(b"\n")
            if head.endswith(b" missing"):
                raise lost(blob)
            begin = at + len(head) + 1
            at = begin + int(head.split()[2])
            yield blob, answer[begin:at]
            at += 1

    def _learn_sizes(self, blobs: Sequence[str]) -> None:
        if not blobs:
            return
        asked = "\n".join(blobs).encode()
        sizes = self._git.run(*_BUFFERED, "--batch-check=%(objectname) %(objectsize)", stdin=asked)
        for blob, size in (line.split() for line in sizes.decode("ascii").splitlines()):
            if size == "missing":  # that is what Git says of a damaged one as well
                raise lost(blob)
            self._sizes[blob] = int(size)

    def content(self, blob: str) -> bytes:
        """The content of one blob."""
        return dict(self.contents({blob: ""}))[blob]


def _shown(path: str) -> str:
    return printable(path)
