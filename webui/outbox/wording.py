"""The letters' sentences, a template for each kind of notice.

`letters.py` fills the braces in. Nothing that a server sends stands there unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from state.wire.notices import NoticeKind


@dataclass(frozen=True)
class Template:
    """A letter before its facts are filled in."""

    subject: str
    text: str
    """What happened, what it means, and what the command below does."""
    command: str
    """What to type, on a line of its own."""
    after: str = ""


TEMPLATES: Mapping[NoticeKind, Template] = {
    NoticeKind.GPUS_FREE: Template(
        "{gpus} {are} free on {server}",
        "{gpus}{model} {are} free on {server} now. You asked for this letter, and it is sent only"
        " once. To reserve {them} for yourself:",
        "{manage} reserve {count} 8h",
    ),
    NoticeKind.RESERVATION_BEGINS: Template(
        "Your reservation on {server} begins",
        "{gpus} on {server} {are} reserved for you from {at} until {until}. If you don't need"
        " {them}, release {them} for others:",
        "{manage} release {reservation}",
    ),
    NoticeKind.RESERVATION_ENDS: Template(
        "Your reservation on {server} ends soon",
        "{gpus} on {server} {are} reserved for you until {until}. Your programs go on running after"
        " that, but others may then use {them}, too. To keep {them} longer, unless somebody else"
        " has reserved {them}:",
        "{manage} reserve --extend {reservation} 2h",
    ),
    NoticeKind.RESERVATION_UNUSED: Template(
        "Your reservation on {server} is unused",
        "{gpus} on {server} {are} reserved for you until {until}, but none of your programs has"
        " used {them} since {at}. Others may be waiting. If you don't need {them}:",
        "{manage} release {reservation}",
    ),
    NoticeKind.ON_YOUR_GPU: Template(
        "A program of {other} is on your GPU on {server}",
        "{gpus} on {server} {are} reserved for you until {until}, but a program of {other} is"
        " running there. That person sees a message in their session. Talk to them; this command"
        " shows who uses which GPU:",
        "{manage} gpus",
    ),
    NoticeKind.IDLE: Template(
        "Your container on {server} is idle",
        "Your container on {server} is running, but nobody has used it since {at}. It takes up"
        " memory that others could use. If you don't need it now, stop it:",
        "{manage} stop",
        "Your files stay, and your next login starts it again.",
    ),
    NoticeKind.WILL_STOP: Template(
        "Your container on {server} will be stopped",
        "Nobody has used your container on {server} since {at}. It will be stopped after {until}"
        " unless it is used before then. Your files stay, and your next login starts it again. To"
        " use it, log in:",
        "ssh {server}",
    ),
    NoticeKind.STOPPED: Template(
        "Your container on {server} was stopped",
        "Your container on {server} was stopped on {at} because nobody used it. Your files are"
        " unchanged. To start it again:",
        "{manage}",
    ),
    NoticeKind.DISK_NEARLY_FULL: Template(
        "Your disk on {server} is nearly full",
        "Your container on {server} has used {percent}% of its disk space. When the rest is used"
        " up, programs inside can't write any more. To see what takes the most:",
        "ssh {server} 'sudo du -xh --max-depth=2 / | sort -h | tail'",
    ),
}
"""Every kind that people are told of."""
