"""Commit edits and push them: optimistically, again when somebody else was faster.

Fetch, apply the edit to the newest state, validate the whole, write blobs, tree and commit by
plumbing with an index of its own (no work tree), push. A push that lost the race is followed by
a new round with a new commit: the edit is applied to what the others made, never rebased.
A caller that has just read the newest state passes it as `base`: the remote takes a push only on
top of the revision that it was made for (`--force-with-lease`, git-push(1)), so a first fetch would
ask the same.

Edits that come at the same moment become a commit each, one on top of the other, and go with one
push: what a push costs (the hook starts a program, everything is read again) is paid once.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from state.edits.edit import Edit
from state.edits.render import render, touched
from state.errors import LxcGpuError, Remedy
from state.git.commits import MAIN, Author, Committed, shown
from state.git.plumbing import REMOTE_LIMIT, TOO_LONG, Answered, GitError, RemoteError, failure
from state.git.repository import Repository
from state.model.documents import Fleet, State
from state.model.layout import MODELS, subject_of
from state.reading.check import check
from state.reading.load import located
from state.reading.problems import StateInvalidError
from state.reading.syntax import parse
from state.words import printable

TRIES = 20
LONGEST_PAUSE = 2.0
"""Seconds between two tries, at most."""

_LOST_RACE = (
    "fetch first",
    "non-fast-forward",
    "stale info",
    "cannot lock ref",
    "failed to update ref",
    "incorrect old value",
    "reference already exists",
)


_CUT_OFF = (
    TOO_LONG,
    "the remote end hung up",
    "Connection reset",
    "Connection closed",
    "Broken pipe",
    "unexpected disconnect",
    "died of signal",
)
"""What Git says of a push that may have arrived."""


_HELD = re.compile(r"Unable to create '([^'\n]+\.lock)': File exists")


class RefusedError(LxcGpuError):
    """The remote's hook refused a commit; the message is the hook's."""


class UnansweredError(RemoteError):
    """A push got no answer: whether the remote took it isn't known."""


@dataclass(frozen=True)
class Proposal:
    """An edit, and whose it is."""

    edit: Edit
    author: Author


@dataclass(frozen=True)
class Base:
    """A revision that was the newest a moment ago, and its state."""

    revision: str
    state: State


Result = Committed | LxcGpuError


@dataclass(frozen=True)
class _Draft:
    """A change that is ready to be committed on top of `parent` (None: the first commit)."""

    parent: str | None
    state: State
    files: Mapping[str, bytes | None]
    message: str


def publish(
    repository: Repository,
    edit: Edit,
    author: Author,
    signing_key: Path | None = None,
    base: Base | None = None,
) -> Committed:
    """Apply `edit` to the newest state and push the result, as `author`.

    `signing_key` is the path of an ssh private key. A lost race is run again, a few times. With
    `base`, it fetches only if the push shows that `base` is outdated, or if there is nothing to
    push.
    LxcGpuError from the edit, StateInvalidError, RemoteError, or RefusedError with what the
    remote's hook said; in each case nothing was committed, but for UnansweredError.
    """
    (result,) = publish_all(repository, [Proposal(edit, author)], signing_key, base)
    if isinstance(result, LxcGpuError):
        raise result
    return result


def publish_all(
    repository: Repository,
    proposals: Sequence[Proposal],
    signing_key: Path | None,
    base: Base | None = None,
) -> tuple[Result, ...]:
    """Commit each proposal on top of the one before, push once; what came of each, in order.

    One that can't be made is left out and its result is its error: the others don't suffer.
    LxcGpuError if nothing could be published for anybody.
    """
    lock = ""
    for attempt in range(TRIES):
        began = time.monotonic()
        try:
            with repository.alone():
                chain = _Chain(repository, signing_key, base)
                results = tuple(chain.add(proposal) for proposal in proposals)
                if base is not None and not all(map(_changed, results)):
                    base = None  # what no push confirms is said of the newest state only
                    continue
                if not chain.grown:
                    return results
                base, obstacle = None, _push(repository, chain.begun_at, chain.tip)
                if obstacle is None:
                    return results
                lock = obstacle
        except RefusedError:
            if len(proposals) == 1:
                raise
            return tuple(_alone(repository, each, signing_key) for each in proposals)
        # A pause much shorter than one try would collide with the same rival again.
        longest = min(LONGEST_PAUSE, (time.monotonic() - began) * 1.5**attempt)
        time.sleep(random.uniform(0, longest))  # noqa: S311 (jitter, no secret)
    if lock:
        raise _locked(lock)
    raise LxcGpuError(
        "state-busy",
        f"The state changed {TRIES} times while this change was being made; nothing was saved.",
        "Try again.",
        Remedy.RETRY,
    )


def _alone(repository: Repository, proposal: Proposal, signing_key: Path | None) -> Result:
    """One proposal of several that the hook refused together: the valid ones get through."""
    try:
        return publish(repository, proposal.edit, proposal.author, signing_key)
    except LxcGpuError as error:
        return error


class _Chain:
    """Commits on top of the newest revision, not pushed yet. The caller holds the clone's lock."""

    def __init__(self, repository: Repository, signing_key: Path | None, base: Base | None) -> None:
        self._repository = repository
        self._signing_key = signing_key
        self._tip: str | None
        self._state: State | None
        if base is not None:
            self._tip, self._state = base.revision, base.state
        else:
            self._tip = repository.fetch_alone()
            self._state = repository.read(self._tip) if self._tip is not None else None
        self.begun_at = self._tip or ""
        """The revision below the chain; empty if there is none."""
        self.grown = False

    @property
    def tip(self) -> str:
        """The last commit. There is one: the chain has grown."""
        return self._tip or ""

    def add(self, proposal: Proposal) -> Result:
        """Commit one proposal."""
        try:
            draft = self._draft(proposal.edit)
            if isinstance(draft, Committed):
                return draft
            revision = _write_commit(self._repository, draft, proposal.author, self._signing_key)
        except LxcGpuError as error:
            if isinstance(error, GitError) and not self._repository.whole():
                raise  # it is the clone's trouble, not this proposal's
            return error
        self._tip, self._state, self.grown = revision, draft.state, True
        return Committed(revision, True, draft.state, draft.message)

    def _draft(self, edit: Edit) -> _Draft | Committed:
        tip, old, repository = self._tip, self._state, self._repository
        base = old if old is not None else State(fleet=Fleet(format=1))
        new = edit.apply(base)
        texts = repository.files(tip, touched(old, new)) if tip is not None else {}
        files = render(old, new, texts)
        if tip is not None and not files:
            return Committed(tip, False, base)
        _validate(repository, tip, new, files)
        return _Draft(tip, new, files, edit.message(base, new))


def _validate(
    repository: Repository, tip: str | None, new: State, files: Mapping[str, bytes | None]
) -> None:
    """Read back what will be written, and apply the rules to the whole of `new`."""

    def content(path: str) -> bytes:
        written = files.get(path)
        if written is not None:
            return written
        return repository.files(tip, (path,))[path] if tip is not None else b""

    for path, text in files.items():
        subject = subject_of(path)
        if text is not None and subject is not None:
            MODELS[subject.kind].model_validate(parse(text))
    if found := check(new):
        raise StateInvalidError(located(found, content))


def _write_commit(
    repository: Repository, draft: _Draft, author: Author, signing_key: Path | None
) -> str:
    git = repository.git
    with tempfile.TemporaryDirectory(prefix="lxc-gpu-index-") as folder:
        env = {"GIT_INDEX_FILE": f"{folder}/index"}
        if draft.parent is not None:
            git.run("read-tree", draft.parent, env=env)
        entries = []
        for path, content in draft.files.items():
            if content is None:
                entries.append(f"0 {'0' * 40}\t{path}\0")
            else:
                blob = git.word("hash-object", "-w", "--stdin", stdin=content)
                entries.append(f"100644 {blob}\t{path}\0")
        git.run("update-index", "-z", "--index-info", stdin="".join(entries).encode(), env=env)
        tree = git.word("write-tree", env=env)
    parents = ["-p", draft.parent] if draft.parent is not None else []
    signed: list[str] = []
    settings: list[str] = []
    if signing_key is not None:
        signed = ["-S"]
        settings = ["gpg.format=ssh", f"user.signingKey={signing_key.absolute()}"]
    words = ("commit-tree", *parents, *signed, "-F", "-", tree)
    answered = git.ask(
        words, stdin=f"{draft.message}\n".encode(), env=_people(author), settings=settings
    )
    if answered.status:
        raise _unsigned(words, answered) if signing_key is not None else failure(words, answered)
    return answered.output.decode("ascii").strip()


def _people(author: Author) -> dict[str, str]:
    return {
        "GIT_AUTHOR_NAME": _header_text(author.name) or "nobody",
        "GIT_AUTHOR_EMAIL": _header_text(author.email),
        "GIT_COMMITTER_NAME": "lxc-gpu",
        "GIT_COMMITTER_EMAIL": "lxc-gpu@localhost",
    }


def _header_text(text: str) -> str:
    """`text` without what would end a name or an address in a commit's header."""
    return printable(text, "", without="<>").strip()


def _unsigned(words: tuple[str, ...], answered: Answered) -> GitError:
    return GitError(
        "signing-failed",
        "The change could not be signed; nothing was saved.",
        "The signing key must be a readable ssh private key without a passphrase.",
        details=failure(words, answered).details,
    )


def _changed(result: Result) -> bool:
    return isinstance(result, Committed) and result.changed


def _push(repository: Repository, old: str, revision: str) -> str | None:
    """Push `revision` to the remote's main, if that is at `old` still. None if that is done.

    Else the lock file that stands in the way, or nothing: somebody was faster.
    """
    only_on = f"--force-with-lease={MAIN}:{old}"
    words = ("push", "--porcelain", "--no-verify", only_on, "origin", f"{revision}:{MAIN}")
    answered = repository.git.ask(words, limit=REMOTE_LIMIT)
    if answered.status == 0:
        repository.git.run("update-ref", MAIN, revision)
        return None
    said = answered.output.decode("utf-8", "replace")
    if "hook declined" in said:
        raise _refused(answered.errors)
    if "rejected]" in said and any(text in f"{said}\n{answered.errors}" for text in _LOST_RACE):
        held = _HELD.search(f"{said}\n{answered.errors}")
        return shown(str(Path(held[1]))) if held else ""
    error = failure(words, replace(answered, errors=f"{answered.errors}\n{said}"))
    killed = answered.status < 0
    if not killed and not any(text in answered.errors for text in _CUT_OFF):
        raise error
    if _arrived(repository, revision):
        return None
    raise UnansweredError(
        "state-unanswered",
        "The state repository did not answer in time. Whether the change is saved isn't known yet.",
        "Look again in a minute. To save the same once more does no harm.",
        Remedy.RETRY,
        error.details,
    )


def _arrived(repository: Repository, revision: str) -> bool:
    """Whether the remote has a commit after all, though the push's answer never came."""
    try:
        tip = repository.fetch_alone()
        return tip is not None and repository.is_ancestor(revision, tip)
    except LxcGpuError:
        return False


def _locked(path: str) -> LxcGpuError:
    return LxcGpuError(
        "state-locked",
        f"Git is running on the state repository, or was killed there and left {path}; nothing"
        " was saved.",
        "Try again in a minute: the next push removes it, if nobody holds it.",
        Remedy.WAIT,
    )


def _refused(errors: str) -> RefusedError:
    lines = [line.removeprefix("remote:").strip() for line in errors.splitlines()]
    said = [
        line
        for line, whole in zip(lines, errors.splitlines(), strict=True)
        if whole.startswith("remote:") and line
    ]
    return RefusedError(
        "state-refused",
        "The state repository refused the change:\n" + ("\n".join(said) or "it did not say why"),
        "Show this to your sysadmin; nothing was saved.",
        details=errors,
    )
