"""The pages of IAM: everybody's own page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TypeVar

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from state.edits.users import KeyTakenError
from state.errors import LxcGpuError, Remedy
from state.git.publish import UnansweredError
from webui.directory.key_proof import to_sign
from webui.directory.login import ForeignLoginError
from webui.directory.logins import read
from webui.directory.transport.connections import (
    DirectoryDownError,
    NotAllowedError,
    WrongLoginError,
)
from webui.monitor.shown import usage
from webui.monitor.shown.holdings import holdings
from webui.pages.mail import as_kinds, mail_form, mail_off, own_form, save_preferences
from webui.pages.monitor_history import this_week
from webui.pages.page_owner import NewNameError, OtherPageError, by_login, owner_of
from webui.pages.saving import Form, ProofError, SlowDownError, problem_lines, save
from webui.pages.servers import cards
from webui.pages.user_page import UserPage, user_page
from webui.servers.server_card import failures_of
from webui.services import services, source_address

iam = Blueprint("iam", __name__)

NOTHING_SAVED = "Nothing was saved."
ABOUT_THE_LOGIN = (
    ForeignLoginError,
    NotAllowedError,
    DirectoryDownError,
    SlowDownError,
    OtherPageError,
    NewNameError,
)
"""Errors that are shown next to the login. A wrong login is shown next to the password."""
SAVES = 64
"""Saves at a time. Further ones are refused, so that the pages stay quick."""
_saves = BoundedSemaphore(SAVES)
Saved = TypeVar("Saved")


@dataclass(frozen=True)
class SaveProblem:
    """Why nothing was saved, and next to which field the form says so."""

    title: str
    message: str
    hint: str
    field: str
    lines: tuple[tuple[int, str], ...]
    to_sign: str = ""
    """The command that proves whose a key is, if that helps."""
    own: tuple[str, str] | None = None
    """The person's name and login, if they should go to their own page."""
    proposed: str = ""
    """The name that a newcomer will get, if the page said another one."""


@iam.get("/user")
def find() -> AnyResponse | tuple[str, int]:
    """Go from the form on the first page to the page of that login."""
    login = request.args.get("login", "").strip()
    typed = read(login)
    if typed is None:
        return _no_login() if login else redirect(url_for("fleet.home"))
    own = by_login(services().source.newest().state, login)
    whole = typed.whole if typed.domain else None
    return redirect(url_for("iam.user", name=own or typed.alone, login=None if own else whole))


@iam.get("/manage/ssh-key/<name>")
def manage(name: str) -> AnyResponse:
    """The address that the first lxc-gpu had for this page."""
    return redirect(url_for("iam.user", name=name), 301)


@iam.get("/user/<name>")
def user(name: str) -> AnyResponse | str | tuple[str, int]:
    """A user's page, or a newcomer's with an empty form. Looking at it allocates nothing."""
    if read(name) is None:
        return _no_login()
    page = _page(name, request.args.get("login", ""))
    if page.user is not None and name != page.name:
        return redirect(url_for("iam.user", name=page.name))
    removed = request.args.get("remove", "")
    left = "".join(f"{key}\n" for key in page.keys if key.fingerprint != removed)
    return _render(page, Form(page.login, "", left, page.stamp), None, removed)


@iam.post("/user/<name>")
def save_keys(name: str) -> AnyResponse | tuple[str, int] | Response:
    """Save, and go to the page of its progress; or show the form again with the problem."""
    if read(name) is None:
        return _no_login()
    typed = request.form
    form = Form(
        login=typed.get("login", "").strip(),
        password=typed.get("password", ""),
        keys=typed.get("keys", ""),
        shown=typed.get("shown", ""),
        proof=typed.get("proof", ""),
        name=typed.get("name", ""),
    )
    try:
        token = _in_turn(lambda: save(services(), name, form, source_address()))
    except LxcGpuError as error:
        page = _page(name, form.login)
        return _answered(_render(page, form, _trouble(error, form)), error)
    return redirect(url_for("results.save", token=token), 303)


@iam.get("/user/<name>/mail")
def mail(name: str) -> AnyResponse | str | tuple[str, int]:
    """The form of a user's mail preferences, before they have logged in."""
    own = _own(name)
    if own is None:
        return _no_login()
    if own != name:
        return redirect(url_for("iam.mail", name=own))
    saved = request.args.get("saved") == "yes"
    login = services().source.current().state.users[own].login
    return render_template("mail.html", form=mail_form(services(), own, login, saved=saved))


@iam.post("/user/<name>/mail")
def save_mail(name: str) -> AnyResponse | tuple[str, int] | Response:
    """Show or save a user's mail preferences; or show the form again with the problem."""
    own = _own(name)
    if own is None:
        return _no_login()
    typed, parts, source = request.form, services(), source_address()
    login, password = typed.get("login", "").strip(), typed.get("password", "")
    wanted = as_kinds(typed.getlist("kind")) if typed.get("shown") == "yes" else None
    try:
        if wanted is None:
            form = _in_turn(lambda: own_form(parts, own, login, password, source))
            return Response(render_template("mail.html", form=form))
        _in_turn(lambda: save_preferences(parts, own, login, password, wanted, source))
    except LxcGpuError as error:
        form = mail_form(parts, own, login, wanted, error)
        return _answered(render_template("mail.html", form=form), error)
    return redirect(url_for("iam.mail", name=own, saved="yes"), 303)


def _own(name: str) -> str | None:
    """The user whose page is at the address `name`; None if there is none, or a former one."""
    state = services().source.newest().state
    own = owner_of(state, name) if read(name) is not None else None
    return own if own in state.users else None


def _answered(shown: str, error: LxcGpuError) -> Response:
    response = Response(shown, _status(error))
    if isinstance(error, SlowDownError):
        response.headers["Retry-After"] = str(int(error.seconds) + 1)
    return response


def _in_turn(saving: Callable[[], Saved]) -> Saved:
    if not _saves.acquire(blocking=False):
        raise LxcGpuError(
            "page-busy",
            "Too many people are saving at the moment.",
            "Nothing was saved. Try again in a minute.",
            Remedy.WAIT,
        )
    try:
        return saving()
    finally:
        _saves.release()


def _page(name: str, login: str = "") -> UserPage:
    parts = services()
    reading = parts.source.newest()
    owner = owner_of(reading.state, name)
    paths = [f"users/{owner}.yaml", f"former/{owner}.yaml"]
    paths += [f"registrations/{server}/{owner}.yaml" for server in reading.state.servers]
    history = () if owner is None else parts.source.history(*paths)
    reports = [s.report for s in parts.board.standings().values() if s.report is not None]
    login = login if read(login) else ""
    return user_page(reading.state, name, owner, history, parts.config.public_url, reports, login)


def _render(page: UserPage, form: Form, problem: SaveProblem | None, removed: str = "") -> str:
    reading = services().source.current()
    troubles = [card for card in cards(reading) if page.user and card.name in page.registered]
    own = failures_of(page.name, services().board.standings()) if page.user else {}
    return render_template(
        "user.html", page=page, form=form, problem=problem, reading=reading,
        removed=next((c for c in page.cards if c.fingerprint == removed), None),
        closed=_closed(page), failures=own, **_monitor(page),
        mail_off=mail_off(services()),
        troubles=[card for card in troubles if card.lines and card.name not in own],
    )  # fmt: skip


def _monitor(page: UserPage) -> dict[str, object]:
    """What this user holds now, and what they used this week and last week."""
    parts = services()
    if page.user is None:
        return {"held": (), "used": False, "weeks": ()}
    seen = [each for _, each in sorted(parts.latest.all().items())]
    now, weeks = parts.clock(), []
    for words, ago in (("this week", 0), ("last week", 7 * 86_400)):
        lines = parts.history.used(this_week(now - ago))
        mine = usage.added(each for each in lines if each.user == page.name)
        weeks.append((words, mine, usage.share_in_words(mine.gpu, usage.added(lines).gpu)))
    used = any(mine != usage.Sum() for _, mine, _ in weeks)
    return {"held": holdings(page.name, seen), "used": used, "weeks": weeks}


def _closed(page: UserPage) -> str:
    """What a former user can do."""
    parts = services()
    if page.left and (parts.config.returning == "allow" or parts.refresher.disabled(page.name)):
        return "Saving a key opens it again, with the same numbers."
    return f"A sysadmin can open it again: `lxc-gpu user enable {page.name}`."


def _no_login() -> tuple[str, int]:
    text = "That can't be a login. Type yours on the first page; it looks like lqchen."
    return render_template("fault.html", status=404, title="There is no such login", text=text), 404


def _trouble(error: LxcGpuError, form: Form) -> SaveProblem:
    lines = problem_lines(error)
    if isinstance(error, WrongLoginError) and not isinstance(error, ForeignLoginError):
        field = "password"
    elif isinstance(error, ABOUT_THE_LOGIN):
        field = "login"
    else:
        field = "keys"
    if lines:
        count = "one line" if len(lines) == 1 else f"{len(lines)} lines"
        message = f"There is a problem with {count} of your keys."
        return SaveProblem(NOTHING_SAVED, message, error.hint, field, lines)
    sign = ""
    if isinstance(error, KeyTakenError | ProofError) or form.proof:
        parts = services()
        sign = to_sign(parts.proofs.text(form.login, parts.clock()))
    title = "No answer." if isinstance(error, UnansweredError) else NOTHING_SAVED
    own = (error.name, error.login) if isinstance(error, OtherPageError) else None
    name = error.name if isinstance(error, NewNameError) else ""
    return SaveProblem(title, error.message, error.hint, field, (), sign, own, name)


def _status(error: LxcGpuError) -> int:
    if isinstance(error, WrongLoginError | NotAllowedError):
        return 403
    if isinstance(error, SlowDownError):
        return 429
    if error.remedy is not Remedy.PERSON:
        return 503
    return 422
