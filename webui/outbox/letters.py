"""What a letter says: sentences from kinds and facts, why it came, and how to stop it. Pure.

Nothing that a server says becomes text but numbers, moments, users of the state and words without
any sign that an address needs.
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
from webui import words

UNSTOPPABLE = frozenset({NoticeKind.WILL_STOP, NoticeKind.STOPPED})
"""Nobody's container is stopped unless two letters said so: these come whatever one wishes."""
KINDS: Mapping[NoticeKind, str] = {
    NoticeKind.GPUS_FREE: "GPUs that I wait for are free",
    NoticeKind.RESERVATION_BEGINS: "my reservation begins",
    NoticeKind.RESERVATION_ENDS: "my reservation ends in an hour",
    NoticeKind.RESERVATION_UNUSED: "my reservation is unused",
    NoticeKind.ON_YOUR_GPU: "somebody's program is on a GPU that I reserved",
    NoticeKind.IDLE: "my container is idle",
    NoticeKind.DISK_NEARLY_FULL: "my disk is nearly full",
}
"""What one can stop, as the form says it."""
_MODEL = re.compile(r"[A-Za-z0-9 -]{1,40}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9-]{1,20}", re.ASCII)
WIDTH = 76


@dataclass(frozen=True)
class Letter:
    """What is said to somebody."""

    subject: str
    text: str


def letter(notice: Notice, server: str, users: Collection[str], public_url: str) -> Letter:
    """What `server` has to tell one of its people; `users` are those whom the state knows."""
    subject, *said = _said(notice.kind, notice.facts, server, users)
    text = "\n\n".join([*(_filled(each) for each in said), _why(notice, server, public_url)])
    return Letter(subject, text + "\n")


def _said(kind: NoticeKind, facts: Facts, server: str, users: Collection[str]) -> tuple[str, ...]:
    """The subject, and paragraphs; commands stand in lines of their own."""
    manage = f"ssh {server}-manage"
    gpus = "1 GPU" if facts.gpus == 1 else f"{facts.gpus} GPUs"
    are = "is" if facts.gpus == 1 else "are"
    model = f" ({facts.model})" if _MODEL.fullmatch(facts.model) else ""
    ident = facts.reservation if _IDENT.fullmatch(facts.reservation) else "ID"
    at, until = _moment(facts.at), _moment(facts.until)
    other = facts.other if facts.other in users else "somebody"
    match kind:
        case NoticeKind.GPUS_FREE:
            return (
                f"{gpus} {are} free on {server}",
                f"{gpus}{model} {are} free on {server} now. You asked to be told, and won't be "
                "told again. To have them for yourself:",
                f"  {manage} reserve {facts.gpus} 8h",
            )
        case NoticeKind.RESERVATION_BEGINS:
            return (
                f"Your reservation on {server} begins",
                f"{gpus} of {server} {are} reserved for you from {at} until {until}. If you don't "
                "need them, give them to others:",
                f"  {manage} release {ident}",
            )
        case NoticeKind.RESERVATION_ENDS:
            return (
                f"Your reservation on {server} ends soon",
                f"{gpus} of {server} {are} reserved for you until {until}. No program is ended "
                "then, but others may take them. To go on, if nobody reserved them after you:",
                f"  {manage} reserve --extend {ident} 2h",
            )
        case NoticeKind.RESERVATION_UNUSED:
            return (
                f"Your reservation on {server} is unused",
                f"{gpus} of {server} {are} reserved for you until {until}, and nothing of yours "
                f"runs on {'it' if facts.gpus == 1 else 'them'} since {at}. Others may wait. "
                "If you don't need them:",
                f"  {manage} release {ident}",
            )
        case NoticeKind.ON_YOUR_GPU:
            return (
                f"A program of {other} is on your GPU of {server}",
                f"{gpus} of {server} {are} reserved for you until {until}, and a program of "
                f"{other} runs there. They are told in their session. Talk to them; who it is "
                "says:",
                f"  {manage} gpus",
            )
        case NoticeKind.IDLE:
            return (
                f"Your container on {server} is idle",
                f"Nobody has used your container on {server} since {at}, though it runs. What it "
                "holds of the memory is nobody else's. If you don't need it now:",
                f"  {manage} stop",
                "Its files stay, and your next login starts it again.",
            )
        case NoticeKind.WILL_STOP:
            return (
                f"Your container on {server} will be stopped",
                f"Nobody has used your container on {server} since {at}. It will be stopped after "
                f"{until}, unless it is used before. Its files stay, and your next login starts it "
                "again. To use it, log in:",
                f"  ssh {server}",
            )
        case NoticeKind.STOPPED:
            return (
                f"Your container on {server} was stopped",
                f"Your container on {server} was stopped on {at}, because nobody used it. Its "
                "files are as they were. To start it again:",
                f"  {manage}",
            )
        case NoticeKind.DISK_NEARLY_FULL:
            return (
                f"Your disk on {server} is nearly full",
                f"Your container on {server} has taken {facts.percent}% of the disk that it may "
                "take. When nothing is left, programs inside fail to write. What takes most:",
                f"  ssh {server} 'sudo du -xh --max-depth=2 / | sort -h | tail'",
            )
    raise ValueError(f"nothing is said of {kind}")


def _why(notice: Notice, server: str, public_url: str) -> str:
    page = f"{public_url}/user/{notice.user}/mail"
    why = f"You get this because you, {notice.user}, have a container on {server}."
    if notice.kind in UNSTOPPABLE:
        how = "Letters of this kind can't be stopped: no container is stopped without them."
        return "-- \n" + _filled(f"{why} {how}")
    how = "To get no more letters of this kind, take its mark away here:"
    return "-- \n" + _filled(f"{why} {how}") + f"\n{page}"


def email(
    said: Letter, ident: str, made: float, sender: str, to: str, public_url: str, stop: str = ""
) -> EmailMessage:
    """The letter as a message (RFC 5322), the same each time that it is sent.

    `ident` is unique among all letters of this page; `stop` is an address of a page, if any.
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
    """`text` as it can stand in a header: no line ends, no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _moment(at: float | None) -> str:
    return "a time that it doesn't say" if at is None else words.moment(at)


def _filled(text: str) -> str:
    return text if text.startswith("  ") else fill(text, WIDTH, break_long_words=False)
