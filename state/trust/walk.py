"""Verifies a revision: judges every commit from the last verified revision to it.

The walk follows first parents. Each commit is judged by its difference from its first parent, and
by the signers in that parent. The other parents of a merge are never looked at: their content
counts as the merge's own change. A chain that doesn't lead to the last verified revision is
refused, however well it is signed. So a revoked key can't get in by a fork from before its
revocation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from state.errors import LxcGpuError
from state.git.plumbing import GitError
from state.git.repository import Repository
from state.model.documents import Fleet, Signer, State
from state.model.keys import PublicKey
from state.reading.problems import joined
from state.trust.lineage import (
    MOST_COMMITS,
    BadCommitError,
    ChangedPath,
    CommitObject,
    commits,
    differences,
    first_parents,
    pairs,
)
from state.trust.policy import judge
from state.trust.replay import Fleets, Replay, UnreadableStateError
from state.trust.signatures import BadSignatureError, signed_by
from state.trust.trailers import allow_disable

_SIGN = (
    "Sign what you commit: git config gpg.format ssh, user.signingKey ~/.ssh/id_ed25519.pub and"
    " commit.gpgSign true; then `git commit --amend --no-edit`."
)
_ASK = "fleet.yaml says whose signature counts, and for what; an admin can make this change."


class RevisionRefusedError(LxcGpuError):
    """A revision with a commit that its signer may not make. The message names it and says why."""


@dataclass(frozen=True)
class Judged:
    """A commit that its signer may make."""

    commit: CommitObject
    signer: Signer


@dataclass(frozen=True)
class Walked:
    """What was verified, the oldest commit first."""

    commits: tuple[Judged, ...] = ()

    @property
    def allow_disable(self) -> int:
        """The most that the signed trailers of admins let a round disable."""
        numbers = (
            allow_disable(j.commit.message) for j in self.commits if j.signer.role == "admin"
        )
        return max(numbers, default=0)


def walk(repository: Repository, verified: str, tip: str) -> Walked:
    """Judge every commit after `verified` up to `tip`, both full ids.

    RevisionRefusedError if `tip` doesn't follow `verified`, or for the first commit that its
    signer may not make. Whether the state at `tip` is sound is not asked here.
    """
    if verified == tip:
        return Walked()
    try:
        base, *chain = _chain(repository, verified, tip)
        return _Walk(repository, base.tree, chain).judged()
    except BadCommitError as error:
        raise _refused("revision-malformed", f"{error}.", _ASK) from None


def begin(repository: Repository, tip: str) -> Walked:
    """Judge a whole history, from its first commit, which names the admin who signed it."""
    try:
        root, *chain = first_parents(repository.git, tip)
    except BadCommitError as error:
        raise _refused("revision-malformed", f"{error}.", _ASK) from None
    if root.parents:
        raise _refused(
            "revision-rewound", f"{root} isn't a first commit.", "Push all of the history."
        )
    signer = _signer(root, repository.read(root.revision).fleet)
    if signer.role != "admin":
        raise _no_right(root, signer, ("may not make a first commit",))
    rest = _Walk(repository, root.tree, chain).judged().commits
    return Walked((Judged(root, signer), *rest))


def signature_in_words(repository: Repository, revision: str) -> str:
    """The signer of a revision, by its own state: for people who decide whether to trust it."""
    try:
        (commit,) = commits(repository.git, [revision])
        fleet = Fleets(repository).read(Fleets(repository).at(commit.tree))
        signer = _signer(commit, fleet)
    except RevisionRefusedError as error:
        return error.message
    except (BadCommitError, UnreadableStateError) as error:
        return f"{revision[:10]}: {error}"
    return f"{commit}, signed by {signer.name} ({signer.role}), {signer.key.fingerprint}"


def _chain(repository: Repository, verified: str, tip: str) -> Sequence[CommitObject]:
    """`verified`, and the commits after it up to `tip`. RevisionRefusedError if they don't meet."""
    try:
        chain = first_parents(repository.git, tip, verified)
    except GitError:
        if repository.git.ask(("cat-file", "-e", f"{verified}^{{commit}}")).status == 0:
            raise
        chain = ()  # it isn't here
    if len(chain) > 1 and all(b.parents[:1] == (a.revision,) for a, b in pairwise(chain)):
        return chain
    if len(chain) > MOST_COMMITS:
        raise _refused("revision-far", f"{tip[:10]} is too many commits away.", _ASK)
    raise _refused(
        "revision-rewound",
        f"The first parents of {tip[:10]} do not lead to {verified[:10]}, the last revision that"
        " was verified here: history was rewound, or a fork was put in its place.",
        "Undo by `git revert`, never by force; merge other work into main, not main into it. If the"
        " rewinding is meant, on each server: setup/gpu-server --trust REVISION",
    )


class _Walk:
    """One chain of commits on top of the tree `base`."""

    def __init__(self, repository: Repository, base: str, chain: Sequence[CommitObject]) -> None:
        self._repository = repository
        self._base = base
        self._chain = chain
        self._changed = differences(repository.git, tuple(pairs(base, chain))) if chain else ()
        self._fleets = Fleets(repository)
        self._replay: Replay | None = None

    def judged(self) -> Walked:
        """Every commit with its signer. RevisionRefusedError for the first that is refused."""
        found = []
        entry = self._fleets.at(self._base) if self._chain else ("", "")
        for place, commit in enumerate(self._chain):
            before = self._fleet(commit, entry)
            signer = _signer(commit, before)
            entry = _fleet_entry(self._changed[place], entry)
            after = self._fleet(commit, entry)
            if reasons := self._reasons(place, signer, before, after):
                raise _no_right(commit, signer, reasons)
            found.append(Judged(commit, signer))
        return Walked(tuple(found))

    def _fleet(self, commit: CommitObject, entry: tuple[str, str]) -> Fleet:
        try:
            return self._fleets.read(entry)
        except UnreadableStateError as error:
            message = f"{commit}: who may sign can't be read there: {error}."
            hint = "Every single commit has to keep fleet.yaml sound: squash them into one."
            raise _refused("revision-unreadable", message, hint) from None

    def _reasons(self, place: int, signer: Signer, before: Fleet, after: Fleet) -> tuple[str, ...]:
        changed = self._changed[place]
        if signer.role == "admin":  # may change everything: only the remaining signers are checked
            reasons = judge(State(before), State(after), signer)
        else:
            try:
                reasons = judge(*self._states(place), signer, [entry.path for entry in changed])
            except UnreadableStateError as error:
                reasons = (f"may not change a state that can't be read ({error})",)
        return reasons

    def _states(self, place: int) -> tuple[State, State]:
        """The states before and after the commit at `place`."""
        if self._replay is None:
            tree = self._chain[place - 1].tree if place else self._base
            later = [entry for each in self._changed[place:] for entry in each]
            self._replay, self._at = Replay(self._repository, tree, later), place
        while self._at < place:
            self._replay.advance(self._changed[self._at])
            self._at += 1
        before = self._replay.state()
        self._replay.advance(self._changed[place])
        self._at = place + 1
        return before, self._replay.state()


def _fleet_entry(changed: Sequence[ChangedPath], before: tuple[str, str]) -> tuple[str, str]:
    """Mode and blob of fleet.yaml after a commit that `changed` this."""
    found = (
        ("", "") if not e.blob else (e.mode, e.blob) for e in changed if e.path == "fleet.yaml"
    )
    return next(found, before)


def _signer(commit: CommitObject, fleet: Fleet) -> Signer:
    """The signer in `fleet` whose key signed `commit`. RevisionRefusedError if there is none."""
    if commit.signature is None:
        raise _refused("revision-unsigned", f"{commit}: it is unsigned.", _SIGN)
    try:
        key = signed_by(commit.payload, commit.signature)
    except BadSignatureError as error:
        message = f"{commit}: its signature {error}."
        raise _refused("revision-bad-signature", message, _SIGN) from None
    signer = next((each for each in fleet.signers if each.key == key), None)
    if signer is None:
        raise _stranger(commit, key, fleet)
    return signer


def _stranger(commit: CommitObject, key: PublicKey, fleet: Fleet) -> RevisionRefusedError:
    names = joined([f"{each.name} ({each.role})" for each in fleet.signers] or ["nobody"])
    return _refused(
        "revision-stranger",
        f"{commit}: it is signed by a stranger, {key.type} {key.fingerprint}."
        f" Who may sign is {names}.",
        "An admin adds a new key to the signers in fleet.yaml first, in a commit of its own.",
    )


def _no_right(commit: CommitObject, signer: Signer, reasons: Sequence[str]) -> RevisionRefusedError:
    shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if reasons[5:] else "")
    message = f"{commit}: signed by {signer.name}, which {shown}."
    return _refused("revision-role", message, _ASK)


def _refused(code: str, message: str, hint: str) -> RevisionRefusedError:
    return RevisionRefusedError(code, message, hint)
