"""The template that a user's new systems are made of, where the server offers several.

It is kept on the server, not in the state, because `rebuild` needs it also while Git and the web
page are away.
"""

from __future__ import annotations

from reconciler.host import places
from reconciler.spares import notes
from state import files
from state.errors import LxcGpuError, Remedy
from state.view import View


def chosen(view: View, user: str) -> str:
    """The template chosen last; the server's default if none was, or it is no longer offered."""
    said = (files.read_text(places.CHOSEN / user) or "").strip()
    return said if said in view.offered else view.template


def choose(view: View, user: str, template: str) -> None:
    """Note the choice. The server's default isn't noted, as it may change."""
    places.CHOSEN.mkdir(mode=0o700, exist_ok=True)
    if template == view.template:
        (places.CHOSEN / user).unlink(missing_ok=True)
    else:
        files.write_file(places.CHOSEN / user, f"{template}\n", 0o600)


def in_use(view: View) -> tuple[str, ...]:
    """The templates that a new system may be made of: the server's default, and chosen ones."""
    try:
        people = [path.name for path in places.CHOSEN.iterdir()]
    except FileNotFoundError:
        people = []
    taken = {chosen(view, user) for user in people if user in view.residents}
    return tuple(name for name in view.offered if name == view.template or name in taken)


def offered(view: View, template: str) -> str:
    """`template`, if people may take it. LxcGpuError lists those that they may take."""
    if template in view.offered:
        return template
    lines = [f"- {name}: {view.templates.get(name, 'the default')}" for name in view.offered]
    raise LxcGpuError(
        "no-such-template",
        f"{view.server} has no template {template} for you. It has:\n" + "\n".join(lines),
        "Type one of these names after `--template`.",
    )


def missing(view: View, template: str) -> LxcGpuError:
    """The error for a template whose archive isn't on the server."""
    return LxcGpuError(
        "template-missing",
        f"The template {template} is not on this server, so no container can be made.",
        f"Sysadmin: run `setup/template {notes.archive(template)}` on {view.server}.",
        Remedy.WAIT,
    )
