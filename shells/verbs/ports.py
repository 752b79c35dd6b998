"""Puts mapped ports into words, and into facts for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host.in_words import columns
from reconciler.network.forwards import Forward
from state.view import View

SHOWN = 4
"""How many ports `start` and `status` list."""
SSH = 22


def forward_facts(view: View, forward: Forward) -> dict[str, object]:
    """Facts about one mapping."""
    return {
        "protocol": forward.protocol,
        "host": view.address,
        "port": forward.port,
        "to_port": forward.to_port,
    }


def mapped(view: View, forward: Forward, *, running: bool) -> str:
    """The answer of `port 8888`."""
    leads = f"{_place(view, forward)} leads to port {forward.to_port} of your container."
    use = f"\nFor a web page: http://{_place(view, forward)}" if forward.protocol == "tcp" else ""
    return leads + use + ("" if running else f"\n{_stopped(view)}")


def taken(view: View, forward: Forward) -> str:
    """The answer of `port --remove 8888`."""
    place = _place(view, forward)
    return f"{place} no longer leads to your container. Open connections stay open."


def table(view: View, forwards: Sequence[Forward], *, running: bool) -> str:
    """The answer of `port`: ssh first, then the others by the container's port."""
    rows = [("ADDRESS", "", "CONTAINER", "")]
    rows += [
        (f"{view.address}:{f.port}", f.protocol, f"port {f.to_port}", _remark(view, f))
        for f in sorted(forwards, key=lambda f: (f.to_port != SSH, f.to_port, f.protocol))
    ]
    lines = columns(rows)
    if len(forwards) == 1:
        lines += [f"More:  ssh {view.server}-manage port 8888"]
    return "\n".join([*lines, *([] if running else [_stopped(view)])])


def line(forwards: Sequence[Forward] | None) -> list[str]:
    """The line about mapped ports in `start` and `status`, if there are any; None: not known."""
    if forwards is None:
        return ["Ports:   those besides ssh can't be read just now: tell your sysadmin"]
    said = [
        f"{f.port}{'/udp' if f.protocol == 'udp' else ''} -> {f.to_port}" for f in forwards[:SHOWN]
    ]
    more = [f"{len(forwards) - SHOWN} more (`port` lists them)"] if len(forwards) > SHOWN else []
    return [f"Ports:   {', '.join([*said, *more])}"] if said else []


def _place(view: View, forward: Forward) -> str:
    return f"{view.address}:{forward.port}{'/udp' if forward.protocol == 'udp' else ''}"


def _remark(view: View, forward: Forward) -> str:
    if (forward.protocol, forward.to_port) == ("tcp", SSH):
        return "ssh"
    if forward.port not in view.forward_ports:
        return "no longer mapped: users can't have that port any more; ask for another one"
    return f"http://{_place(view, forward)}" if forward.protocol == "tcp" else ""


def _stopped(view: View) -> str:
    return f"Nothing answers there until the container runs: ssh {view.server}-manage"
