"""Texts that verbs have in common."""

from __future__ import annotations

import time

from reconciler.host import in_words
from state.view import Announcement, Resident, View
from state.words import plural

DAY = 86400


def how_to_log_in(view: View, user: str, resident: Resident) -> str:
    """The line that follows every successful start."""
    return (
        f"Log in:  ssh {view.server}    "
        f"(without the ssh config: ssh -p {resident.port} {user}@{view.address})"
    )


def last_used(view: View, user: str, seconds: float) -> str:
    """The text for the user of an idle container."""
    server = view.server
    days = int(seconds // DAY)
    return (
        f"Your container was last used {plural(days, 'day')} ago (GPU, CPU, logins).\n"
        f"`ssh {server}-manage stop` gives its memory back to the others; its files\n"
        f"stay, and a start brings it back. {_what_comes(view, user)}"
    )


def _what_comes(view: View, user: str) -> str:
    if view.idle_stop_days is None:
        return "It is not stopped automatically."
    if keep := view.residents[user].keep:
        return f"It is not stopped for that: {keep}."
    return (
        f"After {plural(view.idle_stop_days, 'day')} without use\n"
        "it is stopped, once two mails have told you."
    )


def announced(view: View) -> list[str]:
    """The announcements for this server, a line each."""
    return [_announced(view, each) for each in view.told(time.time())]


def _announced(view: View, each: Announcement) -> str:
    begins = f"from {in_words.moment_in_zone(each.begins)} " if each.begins else ""
    until = f"{begins}until {in_words.moment_in_zone(each.ends)}"
    if each.stop:
        until = f"containers on {view.server} are shut down {until}, and started again afterwards"
    return f"Announcement: {each.text} ({until})"


def announced_facts(view: View) -> dict[str, object]:
    """The announcements for this server, for programs."""
    return {
        "announcements": [
            {"text": a.text, "from": a.begins or None, "until": a.ends, "stop": a.stop}
            for a in view.told(time.time())
        ]
    }


def started(
    view: View,
    user: str,
    resident: Resident,
    *,
    was_running: bool,
    why_not: tuple[str, ...] = (),
) -> str:
    """The answer of `start`. `why_not`: the reasons why a login fails."""
    what = "runs already" if was_running else "is up"
    if why_not:
        here = f"{view.server}-manage"
        return "\n".join(
            [
                f"Your container on {view.server} {what}, but you can't log in.",
                *why_not,
                f"Mend it as root inside: `ssh -t {here} shell`.",
                f"Or go back to a snapshot: `ssh -t {here} recover NAME`.",
                f"Or begin with a new system: `ssh -t {here} rebuild --keep-home`",
                "(that keeps everything in /home, your start-up files too).",
            ]
        )
    return f"Your container on {view.server} {what}.\n{how_to_log_in(view, user, resident)}"
