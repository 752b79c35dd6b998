"""Which template somebody's system begins as, where the server offers several.

Kept on the server, not in the state: it says what the next new system is made of, and `rebuild`
has to know it when Git and the web page are away. What there is, is the system itself.
"""

from __future__ import annotations

from reconciler.host import places
from state import files
from state.errors import LxcGpuError
from state.view import View


def chosen(view: View, user: str) -> str:
    """What the user chose last; the server's own if that isn't offered, or nothing was chosen."""
    said = (files.read_text(places.CHOSEN / user) or "").strip()
    return said if said in view.offered else view.template


def choose(view: View, user: str, template: str) -> None:
    """Note it. Nothing is noted of the server's own: that may become another one."""
    places.CHOSEN.mkdir(mode=0o700, exist_ok=True)
    if template == view.template:
        (places.CHOSEN / user).unlink(missing_ok=True)
    else:
        files.write_file(places.CHOSEN / user, f"{template}\n", 0o600)


def in_use(view: View) -> tuple[str, ...]:
    """The templates of which somebody may come to need a system: the server's, and chosen ones."""
    try:
        people = [path.name for path in places.CHOSEN.iterdir()]
    except FileNotFoundError:
        people = []
    taken = {chosen(view, user) for user in people if user in view.residents}
    return tuple(name for name in view.offered if name == view.template or name in taken)


def offered(view: View, template: str) -> str:
    """`template`, if people may take it; LxcGpuError that lists those that they may."""
    if template in view.offered:
        return template
    lines = [
        f"- {name}: {view.templates.get(name, 'what one gets unasked')}" for name in view.offered
    ]
    raise LxcGpuError(
        "no-such-template",
        f"{view.server} has no template {template} for you. It has:\n" + "\n".join(lines),
        "Type one of these names after `--template`.",
    )
