"""Saves keys: checks the form and the password, commits, and nudges the servers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from state.edits.edit import Edit
from state.edits.users import follow_logins, name_of, save_keys
from state.errors import LxcGpuError, Remedy
from state.git.commits import Author
from state.model.documents import State
from state.model.keys import PublicKey
from state.model.pasted_keys import KeyProblemsError, parse_keys
from state.trust.signatures import BadSignatureError
from webui import events
from webui.directory.login import DirectoryPerson
from webui.directory.transport.connections import DirectoryDownError, NotAllowedError
from webui.events import Code
from webui.pages.page_owner import refuse_other_name, refuse_other_page
from webui.services import Services
from webui.words import wait_words

log = logging.getLogger(__name__)

LONGEST_PASTE = 200_000
"""Characters. 50 keys of the longest kind take 150,000."""


@dataclass(frozen=True)
class Form:
    """What was typed into the form. The password is never shown, logged or stored."""

    login: str
    password: str
    keys: str
    shown: str = ""
    """The `stamp` of the keys that the page showed."""
    proof: str = ""
    """Signatures that prove whose a key is."""
    name: str = ""
    """The name that the page told a newcomer."""

    def __repr__(self) -> str:
        return f"Form(login={self.login!r}, ...)"


class PasteError(LxcGpuError):
    """The pasted keys can't be saved, or not on this page."""


class ProofError(LxcGpuError):
    """A signature doesn't prove that the key is the person's."""


class SlowDownError(LxcGpuError):
    """There were too many tries to log in."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            "login-too-often",
            f"Too many tries: wait {wait_words(seconds)}, then try again.",
            "The password was not tried.",
            Remedy.WAIT,
        )


def stamp(keys: Iterable[PublicKey]) -> str:
    """A digest of `keys`, by which a save sees whether they changed since the page was shown."""
    text = "\n".join(str(key) for key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(services: Services, page: str, form: Form, address: str) -> str:
    """Save `form`, which was sent from the page at `page`; return the token of the progress page.

    `address`: the network address of the browser.

    LxcGpuError, worded for the form, if nothing was saved.
    """
    try:
        return _save(services, page, form, address)
    except LxcGpuError as error:
        said = {"code": error.code, "details": error.details or error.message}
        events.warning(log, Code.REFUSED, user=log_word(form.login), source=address, **said)
        raise


def _save(services: Services, page: str, form: Form, address: str) -> str:
    if len(form.keys) > LONGEST_PASTE:
        raise PasteError(
            "paste-too-long",
            f"The pasted text is too long for ssh keys (limit: {LONGEST_PASTE:,} characters).",
        )
    keys = parse_keys(form.keys)
    person = authenticate(services, form.login, form.password, address)
    proven = _proven(services, form)
    edit = _edit(services, page, person, keys, proven, form)
    mail = person.mail or f"{person.login}@users.invalid"
    committed = services.source.publish(edit, Author(person.full_name, mail))
    name = edit.user(committed.state) or person.login
    services.refresher.met(name, person.mail)
    token = services.nudger.saved(name, committed.revision)
    said = {"keys": len(keys), "revision": committed.revision}
    events.info(log, Code.SAVED, user=name, source=address, **said)
    return token


def authenticate(services: Services, name: str, password: str, address: str) -> DirectoryPerson:
    """The person with this login and password, with a brake on guessing.

    LxcGpuError, worded for the form, if nobody is let in.
    """
    now, met = services.clock(), ""
    wait = services.throttle.attempt(name, address, now)
    if wait > 0:
        raise SlowDownError(wait)

    def found(login: str) -> bool:
        # The directory calls this again when it falls back to another server: not a second try.
        nonlocal met
        if login != met:
            if services.throttle.found(login, now) > 0:
                return False
            met = login
        return True

    try:
        person = services.directory.authenticate(name, password, found)
    except (DirectoryDownError, NotAllowedError):
        services.throttle.no_guess(name, address, met)
        raise
    services.throttle.succeeded(name, address, person.login)
    return person


def _proven(services: Services, form: Form) -> frozenset[PublicKey]:
    """The keys that the person has proved to be theirs."""
    if not form.proof.strip():
        return frozenset()
    try:
        return services.proofs.proven(form.login, form.proof, services.clock())
    except BadSignatureError as error:
        raise ProofError(
            "bad-proof", f"The signature {error}.", "Run the command below again."
        ) from None


def _renamed(services: Services, person: DirectoryPerson) -> dict[str, str]:
    """The present logins of users whose stored login is that of `person`, by their names.

    If a login is given to somebody else, the state keeps it for its old owner until they save
    again. The directory knows the old owner by their id. Their present login may be that of another
    user, and so on: the loop follows the chain.
    """
    if person.directory_id is None or not services.config.looks_up:
        return {}
    state = services.source.newest().state
    people, logins, asked = {**state.former, **state.users}, dict[str, str](), [person.login]
    for login in asked:  # which grows below
        holder = name_of(state, login)
        known = people[holder].directory_id if holder is not None else None
        if holder is None or holder in logins or known is None:
            continue
        now = person.login if known == person.directory_id else services.directory.login_of(known)
        if now and now.casefold() != people[holder].login.casefold():
            logins[holder] = now
            asked.append(now)
    return logins


def _edit(
    services: Services,
    page: str,
    person: DirectoryPerson,
    keys: tuple[PublicKey, ...],
    proven: frozenset[PublicKey],
    form: Form,
) -> Edit:
    """The edit that saves the keys. It refuses changes that the page didn't show."""
    followed = follow_logins(_renamed(services, person))
    welcome = _welcome_back(services, person)

    def check(state: State, own: str | None) -> None:
        refuse_other_page(state, page, own, person)
        if own is None:
            refuse_other_name(state, form.name, person)
            return
        if own in state.former and not welcome:
            raise PasteError(
                "account-closed",
                f"A sysadmin closed the account {own}.",
                f"Ask your sysadmin to open it again: `lxc-gpu user enable {own}`.",
            )
        user = state.users.get(own)
        if user is not None and form.shown and stamp(user.keys) != form.shown:
            raise PasteError(
                "keys-changed",
                "Your keys were changed meanwhile, perhaps by you in another window.",
                "The keys shown above are the newest. Correct the text below and save again.",
            )

    save_edit = save_keys(person.login, person.full_name, person.directory_id, keys, proven, check)
    return replace(save_edit, apply=lambda state: save_edit.apply(followed.apply(state)))


def _welcome_back(services: Services, person: DirectoryPerson) -> bool:
    """Whether a former user may come back by saving a key.

    If a sysadmin closed the account, only a sysadmin can open it again, unless configured
    otherwise. If the page closed it because the person was gone from the directory, saving opens
    it.
    """
    if services.config.returning == "allow":
        return True
    state = services.source.current().state
    name = name_of(state, person.login, person.directory_id)
    return name is not None and name in state.former and services.refresher.disabled(name)


def problem_lines(error: LxcGpuError) -> tuple[tuple[int, str], ...]:
    """The numbers and problems of the wrong lines in the pasted text, if `error` is about them."""
    return error.problems if isinstance(error, KeyProblemsError) else ()


def log_word(text: str) -> str:
    """What somebody typed, for one word of a log line: no blanks, no control characters."""
    return "".join(c if c.isalnum() or c in "._@-" else "?" for c in text[:64]) or "-"
