"""The form of mail preferences, which are shown and saved only with the person's password."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from state.edits.users import name_of
from state.errors import LxcGpuError
from webui import events
from webui.events import Code
from webui.outbox.letters import KINDS
from webui.pages.page_owner import OtherPageError
from webui.pages.saving import authenticate, log_word
from webui.services import Services

log = logging.getLogger(__name__)

NO_ADDRESS = "The directory has no usable mail address for you, so you get no mail."


@dataclass(frozen=True)
class MailForm:
    """The form as it is shown, without the password."""

    user: str
    boxes: tuple[tuple[str, str, bool], ...] = ()
    """(name, words, whether the person wants it); empty before they have logged in."""
    login: str = ""
    problem: LxcGpuError | None = None
    saved: bool = False
    off: str = ""
    """Why no mail is sent at present, in words."""


def mail_form(
    services: Services,
    user: str,
    login: str,
    wanted: frozenset[str] | None = None,
    problem: LxcGpuError | None = None,
    *,
    saved: bool = False,
) -> MailForm:
    """The form of `user` with the kinds `wanted` checked; None: without the kinds."""
    boxes: tuple[tuple[str, str, bool], ...] = ()
    if wanted is not None:
        boxes = tuple((kind.value, words, kind.value in wanted) for kind, words in KINDS.items())
    return MailForm(user, boxes, login, problem, saved, mail_off(services))


def own_form(services: Services, page: str, login: str, password: str, address: str) -> MailForm:
    """The form as its owner sees it. LxcGpuError, worded for the form, for anybody else."""
    with _refusals_told(login, address):
        _authenticate(services, page, login, password, address)
        stopped = services.sending.preferences.stopped(page)
    wanted = frozenset(kind.value for kind in KINDS if kind not in stopped)
    form = mail_form(services, page, login, wanted)
    addresses = services.sending.addresses()
    if not form.off and addresses is not None and page not in addresses:
        form = replace(form, off=NO_ADDRESS)
    return form


def save_preferences(
    services: Services, page: str, login: str, password: str, wanted: frozenset[str], address: str
) -> None:
    """Save that the person wants the kinds `wanted` and no others.

    LxcGpuError, worded for the form, if nothing was saved.
    """
    with _refusals_told(login, address):
        _authenticate(services, page, login, password, address)
        stopped = [kind for kind in KINDS if kind.value not in wanted]
        services.sending.preferences.save(page, stopped)
    events.info(log, Code.WISHES, user=page, stopped=",".join(stopped), source=address)


def _authenticate(services: Services, page: str, login: str, password: str, address: str) -> None:
    person = authenticate(services, login, password, address)
    own = name_of(services.source.newest().state, person.login, person.directory_id)
    if own != page:
        raise OtherPageError(
            own or "",
            person.login,
            f"You logged in as {person.login}, but this is the page of {page}.",
            f"Yours is /user/{own}/mail." if own else "Save a key first; then you have a page.",
        )
    services.refresher.met(page, person.mail)


@contextmanager
def _refusals_told(login: str, address: str) -> Iterator[None]:
    try:
        yield
    except LxcGpuError as error:
        said = {"code": error.code, "details": error.details or error.message}
        events.warning(log, Code.REFUSED, user=log_word(login), source=address, **said)
        raise


def mail_off(services: Services) -> str:
    """Why no mail is sent at present, in words; empty if it is."""
    if services.config.mail is None:
        return "No mail server is configured, so nothing is sent."
    if not services.config.looks_up:
        return "The page can't look up mail addresses, so nothing is sent."
    return ""


def as_kinds(values: list[str]) -> frozenset[str]:
    """The kinds among the `values` of checked boxes; unknown values are ignored."""
    return frozenset(values) & {kind.value for kind in KINDS}
