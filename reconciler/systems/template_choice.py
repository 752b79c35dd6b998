"""The template that a user's new systems are made of, where the server offers several.

It is kept on the server, not in the state, because `rebuild` needs it also while Git and the web
page are away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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


def archive_of(view: View, template: str) -> Path:
    """The path of a template on the server. LxcGpuError names those that are, if this one isn't."""
    path = notes.archive(template)
    if path.is_file():
        return path
    here = [name for name in view.offered if notes.archive(name).is_file()]
    instead = ""
    if here:
        instead = f"Here are: {', '.join(here)}. Type, for example, `--template {here[0]}`.\n"
    raise _missing(view, template, instead)


def missing(view: View) -> Mapping[str, LxcGpuError]:
    """The templates that are offered and not on the server, with what a sysadmin does about it."""
    return {
        name: _missing(view, name) for name in view.offered if not notes.archive(name).is_file()
    }


def _missing(view: View, template: str, instead: str = "") -> LxcGpuError:
    return LxcGpuError(
        "template-missing",
        f"The template {template} is not on this server, so no container can be made from it.",
        f"{instead}Sysadmin: is that name in servers/{view.server}.yaml right? If so, "
        f"{to_get(template)}.",
        Remedy.WAIT,
    )


def to_get(template: str) -> str:
    """How a sysadmin gets the archive of a template onto the server."""
    path = notes.archive(template)
    return f"copy {path} from another server, or make it: `setup/template --release RELEASE {path}`"
