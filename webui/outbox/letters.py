"""Letters: what happened, why the reader is told, and how to stop such letters. Pure.

A server can put only these into a letter: numbers, moments, the state's users, and words that can't
form an address.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from textwrap import fill
from urllib.parse import urlsplit

from state.wire.notices import Facts, Notice, NoticeKind
from state.words import printable
from webui import words
from webui.outbox.wording import TEMPLATES

UNSTOPPABLE = frozenset({NoticeKind.WILL_STOP, NoticeKind.STOPPED})
"""Kinds that people can't turn off: a container is stopped only after letters that say so."""
KINDS: Mapping[NoticeKind, str] = {
    NoticeKind.GPUS_FREE: "GPUs that I wait for are free",
    NoticeKind.RESERVATION_BEGINS: "my reservation begins",
    NoticeKind.RESERVATION_ENDS: "my reservation ends in an hour",
    NoticeKind.RESERVATION_UNUSED: "my reservation is unused",
    NoticeKind.ON_YOUR_GPU: "somebody's program is on a GPU that I reserved",
    NoticeKind.IDLE: "my container is idle",
    NoticeKind.DISK_NEARLY_FULL: "my disk is nearly full",
}
"""Kinds that people can turn off, in the words of the form."""
_MODEL = re.compile(r"[A-Za-z0-9 -]{1,40}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9-]{1,20}", re.ASCII)
WIDTH = 76


@dataclass(frozen=True)
class Letter:
    """A subject and a plain text."""

    subject: str
    text: str


def letter(notice: Notice, server: str, users: Collection[str], public_url: str) -> Letter:
    """The letter that tells a resident of `server` about `notice`.

    `users` are those of the state: nobody else is named in a letter. KeyError for
    `NoticeKind.OTHER`, about which there is nothing to say.
    """
    template = TEMPLATES[notice.kind]
    facts = _facts(notice.facts, server, users)
    paragraphs = [
        _filled(template.text.format_map(facts)),
        f"  {template.command.format_map(facts)}",
        *([_filled(template.after.format_map(facts))] if template.after else []),
        _why(notice, server, public_url),
    ]
    return Letter(template.subject.format_map(facts), "\n\n".join(paragraphs) + "\n")


def _facts(facts: Facts, server: str, users: Collection[str]) -> Mapping[str, object]:
    """What the templates' braces stand for: only what is checked here or has no text in it."""
    one = facts.gpus == 1
    return {
        "server": server,
        "manage": f"ssh {server}-manage",
        "count": facts.gpus,
        "gpus": "1 GPU" if one else f"{facts.gpus} GPUs",
        "are": "is" if one else "are",
        "them": "it" if one else "them",
        "model": f" ({facts.model})" if _MODEL.fullmatch(facts.model) else "",
        "reservation": facts.reservation if _IDENT.fullmatch(facts.reservation) else "ID",
        "at": _moment(facts.at),
        "until": _moment(facts.until),
        "other": facts.other if facts.other in users else "somebody",
        "percent": facts.percent,
    }


def _why(notice: Notice, server: str, public_url: str) -> str:
    page = f"{public_url}/user/{notice.user}/mail"
    why = f"You get this because you, {notice.user}, have a container on {server}."
    if notice.kind in UNSTOPPABLE:
        how = "You can't turn off letters of this kind: no container is stopped without them."
        return "-- \n" + _filled(f"{why} {how}")
    how = "To stop letters of this kind, clear its checkbox on this page:"
    return "-- \n" + _filled(f"{why} {how}") + f"\n{page}"


def email(
    said: Letter, ident: str, made: float, sender: str, to: str, public_url: str, stop: str = ""
) -> EmailMessage:
    """The letter as a message (RFC 5322), identical each time that it is sent.

    `ident` is unique among all letters of this page. `stop` is the address where the recipient
    turns such letters off, if there is one.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = one_line(said.subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(made, UTC))
    message["Message-ID"] = f"<{ident}@{urlsplit(public_url).hostname or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers by programs on holiday
    if stop:
        message["List-Unsubscribe"] = f"<{stop}>"
    message.set_content(said.text, cte="quoted-printable")
    return message


def one_line(text: str) -> str:
    """`text` made fit for a header: 200 letters at most, no line ends, no control characters."""
    return printable(text, " ")[:200]


def _moment(at: float | None) -> str:
    return "an unknown time" if at is None else words.moment(at)


def _filled(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False)
